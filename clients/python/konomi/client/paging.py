"""Lists the services give in pages: every page of one, and the two that are read most."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol, TypeVar

from konomi.client.client import Client
from konomi.client.services import taste_name
from konomi.v1 import rater_pb2, trainer_pb2

MOST = 1000
"""Entries of a page at most, by the contract."""


class ListPage(Protocol):
    """One page of a list."""

    next_page_token: str
    """Where the next page begins; empty on the last."""


P = TypeVar("P", bound=ListPage)


def pages(call: Callable[..., P], **fields: Any) -> Iterator[P]:
    """Yields every page of a list, asked for when it is needed.

    Args:
        call: rpc that lists, for example `client.rater.list_images`.
        **fields: fields of its request, or `timeout`; pages are as large as they may be where no `page_size` is given,
            and the first is the one of `page_token` where that is given.
    """
    token = fields.pop("page_token", "")
    while True:
        page = call(**{"page_size": MOST, **fields}, page_token=token)
        yield page
        token = page.next_page_token
        if not token:
            return


def models(client: Client, taste: str, **options: Any) -> Iterator[trainer_pb2.Model]:
    """Yields the models of a taste, by id or name, newest first."""
    for page in pages(client.trainer.list_models, taste=taste_name(taste), **options):
        yield from page.models


def labels(client: Client, taste: str, **fields: Any) -> Iterator[rater_pb2.Label]:
    """Yields the labels of a taste, by id or name, in the order they were recorded."""
    for page in pages(client.rater.list_labels, taste=taste_name(taste), **fields):
        yield from page.labels
