"""What writes while the power goes: labels, comparisons, artifacts, models, each acknowledged as the services do.

MUTANTS weaken one thing each, as a careless change would; the harness must notice every one.
"""

import hashlib
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path

import sqlalchemy

from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage import blobs, keeper
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import open_database, reading
from konomi_rater.storage import comparisons, image_records, labels, tastes
from konomi_rater.storage.comparisons import ComparisonEntry
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import MIGRATIONS as RATER
from konomi_trainer.storage import models, runs
from konomi_trainer.storage.models import ModelRow
from konomi_trainer.storage.schema import MIGRATIONS as TRAINER
from tests.chaos.power import stop

Say = Callable[[str], None]
DIGESTS = tuple(f"{number:064x}" for number in range(3))


def weaken(mutant: str) -> None:
    """Takes one safeguard away in this process."""
    MUTANTS[mutant]()


def write(home: Path, say: Say, seed: int, mutant: str = "none") -> None:
    """Writes of every kind until the chosen acknowledgement, then stands still."""
    weaken(mutant)
    rng = random.Random(seed)
    last = rng.randrange(1, 12)
    store = ArtifactStore(StoreSettings(home=home, min_free_bytes=0))
    rater, trainer = open_rater(home), open_database(home / "databases" / "trainer.sqlite", TRAINER)
    with rater.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest in DIGESTS:
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
    for number in range(last):
        kind = rng.choice(("label", "comparison", "artifact", "artifact", "model"))
        if kind == "label":
            with rater.begin() as connection:
                (entry,) = labels.record(connection, "t", [NewLabel(rng.choice(DIGESTS), rng.randrange(1, 6))], 1.0)
            say(f"label {entry.sequence} {entry.grade}")
        elif kind == "comparison":
            with rater.begin() as connection:
                row = comparisons.record(connection, "t", ComparisonEntry(DIGESTS[0], DIGESTS[1], tie=False), 1.0)
            say(f"comparison {row.sequence}")
        elif kind == "artifact":
            say(f"artifact {store.put(rng.randbytes(rng.randrange(1, 60_000)), 'image/png').digest}")
        else:
            adapter = store.put(rng.randbytes(3000), "application/octet-stream").digest
            with trainer.begin() as connection:
                register(connection, f"model-{number}", adapter)
            say(f"model model-{number} {adapter}")
    stop()


def put_and_die(home: Path, say: Say, data: bytes, point: str) -> None:
    """Puts an artifact and is killed at a failpoint: nobody was told that it is there."""
    os.environ["KONOMI_FAILPOINT"] = point
    ArtifactStore(StoreSettings(home=home, min_free_bytes=0)).put(data, "image/png")


def put_again(home: Path, say: Say, data: bytes, mutant: str = "none") -> None:
    """Puts the same artifact once more, as a client does whose call broke off."""
    weaken(mutant)
    say(f"artifact {ArtifactStore(StoreSettings(home=home, min_free_bytes=0)).put(data, 'image/png').digest}")
    stop()


def missing(home: Path, said: list[str]) -> list[str]:
    """Returns which of the acknowledged things are not there after the cut."""
    store = ArtifactStore(StoreSettings(home=home, min_free_bytes=0))
    kept = {f"artifact {digest}" for digest in store.digests() if _whole(store, digest)}
    if any(not line.startswith("artifact") for line in said):
        rater, trainer = open_rater(home), open_database(home / "databases" / "trainer.sqlite", TRAINER)
        with reading(rater) as connection:
            rows = connection.exec_driver_sql("SELECT sequence, grade FROM labels").all()
            kept |= {f"label {row.sequence} {row.grade}" for row in rows}
            rows = connection.exec_driver_sql("SELECT sequence FROM comparisons").all()
            kept |= {f"comparison {row.sequence}" for row in rows}
        with reading(trainer) as connection:
            for model in models.page(connection, "", 1 << 60, 100):
                if f"artifact {model.adapter_digest}" in kept:
                    kept.add(f"model {model.id} {model.adapter_digest}")
        rater.dispose()
        trainer.dispose()
    return [line for line in said if line not in kept]


def open_rater(home: Path) -> sqlalchemy.Engine:
    """Opens the rater's database of a home."""
    return open_database(home / "databases" / "rater.sqlite", RATER)


def _whole(store: ArtifactStore, digest: str) -> bool:
    return hashlib.sha256(store.get(digest)).hexdigest() == digest


def register(connection: sqlalchemy.Connection, name: str, adapter: str) -> None:
    """Adds a model with the run that made it."""
    run = runs.create(connection, "tastes/t", name, "c", request=b"", configuration="{}", total_steps=1, now=1.0)
    models.register(
        connection,
        ModelRow(
            id=name,
            training_run=run.id,
            taste="tastes/t",
            display_name="",
            method="lora",
            base_model="starter",
            base_digest="",
            parents=(),
            adapter_digest=adapter,
            manifest_digest="",
            rater_version="",
            config_digest="",
            configuration="{}",
            seed=0,
            metrics={},
            night="",
            create_time=1.0,
        ),
    )


def _no_prefix_sync() -> None:
    blobs.make_folder = lambda folder, below=None: folder.mkdir(parents=True, exist_ok=True)  # type: ignore[assignment]


def _no_settle() -> None:
    blobs.Folder.settle = lambda self, key: None  # type: ignore[method-assign]


def _no_settle_at_all() -> None:
    _no_settle()
    _no_prefix_sync()  # opening the store syncs its folder, and ext4 makes all names durable with one


def _no_folder_sync() -> None:
    blobs.sync_folder = lambda folder: None  # type: ignore[assignment]
    _no_prefix_sync()


def _synchronous(value: str) -> Callable[[], None]:
    def weakened() -> None:
        keeper.PRAGMAS = tuple(p.replace("synchronous=FULL", f"synchronous={value}") for p in keeper.PRAGMAS)

    return weakened


MUTANTS: Mapping[str, Callable[[], None]] = {
    "none": lambda: None,
    "no sync of what was there already": _no_settle,
    "no sync of what was there already, nor at start": _no_settle_at_all,
    "no sync of a new prefix folder": _no_prefix_sync,
    "no sync of folders": _no_folder_sync,
    "synchronous=NORMAL": _synchronous("NORMAL"),
    "synchronous=OFF": _synchronous("OFF"),
}
