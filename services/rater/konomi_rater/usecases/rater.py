"""The rater's use cases joined: one object per concern over one workspace."""

from konomi_rater.replica.following import Following
from konomi_rater.storage import tastes
from konomi_rater.usecases.certification import Certifying
from konomi_rater.usecases.collection import Collecting
from konomi_rater.usecases.embedders.advice import Advising
from konomi_rater.usecases.embedders.change import Reembedding
from konomi_rater.usecases.embedders.second import SecondEmbedders
from konomi_rater.usecases.exploration import Exploring, Searching, Slating
from konomi_rater.usecases.fitting.populations import Populations
from konomi_rater.usecases.fitting.versions import Versions
from konomi_rater.usecases.images import Adding, Browsing
from konomi_rater.usecases.measuring.image_map import ImageMapping
from konomi_rater.usecases.measuring.measurement import Measuring
from konomi_rater.usecases.propagation import Growing
from konomi_rater.usecases.scoring import Scoring
from konomi_rater.usecases.selection import Selecting
from konomi_rater.usecases.snapshots import TasteSnapshots
from konomi_rater.usecases.suggestion import Suggesting
from konomi_rater.usecases.workspace import Workspace


class Rater:
    """What the servicer calls."""

    def __init__(self, workspace: Workspace, following: Following | None = None) -> None:
        """Takes what all share, and what follows the writer where this rater only reads."""
        self.workspace, self._following = workspace, following
        self.scoring = Scoring(workspace)
        self.adding = Adding(workspace)
        self.browsing = Browsing(workspace, self.scoring)
        self.searching = Searching(workspace, self.browsing)
        self.suggesting = Suggesting(workspace, self.scoring)
        self.slating = Slating(workspace, self.suggesting)
        self.selecting = Selecting(workspace, self.scoring)
        self.growing = Growing(workspace, self.scoring)
        self.versions = Versions(workspace)
        self.populations = Populations(workspace)
        self.certifying = Certifying(workspace)
        self.exploring = Exploring(workspace, self.scoring, self.suggesting)
        self.advising = Advising(workspace)
        self.measuring = Measuring(workspace)
        self.mapping = ImageMapping(workspace, self.slating)
        self.reembedding = Reembedding(workspace, self.versions)
        self.second_embedders = SecondEmbedders(workspace, self.versions)
        self.snapshots = TasteSnapshots(workspace)
        self.collecting = Collecting(workspace)

    def resume(self) -> None:
        """Goes on with the changes that were under way when the rater last ended."""
        self.collecting.finish_revocations()
        self.reembedding.resume()
        self.second_embedders.resume()

    def owns_artifact(self, digest: str, taste_id: str) -> bool:
        """Says whether an artifact belongs to a taste: whoever may see the taste may read it."""
        with self.workspace.reading() as connection:
            return tastes.owns_artifact(connection, taste_id, digest)

    def close(self) -> None:
        """Ends the work in the background, then what it works with."""
        if self._following is not None:
            self._following.close()
        self.reembedding.close()
        self.second_embedders.close()
        self.workspace.close()
