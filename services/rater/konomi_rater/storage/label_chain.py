"""Keeps checking that no label was changed behind the log's back: each entry once, from the last one checked on."""

import threading
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, text

from konomi.errors import DataLoss
from konomi_rater.storage.labels import link_of

ROWS = 4096
"""Entries read at a time."""


class LabelChains:
    """Remembers, for every taste, the last entry whose chained hash was checked.

    A page checksum finds a flipped bit; this finds an entry that was edited, left out or taken from another file.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._checked: dict[str, tuple[int, str]] = {}

    def verify_all(self, connection: Connection) -> int:
        """Checks the log of every taste and returns how many entries were read. Raises as `verify` does."""
        tastes = connection.execute(text("SELECT id FROM tastes ORDER BY id")).scalars().all()
        return sum(self.verify(connection, taste) for taste in tastes)

    def verify(self, connection: Connection, taste: str) -> int:
        """Checks the entries that came since the last call, and that the last one checked is still what it was.

        A taste that was replaced meanwhile is checked from its first entry.

        Returns:
            How many entries were read.

        Raises:
            DataLoss: an entry was changed, or is missing.
        """
        with self._lock:
            start = self._checked.get(taste, (0, ""))
        if start[0] and _chain_at(connection, taste, start[0]) != start[1]:
            start = (0, "")
        sequence, chain = start
        for row in _rows(connection, taste, sequence):
            sequence += 1
            chain = link_of(chain, row)
            if row["sequence"] != sequence or row["chain"] != chain:
                raise DataLoss(
                    f"label {sequence} of tastes/{taste} differs from its hash chain: it, or one before it, was "
                    "changed or left out outside konomi; restore the database from a backup, or set the file aside "
                    "and bring back your last export: konomi taste import",
                    reason="LABELS_CHANGED",
                )
        with self._lock:
            self._checked[taste] = (sequence, chain)
        return sequence - start[0]


def _chain_at(connection: Connection, taste: str, sequence: int) -> str | None:
    query = text("SELECT chain FROM labels WHERE taste = :taste AND sequence = :sequence")
    chain: str | None = connection.execute(query, {"taste": taste, "sequence": sequence}).scalar()
    return chain


def _rows(connection: Connection, taste: str, after: int) -> Iterator[Any]:
    query = text("SELECT * FROM labels WHERE taste = :taste AND sequence > :after ORDER BY sequence")
    bound = {"taste": taste, "after": after}
    yield from connection.execute(query, bound, execution_options={"yield_per": ROWS}).mappings()
