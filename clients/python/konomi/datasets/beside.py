"""All that stands beside the images of a folder or an archive, looked up by a name in whatever spelling."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from konomi.datasets.captions import (
    Facts,
    Metadata,
    caption_of,
    concept_of,
    grade_of,
    record_of,
    stem_of,
    words_of,
)
from konomi.datasets.spelling import one_spelling
from konomi.datasets.tally import Complaint, Tally
from konomi.datasets.xmp import NO_RATING, Rating, rating_beside
from konomi.i18n.catalogue import text

SIDE_BYTES = 256 * 1024
MOST_FOLDERS = 64
"""Folders whose names are kept; a walk comes back to few."""


@dataclass(frozen=True)
class Beside:
    """What stands beside one image.

    Attributes:
        caption: what it shows; None where nothing says it, empty where something says that there is no caption.
        facts: its row of metadata, or its own .json.
        rating: what the row or a sidecar says of its grade.
    """

    caption: str | None = None
    facts: Facts = field(default_factory=dict)
    rating: Rating = NO_RATING


class SideFiles:
    """What stands beside the images of one folder or archive."""

    def __init__(
        self,
        read: Callable[[str, int], bytes | None],
        others: Callable[[str], Iterable[str]],
        tally: Tally,
        shown: Callable[[str], str],
    ) -> None:
        """Takes the files of a dataset.

        Args:
            read: returns at most so many bytes of a file by its exact name, None where there is none; raises OSError
                or ValueError where there is one that cannot be read.
            others: the names of a folder of the dataset, "" for its root.
            tally: takes what was not understood.
            shown: a name of the dataset as people see it.
        """
        self._exact, self._others, self._tally, self._shown = read, others, tally, shown
        self._spellings: dict[str, dict[str, str]] = {}
        self._metadata = Metadata(self._read, tally, shown)

    def of(self, name: str) -> Beside:
        """Returns what stands beside an image."""
        complain = self._tally.at(self._shown(name))
        facts = self._metadata.of(name) or self._record(name)
        caption = self._caption(name)
        if caption is None:
            caption = words_of(facts)
        if caption is None:
            caption = concept_of(name) or None
        rating = grade_of(facts)
        if rating.silent:
            rating = rating_beside(name, self._read)
        told(rating, complain)
        return Beside(caption, facts, rating)

    def close(self) -> None:
        """Notes what spoke of images that are not there, once all were seen."""
        self._metadata.close()

    def _caption(self, name: str) -> str | None:
        try:
            return caption_of(name, self._read)
        except ValueError as error:
            message = text("it is in no encoding that is known")
            self._tally.at(self._shown(str(error)))("caption", "CAPTION_UNDECODABLE", message)
            return None

    def _record(self, name: str) -> Facts:
        beside = f"{stem_of(name)}.json"
        data = self._read(beside, SIDE_BYTES)
        if data is None:
            return {}
        record = record_of(data)
        if record is None:
            message = text("expected a JSON object of at most {most} KiB", most=SIDE_BYTES // 1024)
            self._tally.at(self._shown(beside))("row", "RECORD_UNREADABLE", message)
        return record or {}

    def _read(self, name: str, limit: int) -> bytes | None:
        """Returns the bytes of a file whose name is spelt so or otherwise; what cannot be read is noted."""
        for spelt in (name, self._spelt(name)):
            try:
                data = None if spelt is None else self._exact(spelt, limit)
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or str(error)
                line = text("it cannot be read: {why}", why=why)
                self._tally.at(self._shown(spelt or name))("caption", "SIDECAR_UNREADABLE", line)
                return None
            if data is not None:
                return data
        return None

    def _spelt(self, name: str) -> str | None:
        """Returns the one name of the dataset that is this one in another spelling, None where there is none."""
        folder = name.rpartition("/")[0]
        if folder not in self._spellings:
            if len(self._spellings) == MOST_FOLDERS:
                self._spellings.clear()
            names: dict[str, str] = {}
            for other in self._others(folder):
                key = one_spelling(other)
                names[key] = "" if key in names else other
            self._spellings[folder] = names
        return self._spellings[folder].get(one_spelling(name)) or None


def told(rating: Rating, complain: Complaint) -> None:
    """Notes a rating that was not understood."""
    if rating.broken:
        complain("rating", "SIDECAR_UNREADABLE", text("its XMP cannot be read, and may hold a rating"))
    elif rating.odd:
        complain("rating", "RATING_UNKNOWN", text("expected a rating of 1 to 5, got {got}", got=rating.odd))
