"""The head of the cluster dies while images are embedded there: the rater serves on, and embeds with the next head."""

import itertools
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from konomi.errors import Unavailable
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.chassis.cluster.lost_head import free_port, kill_head, on_cluster, served
from tests.chassis.cluster.ray_cluster import ray_place
from tests.rater.conftest import Rater, connected, png, serving

AT_ONCE = 40
"""Images of a stream; streams come until the head is given up."""


def home_of(folder: Path, models: Path) -> Path:
    folder.mkdir()
    (folder / "models").symlink_to(models)
    return folder


def drawn(rater: Rater, first: int) -> list[str]:
    """Stores the images of a stream, each with a colour of its own."""
    places = range(first, first + AT_ONCE)
    return [rater.put(png((n % 256, n // 256 % 256, 90), n)) for n in places]


def add(rater: Rater, taste: str, digests: Sequence[str]) -> list[str]:
    images = [pb.Image(digest=digest, source=pb.SOURCE_SELF, prompt="a face") for digest in digests]
    answers = rater.add(taste, images)
    assert not any(answer.HasField("error") for answer in answers), "it fails as a whole, and no image is refused"
    return list(digests)


def embedded(home: Path, digests: Sequence[str]) -> list[tuple]:
    """Returns the rows of images, whatever else is there."""
    with closing(sqlite3.connect(home / "databases" / "rater.sqlite")) as database:
        rows = database.execute("SELECT * FROM embeddings ORDER BY digest").fetchall()
    return [row for row in rows if set(digests) & set(row)]


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_rater_outlives_the_head_and_embeds_what_is_left_with_the_next_one(models: Path, tmp_path: Path) -> None:
    port, home = free_port(), home_of(tmp_path / "ray", models)
    settings = on_cluster(port, embed_executor="ray", embed_batch_images="16")
    with ray_place(2, gcs_server_port=port) as place, served("rater", home, settings) as (process, where):
        rater = connected(home, ArtifactStore(StoreSettings(home=home)), where)
        taste, begun, added = rater.taste(), threading.Event(), []

        def adding() -> None:
            for first in itertools.count(0, AT_ONCE):
                added.extend(add(rater, taste, drawn(rater, first)))
                begun.set()

        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(adding)
            assert begun.wait(120), work
            kill_head(place)
            with pytest.raises(Unavailable, match="The head of the Ray cluster is away") as caught:
                work.result()
        assert caught.value.reason == "CLUSTER_AWAY" and process.poll() is None
        rater.label(taste, {added[0]: 5, added[1]: 1})  # who grades hears nothing of it
        left = drawn(rater, len(added))
        with pytest.raises(Unavailable) as again:
            add(rater, taste, left)
        assert again.value.reason == "CLUSTER_AWAY", "not back yet"
        place.cluster.shutdown()
        with ray_place(2, gcs_server_port=port):
            add(rater, taste, left)
            process.terminate()
            assert process.wait(120) == 0
    with serving(home_of(tmp_path / "local", models)) as alone:
        some = [*drawn(alone, 0), *drawn(alone, len(added))]
        add(alone, alone.taste(), some)
        rows = embedded(alone.home, some)
    assert embedded(home, some) == rows and len(rows) == len(some)
