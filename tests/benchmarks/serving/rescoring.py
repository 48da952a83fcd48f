"""P4 and P5: a linear head over a million embeddings, and the way from one more label to a version that scores."""

import argparse
import itertools
import os
import statistics
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, DotProduct, WhiteKernel
from sklearn.linear_model import Ridge
from sqlalchemy import text

from konomi.errors import KonomiError
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.storage.database import open_database
from konomi_rater.preference.batch_prediction import linear
from konomi_rater.storage.schema import MIGRATIONS
from tests.benchmarks.serving import rig

DIMENSIONS = 512
THREADS = 2
SPACE = rig.EMBEDDER

Row = dict[str, Any]


def rescoring(arguments: argparse.Namespace, scratch: Path) -> list[Row]:
    """Returns the figures of P4 and P5 that were asked for."""
    found = _million(arguments) if "P4" in arguments.ids else []
    if "P5" in arguments.ids:
        for labels in (100, 500):
            found += _label_to_live(arguments, scratch / f"home-{labels}", labels)
    return found


def _million(arguments: argparse.Namespace) -> list[Row]:
    rng = np.random.default_rng(arguments.seed)
    count = 50_000 if arguments.small else 1_000_000
    matrix = np.empty((count, DIMENSIONS), np.float32)
    for start in range(0, count, 50_000):
        matrix[start : start + 50_000] = rng.standard_normal((min(50_000, count - start), DIMENSIONS), np.float32)
    ridge = Ridge().fit(matrix[:2000], rng.normal(size=2000).astype(np.float32))
    ours, theirs, grown = [], [], 0.0
    for _ in range(3 if arguments.small else 9):
        began = time.perf_counter()
        expected = ridge.predict(matrix)
        theirs.append(time.perf_counter() - began)
        before = _rss()
        began = time.perf_counter()
        found = linear(matrix, ridge.coef_, float(ridge.intercept_), THREADS)
        ours.append(time.perf_counter() - began)
        grown = max(grown, _rss() - before)
        assert np.allclose(found, expected, atol=1e-3)
    value, base = statistics.median(ours), statistics.median(theirs)
    what = f"a linear head over {count:,} embeddings of {DIMENSIONS}, against Ridge.predict"
    return [
        {**_row("P4", what, value, base, "s", len(ours)), "ratio": base / value},
        _row("P4", "memory of matrix and pass against the matrix", matrix.nbytes + grown, matrix.nbytes, "bytes", 1),
    ]


def _label_to_live(arguments: argparse.Namespace, home: Path, labels: int) -> list[Row]:
    count, turns = (25_000, 1) if arguments.small else (100_000, 5)
    rows, grades = _library(arguments.seed, count)
    rig.write_model(home / "models")
    digests = [f"{number:064x}" for number in range(count)]
    _fill(home, digests, rows)
    server = rig.Server(home, THREADS, KONOMI_LIBRARY_THREADS=str(THREADS))
    taste = f"tastes/{rig.TASTE}"
    try:
        with server.client() as client:
            known = [pb.Label(image_digest=d, grade=int(g)) for d, g in zip(digests[:labels], grades, strict=False)]
            client.rater.record_labels(taste=taste, labels=known[:-turns], request_id=str(uuid.uuid4()))
            list(client.rater.fit_rater(taste=taste, request_id=str(uuid.uuid4())))
            calls = _Calls(server, digests[-64:])
            seconds = []
            for label in known[-turns:]:
                began = time.monotonic()
                client.rater.record_labels(taste=taste, labels=[label], request_id=str(uuid.uuid4()))
                version = list(client.rater.fit_rater(taste=taste, request_id=str(uuid.uuid4())))[-1].rater_version
                client.rater.list_images(taste=taste, order_by="utility desc", page_size=1)
                seconds.append(time.monotonic() - began)
                active = client.rater.get_rater_version(name=f"{taste}/raterVersions/active").name
                assert active == version.name or version.HasField("diff"), "neither live nor judged worse"
            done, failed, mixed = calls.stop()
    finally:
        server.stop()
    value, base = statistics.median(seconds), _bare(rows, grades, labels)
    what = (
        f"one more label at {labels}: fitted, calibrated, {count:,} images rescored, live; against a bare fit + product"
    )
    return [
        _row("P5", what, value, base, "s", turns),
        _row(
            "P5",
            f"calls that failed or mixed versions during it, at {labels}, of all",
            failed + mixed,
            done,
            "rpcs",
            done,
        ),
    ]


class _Calls:
    """Scores images over and over until it is stopped, and counts what fails."""

    def __init__(self, server: rig.Server, digests: list[str]) -> None:
        self._server, self._digests, self._stop = server, digests, threading.Event()
        self._done = self._failed = self._mixed = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> tuple[int, int, int]:
        """Returns how many calls were made, how many failed, how many answers mixed versions."""
        self._stop.set()
        self._thread.join()
        return self._done, self._failed, self._mixed

    def _run(self) -> None:
        with self._server.client() as client:
            for start in itertools.cycle(range(0, len(self._digests) - 4, 4)):
                if self._stop.wait(0.01):
                    return
                images = [pb.ImageInput(digest=digest) for digest in self._digests[start : start + 4]]
                try:
                    results = client.rater.score_images(taste=f"tastes/{rig.TASTE}", images=images).results
                    self._mixed += len({result.score.rater_version for result in results}) != 1
                except KonomiError:
                    self._failed += 1
                self._done += 1


def _library(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit embeddings (N, D) with the falling spectrum encoders have, and an owner's grades (N,)."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 64), np.float32) @ (
        rng.standard_normal((64, DIMENSIONS), np.float32) * np.geomspace(1, 0.1, 64, dtype=np.float32)[:, None]
    )
    rows += 0.2 * rng.standard_normal(rows.shape, np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    utility = rows[:, :8].sum(axis=1) + 0.02 * rng.standard_normal(count)
    return rows, 1 + np.searchsorted(np.quantile(utility, [0.3, 0.6, 0.82, 0.94]), utility)


def _fill(home: Path, digests: list[str], rows: np.ndarray) -> None:
    """Writes a taste with its images and embeddings straight into the database, before the rater opens it."""
    engine = open_database(home / "databases" / "rater.sqlite", MIGRATIONS)
    images = (
        "INSERT INTO images (taste, digest, source, prompt, seed, unit, night, parents, licence, consent, parameters, "
        "width, height, created) VALUES (:taste, :digest, 4, '', 0, '', '', '[]', '', '', '{}', 512, 512, 0)"
    )
    with engine.begin() as connection:
        taste = {"id": rig.TASTE, "embedder": SPACE}
        columns = "(id, uid, display_name, embedder, base_model, created)"
        connection.execute(
            text(f"INSERT INTO tastes {columns} VALUES (:id, 'bench', '', :embedder, 'starter', 0)"), taste
        )
        connection.execute(text(images), [{"taste": rig.TASTE, "digest": digest} for digest in digests])
        vectors = [
            {"digest": d, "embedder": SPACE, "vector": row.astype("<f4").tobytes()}
            for d, row in zip(digests, rows, strict=True)
        ]
        connection.execute(
            text("INSERT INTO embeddings (digest, embedder, vector) VALUES (:digest, :embedder, :vector)"), vectors
        )
    engine.dispose()


def _bare(rows: np.ndarray, grades: np.ndarray, labels: int) -> float:
    """Returns the seconds sklearn needs to fit a process of the same kind and numpy to score all rows with its mean."""
    began = time.perf_counter()
    process = GaussianProcessRegressor(DotProduct() + RBF() + WhiteKernel(), normalize_y=True)
    process.fit(rows[:labels], grades[:labels])
    process.kernel_(rows, rows[:labels]) @ process.alpha_
    return time.perf_counter() - began


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _row(name: str, what: str, value: float, baseline: float, unit: str, n: int) -> Row:
    return {"id": name, "what": what, "value": value, "baseline": baseline, "unit": unit, "n": n}
