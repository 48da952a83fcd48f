"""Pages of a list: as many rows as a page holds, and the token of the page after it.

A list is read by its key, never by an offset: "up to N rows past this key". The token of the next page is made of the
key of the last row shown, so rows that come meanwhile never move what was shown already.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")

DEFAULT_PAGE_SIZE = 100
"""Rows of a page where the request does not say how many."""


@dataclass(frozen=True)
class RowPage(Generic[Row]):
    """One page of a list.

    Attributes:
        rows: in the order of the list.
        next_token: of the page after this one; empty where this is the last.
    """

    rows: Sequence[Row]
    next_token: str


def page_size(requested: int) -> int:
    """Returns how many rows a page holds; 0 in a request means the default."""
    return requested or DEFAULT_PAGE_SIZE


def page(requested: int, read: Callable[[int], Sequence[Row]], token: Callable[[Row], str]) -> RowPage[Row]:
    """Reads one page.

    Args:
        requested: the request's `page_size`, 0 for the default.
        read: returns up to so many rows past the request's `page_token`; it is asked for one more than the page
            holds, which tells whether another page follows.
        token: returns the token of the page past a row.
    """
    size = page_size(requested)
    rows = read(size + 1)
    return RowPage(rows[:size], token(rows[size - 1]) if len(rows) > size else "")
