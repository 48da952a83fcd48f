"""One sitting of grading: what is shown, and each key made durable before the next image."""

from konomi.client import Client
from konomi.client.services import taste_name
from konomi.errors import FailedPrecondition, NotFound
from konomi.v1 import rater_pb2 as rater

PREFETCH = 8
GRADE_NUMBERS = tuple(rater.Grade.values())
"""0 clears, 1 to 5 are N to UR."""


class Session:
    """The images still to show and what was done so far; the rater alone remembers the grades."""

    def __init__(self, client: Client, taste: str, seed: int = 0, *, slate: bool = False) -> None:
        """Begins a sitting on a taste; `seed` decides the draws, `slate` asks for a slate of the long tail first."""
        self._client = client
        self._taste = taste_name(taste)
        self._seed, self._slate = seed, slate
        self._waiting: list[rater.Suggestion] = []
        self._skipped: set[str] = set()
        self._shown: list[rater.Suggestion] = []
        self._labels = self._undone = 0

    def current(self) -> rater.Image | None:
        """Returns the image to grade now; None when none is left."""
        if not self._waiting:
            self._fetch()
        return self._waiting[0].image if self._waiting else None

    def grade(self, number: int) -> None:
        """Records a grade, 1 to 5, or clears it, 0; returns once it is durable."""
        shown = self._waiting[0]
        entry = rater.Label(image_digest=shown.image.digest, grade=GRADE_NUMBERS[number], reason=shown.reason)
        self._client.rater.record_labels(taste=self._taste, labels=[entry])
        self._shown.append(self._waiting.pop(0))
        self._labels += 1

    def skip(self) -> None:
        """Leaves the image ungraded; it does not come back in this sitting."""
        self._skipped.add(self._waiting.pop(0).image.digest)

    def undo(self) -> None:
        """Undoes the last label in force, of this sitting or of one before, and shows its image again."""
        try:
            undone = self._client.rater.undo_label(taste=self._taste)
        except (NotFound, FailedPrecondition):
            return  # nothing is left to undo
        self._undone += 1
        before = self._shown.pop() if self._shown else None
        if before is None or before.image.digest != undone.image_digest:
            image = self._client.rater.get_image(taste=self._taste, digest=undone.image_digest)
            before = rater.Suggestion(image=image)
        self._waiting.insert(0, before)

    def counts(self) -> dict[str, int]:
        """Returns how many labels were recorded, undone, and images skipped."""
        return {"labels": self._labels, "undone": self._undone, "skipped": len(self._skipped)}

    def _fetch(self) -> None:
        if self._slate:
            self._waiting, self._slate = self._drawn(), False
        if self._waiting:
            return
        count = min(1000, PREFETCH + len(self._skipped))
        reply = self._client.rater.suggest_images(taste=self._taste, count=count, seed=self._seed + self._labels)
        self._waiting = [item for item in reply.suggestions if item.image.digest not in self._skipped][:PREFETCH]

    def _drawn(self) -> list[rater.Suggestion]:
        """Draws one slate; the ordinary suggestions follow it."""
        return list(self._client.rater.suggest_images(taste=self._taste, slate=True, seed=self._seed).suggestions)
