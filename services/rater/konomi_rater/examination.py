"""`python -m konomi_rater.examination --home HOME`: reads all labels and rater versions of a home once.

Prints one line of JSON for each taste's labels and each version's head; changes nothing, also where konomi is running.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import sqlalchemy
from pysqlite3 import dbapi2
from sqlalchemy import Connection, text

from konomi.errors import GONE, DataLoss, KonomiError, NotFound
from konomi.settings import default_home
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.examination import Examined, holding, open_to_read
from konomi_chassis.storage.page_checksums import load
from konomi_rater.storage import collected
from konomi_rater.storage.head_file import from_bytes
from konomi_rater.storage.label_chain import LabelChains


def examine(home: Path) -> Iterator[Examined]:
    """Yields what is seen of each taste's labels, the images they are of, and the heads of its versions.

    An image whose pixels were collected, or its consent revoked, is whole without them.

    Raises:
        DataLoss: the database cannot be read.
    """
    path = home / "databases" / "rater.sqlite"
    if not path.exists():
        return
    load()
    store = ArtifactStore(StoreSettings(home=home))
    with holding(path) as held:
        engine = sqlalchemy.create_engine(
            "sqlite://", module=dbapi2, creator=lambda: open_to_read(path, held=held), poolclass=sqlalchemy.NullPool
        )
        try:
            with engine.connect() as connection:
                for taste in connection.execute(text("SELECT id FROM tastes ORDER BY id")).scalars().all():
                    yield _labels(connection, taste)
                    yield _images(connection, taste, store)
                    yield from _heads(connection, taste, store)
        except (sqlalchemy.exc.DatabaseError, dbapi2.Error) as error:
            raise DataLoss(f"rater.sqlite cannot be read ({error}).", reason="DATABASE_DAMAGED") from error


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
