"""Pages of a list: every row once, in order, and no page after the last."""

import pytest

from konomi_chassis.rpc.pagination import DEFAULT_PAGE_SIZE, page


def read_all(count: int, size: int) -> list[list[int]]:
    """Reads the numbers 1..count in pages, each asked for with the token of the one before."""
    pages, token = [], ""
    while True:
        after = int(token or 0)
        listed = page(size, lambda limit, after=after: range(after + 1, min(count, after + limit) + 1), str)
        pages.append(list(listed.rows))
        token = listed.next_token
        if not token:
            return pages


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(0, 3, [0]), (2, 3, [2]), (3, 3, [3]), (4, 3, [3, 1]), (6, 3, [3, 3])]
)
def test_every_row_once_and_no_empty_page_at_the_end(count, size, sizes):
    pages = read_all(count, size)
    assert [len(rows) for rows in pages] == sizes
    assert [row for rows in pages for row in rows] == list(range(1, count + 1))


def test_a_request_that_names_no_size_gets_the_default():
    assert [len(rows) for rows in read_all(DEFAULT_PAGE_SIZE + 1, 0)] == [DEFAULT_PAGE_SIZE, 1]
