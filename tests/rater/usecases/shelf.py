"""Images on the disk of a rater, as old as a test wants them: a real database, a real store, a clock of its own."""

import os
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_rater.selection.selection import SELF
from konomi_rater.storage import collected, image_records, labels, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import LabelEntry, NewLabel
from konomi_rater.storage.schema import SCHEMA
from konomi_rater.usecases.collection import Collecting, RetentionPolicy
from tests.postgresql import Rows

DAY = 86400.0
NOW = 1_800_000_000.0
MONTH = RetentionPolicy(30 * DAY)


class Shelf:
    """A database and a store in a home, and what the use case needs of a workspace, at a time of the test's own."""

    def __init__(self, home: Path, rows: Rows | None = None) -> None:
        self.home, self.now = home, NOW
        self.engine = (rows or Rows(None)).open(home, SCHEMA)
        self.store = ArtifactStore(StoreSettings(home=home, min_free_bytes=0))
        self.settings = SimpleNamespace(home=home)
        self.collecting = Collecting(self)
        self.numbers = 0

    def clock(self) -> float:
        """Returns the time of the test."""
        return self.now

    def reading(self):
        """Gives a snapshot."""
        return reading(self.engine)

    def writing(self):
        """Gives the write transaction."""
        return self.engine.begin()

    def taste(self, name: str = "t") -> str:
        """Makes a taste."""
        with self.writing() as connection:
            tastes.create(connection, name, "", "starter", "starter", NOW)
        return name

    def image(self, taste: str = "t", *, days: float = 40, data: bytes = b"", **facts) -> str:
        """Makes a stored image; without more it is a rejected candidate of a night, 40 days old."""
        self.numbers += 1
        digest = self.store.put(data or b"image %d" % self.numbers, "image/png").digest
        self.age(digest, days)
        facts = {"source": SELF, "unit": "u1", "night": "n1", **facts}
        with self.writing() as connection:
            image_records.add(connection, taste, ImageFacts(digest, **facts), (8, 8), NOW - days * DAY)
        return digest

    def age(self, digest: str, days: float = 40) -> None:
        """Makes the stored bytes as old as an image of so many days."""
        path = self.home / "artifacts" / digest[:2] / digest
        for each in (path, path.with_name(f"{digest}.type")):
            os.utime(each, (NOW - days * DAY,) * 2)

    def label(self, digest: str, grade: int, taste: str = "t") -> LabelEntry:
        """Grades an image."""
        with self.writing() as connection:
            return labels.record(connection, taste, [NewLabel(digest, grade)], NOW)[0]

    def run(self, policy: RetentionPolicy = MONTH, taste: str = "", *, dry: bool = False):
        """Looks, and collects."""
        return self.collecting.run(taste, policy, "", dry=dry)

    def gone(self, taste: str = "t") -> set[str]:
        """Returns what is without pixels by the table."""
        with self.reading() as connection:
            return set(collected.without_pixels(connection, taste))

    def reason(self, digest: str, policy: RetentionPolicy = MONTH) -> str:
        """Returns the one kind among the images of one digest: why it stays, after a run that must leave it."""
        before = self.run(policy, dry=True)
        assert digest not in before.digests
        assert digest not in self.run(policy).digests and self.store.exists(digest)
        others = {kind for kind, entry in before.kinds.items() if entry.count and kind != "rejected"}
        (kind,) = others
        return kind


@contextmanager
def opened(home: Path):
    shelf = Shelf(home)
    try:
        yield shelf
    finally:
        shelf.engine.dispose()
