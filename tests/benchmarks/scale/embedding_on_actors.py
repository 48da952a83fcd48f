"""P12e: images of a taste embedded on two actors over one, and without Ray; taken in turns, as bench_scale does."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.embedding.batching import Batcher, queue_limits
from konomi_rater.embedding.device import placement
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import Caller
from konomi_rater.executors.opening import open_executor
from konomi_rater.settings import RaterSettings
from konomi_rater.usecases.vectors import Vectors
from tests.benchmarks.results import FOLDER
from tests.benchmarks.scale.bench_scale import ADDRESS, pinned, row
from tests.benchmarks.serving import rig

DISTINCT, TIMES, BATCH = 32, 12, 32
"""Photographs, how often a request has each, and images of a batch."""


def embedding(repeats: int) -> list[dict[str, Any]]:
    """P12e to P12h: the ratio, and images a second on one actor, on two, and in one process."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    photographs = rig.write_photographs(FOLDER.parent / "serving" / "scale", DISTINCT, 7)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        subprocess.run([sys.executable, "-m", "konomi_starter", "install", "--home", name], check=True)
        store = ArtifactStore(StoreSettings(home=home))
        digests = [store.put(image, "image/jpeg").digest for image in photographs] * TIMES
        head = {"num_cpus": 0, "node_ip_address": ADDRESS, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": 100 << 20})
        try:
            for core in (0, 1):
                with pinned(core):
                    cluster.add_node(num_cpus=1, node_ip_address=ADDRESS, wait=True)
            found = _turns(home, store, cluster.address, digests, repeats)
        finally:
            cluster.shutdown()
    scaled = [one / two for one, two in zip(found["one"], found["two"], strict=True)]
    rates = {kind: [len(digests) / seconds for seconds in found[kind]] for kind in found}
    return [
        row("P12e", "images embedded a second on 2 actors over 1", scaled, goal=">= 1.8"),
        row("P12f", "images embedded a second, 1 actor", rates["one"], "1/s"),
        row("P12g", "images embedded a second, 2 actors", rates["two"], "1/s"),
        row("P12h", "images embedded a second, no Ray", rates["local"], "1/s"),
    ]


def _turns(
    home: Path, store: ArtifactStore, address: str, digests: Sequence[str], repeats: int
) -> dict[str, list[float]]:
    """Returns the seconds of each turn: two actors, one, and none, one after the other; all give the same bits."""
    own = RaterSettings(home=home, embedder_device="cpu", embedder_threads=1)
    embedders = Embedders(home / "models", placement(own))
    scale = ScaleSettings(home=home, embed_executor="ray", address=address, embed_batch_images=BATCH)
    decoder = Decoder(DecodeSettings(home=home, decode_children=1))
    batcher = Batcher(decoder.decode, queue_limits(own, embedders.batch, 1))
    local = Vectors(store, embedders, lambda: batcher, 0)
    executor: Any = open_executor(scale, embedders, own)

    def on(actors: int) -> Callable[[], list[Any]]:
        executor._settings = scale.model_copy(update={"embed_actors": actors})
        return lambda: executor.embed("starter", digests, Caller("owner", patient=True))

    def alone() -> list[Any]:
        return local.keepable("starter", digests, Caller("owner", patient=True))

    found: dict[str, list[float]] = {"two": [], "one": [], "local": []}
    try:
        with pinned(0):
            expected = _timed("no Ray", alone)[1]  # libraries are loaded, and the model here …
        on(2)()  # … and there
        for _ in range(repeats):
            for kind, actors in (("two", 2), ("one", 1)):
                seconds, vectors = _timed(kind, on(actors))
                assert vectors == expected
                found[kind].append(seconds)
            with pinned(0):
                found["local"].append(_timed("no Ray", alone)[0])
    finally:
        executor.close()
        batcher.close()
        decoder.close()
    return found


def _timed(kind: str, work: Callable[[], list[Any]]) -> tuple[float, list[bytes]]:
    began = time.perf_counter()
    made = work()
    seconds = time.perf_counter() - began
    print(f"{kind}: {len(made) / seconds:.1f} images/s", file=sys.stderr, flush=True)
    return seconds, [one.vector.tobytes() for one in made]
