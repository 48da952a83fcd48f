"""P1-P5: what serving costs beside raw open_clip, a server without batching, sklearn and a bare fit.

Method: baseline and konomi take turns in one run, each in its own process with the same number of threads; figures are
medians over the turns. Images are seeded 1024-pixel JPEGs of photograph-like spectrum, ViT-B/32 has seeded random
weights (they decide no timing). CPU seconds count the decoding children.
"""

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.results import FOLDER
from tests.benchmarks.serving import rig

THREADS = 2
PHOTOGRAPHS = FOLDER.parent / "photographs"
PEER = Path(__file__).with_name("peer_clip_server.py")

Row = dict[str, Any]


def rows(arguments: argparse.Namespace) -> Iterator[Row]:
    """Yields the figures that were asked for, each part as soon as it is done."""
    with tempfile.TemporaryDirectory() as scratch:
        if {"P1", "P2"} & set(arguments.ids):
            yield from _serving(arguments, Path(scratch))
        if "P3" in arguments.ids:
            from tests.benchmarks.serving.preparation_cost import preparation

            yield from preparation(arguments)
        if {"P4", "P5"} & set(arguments.ids):
            from tests.benchmarks.serving.rescoring import rescoring

            yield from rescoring(arguments, Path(scratch))


def _serving(arguments: argparse.Namespace, scratch: Path) -> Iterator[Row]:
    count, turns = (64, 1) if arguments.small else (256, 5)
    home = scratch / "home"
    weights = rig.write_model(home / "models")
    images = rig.write_photographs(PHOTOGRAPHS, count, arguments.seed)
    server = rig.Server(home, THREADS)
    rig.fit_taste(server, rig.write_photographs(PHOTOGRAPHS, rig.LABELS, arguments.seed + 1))
    raw = rig.Raw(weights, PHOTOGRAPHS, THREADS)
    print(f"raw open_clip and the server's embedder: {raw.where}")
    try:
        if "P1" in arguments.ids:
            yield from _throughput(arguments, server, raw, images, turns)
            yield from _peer(arguments.seed, server, weights, images, turns)
        if "P2" in arguments.ids:
            yield from _clients(arguments, server, raw, images, turns)
    finally:
        raw.stop()
        server.stop()


def _throughput(
    arguments: argparse.Namespace, server: rig.Server, raw: rig.Raw, images: list[bytes], turns: int
) -> list[Row]:
    names = [f"{arguments.seed}-{number}.jpg" for number in range(len(images))]
    batches = [images[start : start + 32] for start in range(0, len(images), 32)]
    ours, theirs, cpu, their_cpu, rss = [], [], [], [], []
    with server.client() as client:
        rig.score(client, batches[0])
        raw.embed(names[:32], 32)
        for _ in range(turns):
            done = raw.embed(names, 32)
            theirs.append(len(images) / done["seconds"])
            their_cpu.append(done["cpu"] / len(images))
            used, began = server.cpu_seconds(), time.monotonic()
            _each(2, batches, lambda batch: rig.score(client, batch))
            ours.append(len(images) / (time.monotonic() - began))
            cpu.append((server.cpu_seconds() - used) / len(images))
            rss.append(server.rss_bytes() / 2**20)
    value, base = statistics.median(ours), statistics.median(theirs)
    used, their = statistics.median(cpu), statistics.median(their_cpu)
    n = turns * len(images)
    return [
        _row(
            "P1", "ScoreImages over gRPC, JPEG, ViT-B/32, batches of 32 against raw open_clip", value, base, "img/s", n
        ),
        _row("P1", "CPU per image of the server against raw open_clip", used * 1e3, their * 1e3, "ms", n),
        _row("P1", "resident memory of the server, last turn against the first", rss[-1], rss[0], "MiB", turns),
    ]


def _peer(seed: int, server: rig.Server, weights: Path, images: list[bytes], turns: int) -> list[Row]:
    """clip-server in turns with konomi, each with its own client, four batches of 32 in flight."""
    if not rig.peer_python(PEER.stem).exists():
        print(f"clip-server: not run, {PEER.name} says how to install it")
        return []
    names = [f"{seed}-{number}.jpg" for number in range(len(images))]
    batches = [images[start : start + 32] for start in range(0, len(images), 32)]
    ours, theirs = [], []
    peer = rig.Raw(weights, PHOTOGRAPHS, THREADS, PEER)
    try:
        with server.client() as client:
            rig.score(client, batches[0])
            peer.embed(names[:32], 32)
            for _ in range(turns):
                theirs.append(len(images) / peer.embed(names, 32)["seconds"])
                began = time.monotonic()
                _each(4, batches, lambda batch: rig.score(client, batch))
                ours.append(len(images) / (time.monotonic() - began))
    finally:
        peer.stop()
    value, base = statistics.median(ours), statistics.median(theirs)
    return [
        _row(
            "P1",
            "ScoreImages over gRPC, JPEG, ViT-B/32 against clip-server 0.8.3",
            value,
            base,
            "img/s",
            turns * len(images),
        )
    ]


def _clients(
    arguments: argparse.Namespace, server: rig.Server, raw: rig.Raw, images: list[bytes], turns: int
) -> list[Row]:
    home = server.home.parent / "single"
    rig.write_model(home / "models")
    single = rig.Server(home, THREADS, KONOMI_EMBED_BATCH="1")
    rig.fit_taste(single, rig.write_photographs(PHOTOGRAPHS, rig.LABELS, arguments.seed + 1))
    names = [f"{arguments.seed}-{number}.jpg" for number in range(8)]
    count = 32 if arguments.small else 160
    ours: list[float] = []
    alone: list[float] = []
    seconds: list[float] = []
    batch: list[float] = []
    try:
        with server.client() as client, single.client() as one:
            for address in (client, one):
                _each(8, images[:16], lambda image, to=address: rig.score(to, [image]))
            raw.embed(names, 8)
            for _ in range(turns):
                batch.append(raw.embed(names, 8)["seconds"])
                alone.append(count / sum(_timed(one, images[:count], [])))
                ours.append(count / sum(_timed(client, images[:count], seconds)))
                batch.append(raw.embed(names, 8)["seconds"])
    finally:
        single.stop()
    value, base, pass_seconds = statistics.median(ours), statistics.median(alone), statistics.median(batch)
    p99 = sorted(seconds)[int(0.99 * len(seconds))]
    return [
        _row(
            "P2", "8 single-image clients against the same server without batching", value, base, "img/s", count * turns
        ),
        _row(
            "P2",
            "their 99th percentile against raw open_clip's time for a batch of 8",
            p99,
            pass_seconds,
            "s",
            len(seconds),
        ),
    ]


def _timed(client: Any, images: list[bytes], seconds: list[float]) -> list[float]:
    """Scores images by 8 clients that send one at a time; returns [wall seconds] and adds each call's seconds."""

    def call(image: bytes) -> None:
        began = time.monotonic()
        rig.score(client, [image])
        seconds.append(time.monotonic() - began)

    began = time.monotonic()
    _each(8, images, call)
    return [time.monotonic() - began]


def _each(workers: int, items: Any, work: Any) -> None:
    """Does the work on every item by some threads; the first failure is raised."""
    waiting, lock, failed = iter(items), threading.Lock(), []

    def run() -> None:
        while not failed:
            with lock:
                item = next(waiting, None)
            if item is None:
                return
            try:
                work(item)
            except Exception as error:  # noqa: BLE001  raised below, in the thread that measures
                failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _row(name: str, what: str, value: float, baseline: float, unit: str, n: int) -> Row:
    return {"id": name, "what": what, "value": value, "baseline": baseline, "unit": unit, "n": n}
