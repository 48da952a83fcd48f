"""P19: processor time the one rater that writes has for each image of a night where actors embed: its rows, its answer.

The rater is a process of its own with `embed_executor = "ray"`, on a core of its own; one actor embeds on another core.
Processor time says the same on a busy machine. `--only P19`.
"""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from konomi.v1 import rater_pb2 as pb
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.benchmarks.scale.bench_scale import ADDRESS, pinned, row
from tests.benchmarks.serving import rig

IMAGES = 1024
"""Of a turn: some batches of the actor, as many commits of the rater as the images of a night's unit."""


def rows_written(repeats: int) -> list[dict[str, Any]]:
    """P19, P19a: seconds of the rater's process and of the client's for each image that others embedded."""
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    rater, client = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as name, _rater(Path(name)) as server, server.client() as connected:
        connected.rater.create_taste(taste_id="rows", taste=pb.Taste(embedder="starter"))
        store = ArtifactStore(StoreSettings(home=server.home))
        _added(connected, _stored(store, 0, 64))  # the actor starts, the cluster is joined
        for turn in range(1, repeats + 1):
            digests = _stored(store, turn, IMAGES)
            own, before = os.times(), server.cpu_seconds()
            _added(connected, digests)
            after = os.times()
            rater.append(1000 * (server.cpu_seconds() - before) / IMAGES)
            client.append(1000 * (after.user + after.system - own.user - own.system) / IMAGES)
    return [
        row("P19", "processor time of the one rater for an image that actors embed", rater, "ms"),
        row("P19a", "processor time of who adds it", client, "ms"),
    ]


@contextmanager
def _rater(home: Path) -> Iterator[rig.Server]:
    """A rater that embeds on a cluster of one core, with the starter's embedder."""
    from ray.cluster_utils import Cluster

    subprocess.run([sys.executable, "-m", "konomi_starter", "install", "--home", str(home)], check=True)
    head = {"num_cpus": 0, "node_ip_address": ADDRESS, "include_dashboard": False, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        with pinned(1):
            cluster.add_node(num_cpus=1, node_ip_address=ADDRESS, wait=True)
        scale = {"EMBED_EXECUTOR": "ray", "ADDRESS": cluster.address, "PATIENCE_SECONDS": "300"}
        with pinned(0):
            server = rig.Server(home, 1, **{f"KONOMI_SCALE_{key}": value for key, value in scale.items()})
        try:
            yield server
        finally:
            server.stop()
    finally:
        cluster.shutdown()


def _stored(store: ArtifactStore, turn: int, count: int) -> list[str]:
    """Stores so many new images, as actors that draw do, past the rater; returns their digests."""
    return [store.put(_png(turn, number), "image/png").digest for number in range(count)]


def _added(client: Any, digests: Sequence[str]) -> None:
    """Adds images as a night adds its own."""
    facts = [
        pb.Image(digest=digest, source=pb.SOURCE_SELF, prompt="a cat on a chair", seed=number, unit="base")
        for number, digest in enumerate(digests)
    ]
    answers = client.rater.add_images(pb.AddImagesRequest(taste="tastes/rows", image=image) for image in facts)
    assert not any(answer.HasField("error") for answer in answers)


def _png(turn: int, number: int) -> bytes:
    pixels = np.random.default_rng((turn, number)).integers(0, 256, (64, 64, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()
