"""Whether what a home's settings name outside it answers: its database and its bucket, for `konomi doctor`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from konomi.errors import KonomiError
from konomi_chassis.settings import DatabaseSettings, StoreSettings


@dataclass(frozen=True)
class Reached:
    """What came of asking.

    Attributes:
        kind: "database", "bucket" or "cluster".
        place: it in words, without a secret; empty where it did not answer.
        code: number of the gRPC status of what is wrong; 0 where nothing is.
        reason: why, for programs.
        problem: why, for people, and what to do.
    """

    kind: str
    place: str = ""
    code: int = 0
    reason: str = ""
    problem: str = ""


def reached(home: Path) -> Iterator[Reached]:
    """Yields what the settings of a home name outside it, once it has answered or failed to; nothing is written."""
    database, store = DatabaseSettings(home=home), StoreSettings(home=home)
    if database.url.get_secret_value():
        yield asked("database", lambda: _database(database))
    if store.url:
        yield asked("bucket", lambda: _bucket(store))


def asked(kind: str, ask: Callable[[], str]) -> Reached:
    """Returns what came of asking; `ask` returns the place in words."""
    try:
        return Reached(kind, ask())
    except KonomiError as error:
        return Reached(kind, "", error.code.value[0], error.reason, error.message)


def _database(settings: DatabaseSettings) -> str:
    from konomi_chassis.storage.postgresql.engine import reach  # psycopg is an extra

    return reach(settings.url)


def _bucket(settings: StoreSettings) -> str:
    from konomi_chassis.storage.buckets.opening import open_bucket

    open_bucket(settings)
    return settings.url
