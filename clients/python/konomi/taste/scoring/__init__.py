"""Many files scored as the owner of a taste would, and the best of them picked.

`run` asks the rater in batches, `journal` remembers on disk what it said, so that a command that was stopped goes on
and one that is repeated asks nothing twice, and `picking` takes the best, one of each burst where that is wanted.
"""

from konomi.taste.scoring.journal import ScoreJournal, checksum
from konomi.taste.scoring.run import Scored, ScoreRun

__all__ = ["ScoreJournal", "ScoreRun", "Scored", "checksum"]
