"""`python -m konomi_rater.examination --home HOME`: reads all labels and rater versions of a home once.

Prints one line of JSON for each taste's labels and each version's head; changes nothing, also where konomi is running.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import sqlalchemy
from pysqlite3 import dbapi2
from sqlalchemy import Connection, text

from konomi.errors import GONE, DataLoss, KonomiError, NotFound
from konomi.settings import default_home
from konomi_chassis.settings import DatabaseSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import database_path, reading
from konomi_chassis.storage.dialects import is_postgresql
from konomi_chassis.storage.examination import Examined, holding
from konomi_chassis.storage.examination import open_to_read as open_file
from konomi_chassis.storage.postgresql.engine import open_to_read
from konomi_chassis.storage.postgresql.server import named
from konomi_chassis.storage.sqlite.page_checksums import load
from konomi_rater.storage import collected
from konomi_rater.storage.files.head_file import from_bytes
from konomi_rater.storage.label_chain import LabelChains
from konomi_rater.storage.schema import SCHEMA


def examine(home: Path) -> Iterator[Examined]:
    """Yields what is seen of each taste's labels, the images they are of, and the heads of its versions.

    An image whose pixels were collected, or its consent revoked, is whole without them.

    Raises:
        DataLoss: the database cannot be read.
    """
    store = ArtifactStore(StoreSettings(home=home))
    with _opened(home) as engine:
        if engine is None:
            return
        try:
            with reading(engine) as connection:
                for taste in connection.execute(text("SELECT id FROM tastes ORDER BY id")).scalars().all():
                    yield _labels(connection, taste)
                    yield _images(connection, taste, store)
                    yield from _heads(connection, taste, store)
        except (sqlalchemy.exc.DatabaseError, dbapi2.Error) as error:
            place = "rater.sqlite" if engine.dialect.name == "sqlite" else named(engine.url)
            raise DataLoss(f"{place} cannot be read ({error}).", reason="DATABASE_DAMAGED") from error


@contextmanager
def _opened(home: Path) -> Iterator[sqlalchemy.Engine | None]:
    """Gives a way to read the rater's rows, also where a running rater has them; None where there are none yet."""
    settings = DatabaseSettings(home=home)
    if settings.url.get_secret_value():
        yield open_to_read(settings.url, SCHEMA)
        return
    path = database_path(home, SCHEMA)
    if not path.exists():
        yield None
        return
    load()
    with holding(path) as held:
        yield sqlalchemy.create_engine(
            "sqlite://", module=dbapi2, creator=lambda: open_file(path, held=held), poolclass=sqlalchemy.NullPool
        )


def main(argv: Sequence[str]) -> int:
    """Prints what is seen; returns 0 also where something is damaged, 2 where nothing could be looked at."""
    parser = argparse.ArgumentParser(prog="konomi_rater.examination")
    parser.add_argument("--home", type=Path, default=default_home())
    try:
        for examined in examine(parser.parse_args(argv).home):
            print(json.dumps(asdict(examined)), flush=True)
    except (KonomiError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _labels(connection: Connection, taste: str) -> Examined:
    try:
        return Examined("labels", f"tastes/{taste}", count=LabelChains().verify(connection, taste))
    except DataLoss as error:
        return Examined("labels", f"tastes/{taste}", error.message)


def _images(connection: Connection, taste: str, store: ArtifactStore) -> Examined:
    query = text("SELECT digest FROM images WHERE taste = :taste ORDER BY row")
    digests = connection.execute(query, {"taste": taste}).scalars().all()
    gone = _without_pixels(connection, taste)
    missing = [digest for digest in digests if digest not in gone and not _is_whole(store, digest)]
    problem = (
        f"{len(missing)} of {len(digests)} images of tastes/{taste} have no bytes in the store, the first is "
        f"{missing[0]}; put the folder artifacts of a backup beside what is there, or add the images again"
        if missing
        else ""
    )
    return Examined("images", f"tastes/{taste}", problem, count=len(digests))


def _heads(connection: Connection, taste: str, store: ArtifactStore) -> Iterator[Examined]:
    query = text("SELECT number, artifact FROM rater_versions WHERE taste = :taste ORDER BY number")
    for row in connection.execute(query, {"taste": taste}).all():
        name = f"tastes/{taste}/raterVersions/{row.number}"
        try:
            from_bytes(store.get(row.artifact))
        except (DataLoss, NotFound) as error:
            yield Examined("head", name, f"{error.message} Or fit the rater again.")
        else:
            yield Examined("head", name, count=1)


def _without_pixels(connection: Connection, taste: str) -> frozenset[str]:
    """Returns what the record says was collected; a database of before that has no such table, and nothing to say."""
    if is_postgresql(connection):
        return collected.without_pixels(connection, taste)
    table = connection.execute(text("SELECT 1 FROM sqlite_master WHERE name = 'images_without_pixels'")).first()
    return collected.without_pixels(connection, taste) if table else frozenset()


def _is_whole(store: ArtifactStore, digest: str) -> bool:
    """Says whether the bytes are there, or the store says why they went: a database of a backup may not know yet."""
    try:
        return store.exists(digest) or store.missing(digest).reason in GONE
    except DataLoss:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
