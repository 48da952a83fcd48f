"""The rater's use cases joined: one object per concern over one workspace."""

from konomi_rater.adding import Adding
from konomi_rater.advising import Advising
from konomi_rater.browsing import Browsing
from konomi_rater.certifying import Certifying
from konomi_rater.exploring import Exploring
from konomi_rater.growing import Growing
from konomi_rater.measuring import Measuring
from konomi_rater.reembedding import Reembedding
from konomi_rater.scoring import Scoring
from konomi_rater.selecting import Selecting
from konomi_rater.slating import Slating
from konomi_rater.snapshots import Snapshots
from konomi_rater.suggesting import Suggesting
from konomi_rater.versions import Versions
from konomi_rater.workspace import Workspace


class Rater:
    """What the servicer calls."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.scoring = Scoring(workspace)
        self.adding = Adding(workspace)
        self.browsing = Browsing(workspace, self.scoring)
        self.suggesting = Suggesting(workspace)
        self.slating = Slating(workspace, self.suggesting)
        self.selecting = Selecting(workspace, self.scoring)
        self.growing = Growing(workspace, self.scoring)
        self.versions = Versions(workspace)
        self.certifying = Certifying(workspace)
        self.exploring = Exploring(workspace, self.scoring, self.suggesting)
        self.advising = Advising(workspace)
        self.measuring = Measuring(workspace)
        self.reembedding = Reembedding(workspace, self.versions)
        self.snapshots = Snapshots(workspace)

    def close(self) -> None:
        """Ends the work in the background, then what it works with."""
        self.reembedding.close()
        self.workspace.close()
