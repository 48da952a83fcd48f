"""One sitting of grading: what is shown, and each key made durable before the next image."""

from collections.abc import Sequence

from konomi.client import Client
from konomi.client.services import taste_name
from konomi.errors import FailedPrecondition, NotFound
from konomi.v1 import rater_pb2 as rater

PREFETCH = 8
MOST = 1000
"""Images that one call lists."""
GRADE_NUMBERS = tuple(rater.Grade.values())
"""0 clears, 1 to 5 are N to UR."""


def ungraded(client: Client, taste: str, digests: Sequence[str]) -> list[str]:
    """Returns the digests of those images, at most 1,000, that a taste knows and that have no grade, in their order."""
    asked = list(digests)[:MOST]
    if not asked:
        return []
    filter_ = rater.ImageFilter(digests=asked)
    found = client.rater.list_images(taste=taste_name(taste), filter=filter_, page_size=len(asked)).images
    due = {image.digest for image in found if not image.grade}
    return [digest for digest in asked if digest in due]


class Session:
    """The images still to show and what was done so far; the rater alone remembers the grades."""

    def __init__(
        self, client: Client, taste: str, seed: int = 0, *, slate: bool = False, wanted: Sequence[str] = ()
    ) -> None:
        """Begins a sitting on a taste.

        Args:
            client: the services.
            taste: id or name of the taste.
            seed: decides the draws.
            slate: whether a slate of the long tail comes first.
            wanted: digests of images that somebody waits for, such as a growing set; those without a grade come first.
        """
        self._client = client
        self._taste = taste_name(taste)
        self._seed, self._slate, self._wanted = seed, slate, wanted
        self._waiting: list[rater.Suggestion] = []
        self._skipped: set[str] = set()
        self._shown: list[rater.Suggestion] = []
        self._labels = self._undone = self._checks = 0

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
        self._checks += bool(number) and shown.reason == rater.SUGGESTION_REASON_REPEAT_CHECK

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
        """Returns how many labels were recorded and undone, images skipped, and labels that check on an earlier one."""
        skipped, checks = len(self._skipped), self._checks
        return {"labels": self._labels, "undone": self._undone, "skipped": skipped, "checks": checks}

    def _fetch(self) -> None:
        if self._wanted:
            due, self._wanted = ungraded(self._client, self._taste, self._wanted), ()
            images = (self._client.rater.get_image(taste=self._taste, digest=digest) for digest in due)
            self._waiting = [rater.Suggestion(image=image) for image in images]
        if self._waiting:
            return
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
