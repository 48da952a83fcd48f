"""Everything konomi keeps, one class of files after another, with a fixed set of questions about it.

A class makes its files once in a folder; `ask` answers from a copy of them in which one bit was flipped.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from konomi.taste.bundle_format import BundleEntry, Manifest, read_bundle, write_bundle
from konomi.taste.scoring import ScoreJournal
from konomi_chassis.auth.tokens import issue_token, read_tokens
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import open_database, reading
from konomi_rater.measures.novelty import NeighbourIndex
from konomi_rater.preference.fitting import quick_fit
from konomi_rater.storage import comparisons, image_records, labels, tastes
from konomi_rater.storage.comparisons import ComparisonEntry
from konomi_rater.storage.files import head_file
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.label_chain import LabelChains
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import MIGRATIONS as RATER
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.storage.schema import MIGRATIONS as TRAINER
from konomi_trainer.training.checkpoints import Checkpoints
from tests.chaos import writers

ROWS, DIMENSIONS = 60, 24
PATHS = [Path("/images")]


@dataclass(frozen=True)
class FileClass:
    """Files of one kind.

    Attributes:
        make: writes them into a folder.
        ask: returns what konomi answers from them; equal answers are equal values.
        guarded: what a person may edit by hand (konomi.toml) cannot be guarded: another value is another setting.
    """

    make: Callable[[Path], None]
    ask: Callable[[Path], Any]
    guarded: bool = True


def vectors(seed: int = 0, count: int = ROWS) -> np.ndarray:
    """Returns unit rows (count, D) float32."""
    rows = np.random.default_rng(seed).standard_normal((count, DIMENSIONS)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _fill_rater(folder: Path) -> Any:
    engine = open_database(folder / "rater.sqlite", RATER)
    digests = [f"{number:064x}" for number in range(ROWS)]
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for number, digest in enumerate(digests):
            image_records.add(connection, "t", ImageFacts(digest, 1, prompt=f"portrait {number}"), (8, 8), 0.0)
        image_records.remember_embeddings(connection, "starter", dict(zip(digests, vectors(), strict=True)))
    for number in range(40):
        with engine.begin() as connection:
            labels.record(connection, "t", [NewLabel(digests[number], 1 + number % 5)], 1.0)
            comparisons.record(connection, "t", ComparisonEntry(digests[number], digests[number + 1], tie=False), 1.0)
    return engine


def _closed_rater(folder: Path) -> None:
    _fill_rater(folder).dispose()
    (folder / "rater.sqlite.lock").unlink()


def _killed(fill: Callable[[Path], Any], name: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        live = folder.with_name(f"{folder.name}-live")
        engine = fill(live)
        for ending in ("", "-wal", "-shm", "-committed"):
            shutil.copy(live / f"{name}{ending}", folder / f"{name}{ending}")
        engine.dispose()
        shutil.rmtree(live)

    return make


def _fill_trainer(folder: Path) -> Any:
    engine = open_database(folder / "trainer.sqlite", TRAINER)
    for number in range(20):
        with engine.begin() as connection:
            writers.register(connection, f"model-{number}", f"{number:064x}")
    return engine


def _ask_database(name: str, migrations: Any) -> Callable[[Path], Any]:
    def ask(folder: Path) -> Any:
        engine = open_database(folder / name, migrations)
        try:
            with reading(engine) as connection:
                query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name"
                names = connection.exec_driver_sql(query).scalars().all()
                rows = {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in names}
                if name == "rater.sqlite":
                    LabelChains().verify_all(connection)
                    rows["in force"] = sorted(labels.grades_in_force(connection, "t").items())
                return rows
        finally:
            engine.dispose()

    return ask


def _store(folder: Path) -> ArtifactStore:
    return ArtifactStore(StoreSettings(home=folder, min_free_bytes=0))


def _make_artifacts(folder: Path) -> None:
    for number in range(6):
        _store(folder).put(np.random.default_rng(number).bytes(900 * (1 + number)), "image/png")


def _ask_artifacts(folder: Path) -> Any:
    store = _store(folder)
    return [(store.stat(digest), store.get(digest)) for digest in store.digests()]


def _make_head(folder: Path) -> None:
    rows = vectors(3, 12)
    grades = np.array([1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 5])
    data = head_file.to_bytes(quick_fit(rows, grades, vectors(4)), rows, grades, "starter")
    digest = _store(folder).put(data, head_file.MEDIA_TYPE).digest
    (folder / "digest").write_text(digest)  # stands for the row of the version; not flipped


def _ask_head(folder: Path) -> Any:
    stored = head_file.from_bytes(_store(folder).get((folder / "digest").read_text()))
    prediction = stored.head.predict(vectors(5, 8))
    return prediction.utility.tolist(), prediction.std.tolist(), stored.unknown(vectors(5, 8)).tolist()


def _index() -> NeighbourIndex:
    index = NeighbourIndex(DIMENSIONS, exact_rows=200)
    index.add(np.arange(1200), vectors(6, 1200))
    return index


def _make_index(folder: Path) -> None:
    _index().save(folder / "archive.faiss")


def _ask_index(folder: Path) -> Any:
    index = NeighbourIndex.load(folder / "archive.faiss", DIMENSIONS, 200) or _index()
    return sorted(index.ids().tolist()), index.distance(vectors(7, 9), np.full(9, -1)).tolist()


def _make_journal(folder: Path) -> None:
    journal = ScoreJournal(folder, "default", PATHS)
    for number in range(12):
        journal.add(f"{number}.png", f"{number:064x}", "v1", {"score": {"utility": number / 7, "novelty": 0.5}})
    journal.close(finished=False)


def _ask_journal(folder: Path) -> Any:
    journal = ScoreJournal(folder, "default", PATHS)
    journal.close(finished=False)
    asked = {f"{n}.png": {"score": {"utility": n / 7, "novelty": 0.5}} for n in range(12)}  # what the rater would say
    return {path: journal.find(path, f"{n:064x}", "v1") or asked[path] for n, path in enumerate(asked)}


def _make_bundle(folder: Path) -> None:
    store = _store(folder.with_name(f"{folder.name}-store"))
    kept = [store.put(np.random.default_rng(n).bytes(700 + n), "image/png") for n in range(5)]
    parts = ("rows", "image", "image", "image", "image")
    entries = tuple(BundleEntry(a.digest, a.media_type, a.size_bytes, p) for a, p in zip(kept, parts, strict=True))
    write_bundle(
        folder / "taste.tar", Manifest("tastes/t", kept[0].digest, "", entries), lambda e: [store.get(e.digest)]
    )


def _ask_bundle(folder: Path) -> Any:
    parts: dict[str, bytes] = {}
    manifest = read_bundle(folder / "taste.tar", lambda e, chunks: parts.__setitem__(e.digest, b"".join(chunks)))
    return manifest, parts


def _make_tokens(folder: Path) -> None:
    for number in range(6):
        issue_token(folder, f"tool-{number}", "tool", f"taste-{number}", 1e10 + number)
    (folder / "tokens" / "lock").unlink()


def _ask_tokens(folder: Path) -> Any:
    return read_tokens(folder)


def _make_checkpoints(folder: Path) -> None:
    for step in (100, 200):
        Checkpoints(folder).save(step, {"w": torch.full((40,), float(step))}, {"step": step, "rate": 0.1})


def _ask_checkpoints(folder: Path) -> Any:
    """A run goes on from the older checkpoint to the same end: what counts is that a checkpoint is what was saved."""
    checkpoint = Checkpoints(folder).newest()
    step = checkpoint.step if checkpoint is not None else 0
    right = checkpoint is None or (
        checkpoint.numbers == {"step": step, "rate": 0.1} and bool((checkpoint.tensors["w"] == float(step)).all())
    )
    return right and step in (100, 200)


def _make_cache(folder: Path) -> None:
    for number in range(4):
        TensorCache(folder).get(f"{number:064x}", lambda: {"latents": torch.arange(60.0)})


def _ask_cache(folder: Path) -> Any:
    made = [TensorCache(folder).get(f"{n:064x}", lambda: {"latents": torch.arange(60.0)}) for n in range(4)]
    return [tensors["latents"].tolist() for tensors in made]


def _make_settings(folder: Path) -> None:
    (folder / "konomi.toml").write_text('[server]\nport = 4711\nhost = "127.0.0.1"\n\n[store]\nmin_free_bytes = 0\n')


def _ask_settings(folder: Path) -> Any:
    return ServerSettings(home=folder).model_dump(exclude={"home"}), StoreSettings(home=folder).min_free_bytes


CLASSES: Mapping[str, FileClass] = {
    "rater database": FileClass(_closed_rater, _ask_database("rater.sqlite", RATER)),
    "rater database after a kill": FileClass(
        _killed(_fill_rater, "rater.sqlite"), _ask_database("rater.sqlite", RATER)
    ),
    "trainer database after a kill": FileClass(
        _killed(_fill_trainer, "trainer.sqlite"), _ask_database("trainer.sqlite", TRAINER)
    ),
    "artifacts": FileClass(_make_artifacts, _ask_artifacts),
    "rater head": FileClass(_make_head, _ask_head),
    "novelty index": FileClass(_make_index, _ask_index),
    "score journal": FileClass(_make_journal, _ask_journal),
    "taste bundle": FileClass(_make_bundle, _ask_bundle),
    "tokens": FileClass(_make_tokens, _ask_tokens),
    "checkpoints": FileClass(_make_checkpoints, _ask_checkpoints),
    "latents": FileClass(_make_cache, _ask_cache),
    "konomi.toml": FileClass(_make_settings, _ask_settings, guarded=False),
}


def comparable(answer: Any) -> str:
    """Returns an answer as text, so that NaN equals itself and rows compare by value."""
    return json.dumps(answer, default=repr, sort_keys=True)
