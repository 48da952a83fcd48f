"""Columns of a library in memory: arrays that grow, names by number, digests as 32 bytes with a sorted index.

A million images cost arrays, not objects: what a list of strings and a dictionary of them take is ten times as much.
"""

import re
from collections.abc import Hashable, Iterator, Sequence
from typing import Generic, TypeVar, overload

import numpy as np

LEAST_ROOM = 1024
LEAST_RECENT = 4096
"""Digests that are looked up in a dictionary before they are sorted in with the others."""
MOST_FOUND = 1 << 20
"""Digests of which an index remembers where they are once it was asked; the graded images of no taste are as many."""
_DIGEST, _DIGITS = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]*")

Name = TypeVar("Name", bound=Hashable)
Item = TypeVar("Item")


class Column:
    """A growing array (N, …); what was handed out before never changes."""

    def __init__(self, dtype: type, *width: int) -> None:
        self._array: np.ndarray = np.zeros((0, *width), dtype)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def reserve(self, count: int) -> None:
        """Makes room for so many rows in all; room that is never filled costs no memory."""
        if count > len(self._array):
            grown = np.zeros((count, *self._array.shape[1:]), self._array.dtype)
            grown[: self._count] = self._array[: self._count]
            self._array = grown

    def extend(self, values: np.ndarray | Sequence[int] | Sequence[bool]) -> None:
        """Adds rows."""
        need = self._count + len(values)
        if need > len(self._array):
            self.reserve(max(need, 2 * self._count, LEAST_ROOM))
        self._array[self._count : need] = values
        self._count = need

    def changed(self, rows: np.ndarray, values: np.ndarray) -> "Column":
        """Returns another column with other values in rows (K,)."""
        other = self.kept(np.arange(self._count))
        other._array[rows] = values
        return other

    def kept(self, rows: np.ndarray) -> "Column":
        """Returns another column of rows (K,) alone."""
        other = Column(self._array.dtype.type, *self._array.shape[1:])
        other._array, other._count = self._array[rows], len(rows)
        return other

    def head(self, count: int) -> np.ndarray:
        """Returns the first rows, as they are and will be."""
        return self._array[:count]


class Names(Generic[Name]):
    """Numbers for names that many rows share, from 0 in the order they came."""

    def __init__(self) -> None:
        self.names: list[Name] = []
        self._numbers: dict[Name, int] = {}

    def number(self, name: Name) -> int:
        """Returns the number of a name, a new one where it is new."""
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number


class Shared(Sequence[Item], Generic[Item]):
    """A sequence of N items given by numbers (N,) into a list of the distinct ones."""

    def __init__(self, numbers: np.ndarray, items: Sequence[Item]) -> None:
        self.numbers, self.items = numbers, items

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, at: int) -> Item: ...
    @overload
    def __getitem__(self, at: slice) -> "Shared[Item]": ...
    def __getitem__(self, at: int | slice) -> "Item | Shared[Item]":
        if isinstance(at, slice):
            return Shared(self.numbers[at], self.items)
        return self.items[self.numbers[at]]

    def __iter__(self) -> Iterator[Item]:
        items = self.items
        return (items[number] for number in self.numbers.tolist())


class Digests(Sequence[str]):
    """The digests of N images: hexadecimal outside, (N, 32) uint8 inside."""

    def __init__(self, index: "DigestIndex", count: int) -> None:
        self._index, self._rows = index, index.rows(count)

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [row.tobytes().hex() for row in self._rows[at]]
        return str(self._rows[at].tobytes().hex())

    def at(self, digest: str) -> int | None:
        """Returns the place of a digest, or None."""
        place = int(self.places([digest])[0])
        return place if place >= 0 else None

    def places(self, digests: Sequence[str]) -> np.ndarray:
        """Returns the place of each digest, -1 where it is unknown: (M,) int64."""
        places = self._index.places(digests)
        return np.where(places < len(self), places, -1)

    def order(self) -> np.ndarray:
        """Returns the places of the digests in ascending order: (N,) int64."""
        words = np.ascontiguousarray(self._rows).view(">u8").astype(np.uint64).reshape(-1, 4)
        return np.lexsort(words.T[::-1])


class DigestIndex:
    """Digests that come one after another, and where each is: a sorted array, and a dictionary of the latest."""

    def __init__(self, digests: Sequence[str] = ()) -> None:
        self._column = Column(np.uint8, 32)
        self._sorted = (
            np.zeros(0, np.uint64),
            np.zeros(0, np.int64),
        )  # keys and places, one object: readers hold no lock
        self._recent: dict[str, int] = {}
        self._found: dict[str, int] = {}  # of those asked for: the graded ones are asked for with every suggestion
        self.extend(digests)

    def __len__(self) -> int:
        return len(self._column)

    def rows(self, count: int) -> np.ndarray:
        """Returns the first digests: (count, 32) uint8."""
        return self._column.head(count)

    def reserve(self, count: int) -> None:
        """Makes room for so many in all."""
        self._column.reserve(count)

    def extend(self, digests: Sequence[str]) -> None:
        """Adds digests, of 64 hexadecimal digits each."""
        start = len(self)
        self._column.extend(_bytes(digests))
        self._recent.update((digest, start + i) for i, digest in enumerate(digests))
        if len(self._recent) > max(LEAST_RECENT, len(self) // 8):
            self._sort()

    def kept(self, rows: np.ndarray) -> "DigestIndex":
        """Returns another index of the digests at places (K,) alone."""
        other = DigestIndex()
        other._column = self._column.kept(rows)
        other._sort()
        return other

    def places(self, digests: Sequence[str]) -> np.ndarray:
        """Returns the place of each digest, -1 where it is unknown: (M,) int64."""
        recent, (keys, order) = self._recent, self._sorted  # in this order: what left the one is in the other
        found = self._found
        places = np.array([found.get(digest, -1) for digest in digests], np.int64)
        if recent and (places < 0).any():
            places = np.array(
                [recent.get(d, -1) if at < 0 else at for d, at in zip(digests, places.tolist(), strict=True)], np.int64
            )
        if len(keys):
            open_ = np.flatnonzero(places < 0).tolist()
            queries = [digests[at] for at in open_]
            if not _all_digests(queries):
                open_ = [at for at in open_ if _DIGEST.fullmatch(digests[at])]
                queries = [digests[at] for at in open_]
            places[open_] = self._sorted_places(keys, order, _bytes(queries))
            if len(found) < MOST_FOUND:
                found.update((digests[at], place) for at in open_ if (place := int(places[at])) >= 0)
        return places

    def _sorted_places(self, keys: np.ndarray, order: np.ndarray, queries: np.ndarray) -> np.ndarray:
        wanted, stored = _keys(queries), self._column.head(len(self))
        places = np.full(len(queries), -1, np.int64)
        at = np.searchsorted(keys, wanted)
        open_ = np.arange(len(queries))
        while len(open_):  # a second turn only where two digests share a key
            inside = at[open_] < len(keys)
            inside[inside] = keys[at[open_[inside]]] == wanted[open_[inside]]
            open_ = open_[inside]
            candidates = order[at[open_]]
            same = (stored[candidates] == queries[open_]).all(axis=1)
            places[open_[same]] = candidates[same]
            open_ = open_[~same]
            at[open_] += 1
        return places

    def _sort(self) -> None:
        keys = _keys(self._column.head(len(self)))
        order = np.argsort(keys, kind="stable")
        self._sorted = (keys[order], order)
        self._recent = {}


def _all_digests(texts: Sequence[str]) -> bool:
    """Says whether all are digests, quickly where they are."""
    return set(map(len, texts)) <= {64} and _DIGITS.fullmatch("".join(texts)) is not None


def _bytes(digests: Sequence[str]) -> np.ndarray:
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32)


def _keys(rows: np.ndarray) -> np.ndarray:
    """Folds digests (N, 32) uint8 to (N,) uint64."""
    words = np.ascontiguousarray(rows).view(np.uint64).reshape(-1, 4)
    return np.asarray(words[:, 0] ^ words[:, 1] ^ words[:, 2] ^ words[:, 3])
