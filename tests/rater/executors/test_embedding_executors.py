"""One suite over both ways to embed a taste's images, in this process and on Ray, and what only a cluster suffers."""

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from konomi.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.cluster.versions import EMBEDDING, written
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_rater.embedding.batching import Batcher, queue_limits
from konomi_rater.embedding.device import placement
from konomi_rater.embedding.fingerprint import Fingerprints
from konomi_rater.embedding.registry import Embedders
from konomi_rater.embedding.requests import Caller, Embedded
from konomi_rater.executors.batches import DigestBatch, EmbeddedBatch, split
from konomi_rater.executors.opening import open_executor
from konomi_rater.executors.worker import EmbeddingWorker
from konomi_rater.settings import RaterSettings
from konomi_rater.usecases.vectors import Vectors
from tests.chassis.cluster.ray_cluster import RayPlace, ray_place
from tests.rater.conftest import filled, grades_of, make_embedder, png, serving

pytestmark = pytest.mark.slow
BATCH = 16
EMBEDDER = "starter"
VERSIONS = written(EMBEDDING)


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayPlace]:
    with ray_place(2) as place:
        yield place


@pytest.fixture(scope="module")
def own(models: Path, tmp_path_factory: pytest.TempPathFactory) -> RaterSettings:
    home = tmp_path_factory.mktemp("embedding")
    (home / "models").symlink_to(models)
    return RaterSettings(home=home, embedder_device="cpu", embedder_threads=1)


@pytest.fixture(scope="module")
def store(own: RaterSettings) -> ArtifactStore:
    return ArtifactStore(StoreSettings(home=own.home, min_free_bytes=0))


@pytest.fixture(scope="module")
def embedders(own: RaterSettings) -> Embedders:
    return Embedders(own.home / "models", placement(own))


@pytest.fixture(scope="module")
def digests(store: ArtifactStore) -> list[str]:
    """160 images, of sizes and forms that differ."""
    forms = ("PNG", "JPEG", "WEBP")
    drawn = (png((n, 255 - n, 90), n, 32 + 7 * (n % 9), forms[n % 3]) for n in range(160))
    return [store.put(data, "image/png").digest for data in drawn]


@pytest.fixture(scope="module")
def local(own: RaterSettings, store: ArtifactStore, embedders: Embedders) -> Iterator[Vectors]:
    decoder = Decoder()
    batcher = Batcher(decoder.decode, queue_limits(own, embedders.batch, 2))
    yield Vectors(store, embedders, lambda: batcher, 0)
    batcher.close()
    decoder.close()


@pytest.fixture(scope="module")
def executor(cluster: RayPlace, embedders: Embedders, own: RaterSettings):
    scale = ScaleSettings(
        home=own.home,
        embed_executor="ray",
        address=cluster.cluster.address,
        embed_batch_images=BATCH,
        patience_seconds=120,
    )
    executor = open_executor(scale, embedders, own)
    yield executor
    executor.close()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.chaos)])
def vectors(request: pytest.FixtureRequest, local: Vectors) -> Vectors:
    return local if request.param == "local" else on_ray(request.getfixturevalue("executor"))


def on_ray(executor) -> Vectors:
    return Vectors(None, None, None, 0, executor)


def patient() -> Caller:
    return Caller("owner", patient=True)


def rows(found: Sequence[Embedded]) -> np.ndarray:
    return np.stack([one.vector for one in found])


def test_a_damaged_image_is_its_own_error_and_nobody_elses(vectors, store, digests) -> None:
    given = [digests[0], store.put(b"\x89PNG\r\n\x1a\n nothing", "image/png").digest, digests[1], "0" * 64]
    first, damaged, second, missing = vectors.keepable(EMBEDDER, given, patient())
    assert isinstance(damaged, InvalidArgument) and damaged.reason == "IMAGE_UNREADABLE"
    assert damaged.field == "image.digest"
    assert isinstance(missing, NotFound) and missing.reason == "ARTIFACT_NOT_FOUND"
    assert (first.width, first.height) == (32, 32) and (second.width, second.height) == (39, 39)


def test_what_is_wrong_is_said_in_the_same_words(vectors, digests) -> None:
    for name, kind, reason in (
        ("nonsense", InvalidArgument, "EMBEDDER_UNKNOWN"),
        ("open_clip:ViT-B-32/none", FailedPrecondition, "EMBEDDER_MISSING"),
    ):
        with pytest.raises(kind) as caught:
            vectors.keepable(name, digests[:2], patient())
        assert caught.value.reason == reason
    assert len(vectors.keepable(EMBEDDER, digests[:2], patient())) == 2 and vectors.keepable("x", [], patient()) == []


def test_a_caller_that_went_away_waits_no_more(vectors, digests) -> None:
    gone = patient()
    gone.end()
    with pytest.raises(Cancelled):
        vectors.keepable(EMBEDDER, digests, gone)
    assert len(vectors.keepable(EMBEDDER, digests[:1], patient())) == 1, "the next one is served"


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_both_give_the_same_bits(local, executor, digests) -> None:
    here, there = (vectors.keepable(EMBEDDER, digests, patient()) for vectors in (local, on_ray(executor)))
    assert rows(here).tobytes() == rows(there).tobytes()
    assert [(one.width, one.height) for one in here] == [(one.width, one.height) for one in there]
    alone = on_ray(executor).keepable(EMBEDDER, digests[77:78], patient())
    assert alone[0].vector.tobytes() == here[77].vector.tobytes(), "whatever is embedded beside it"


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_a_killed_node_costs_what_it_had_in_hand_and_nothing_else(cluster, local, executor, digests) -> None:
    expected = rows(local.keepable(EMBEDDER, digests, patient())).tobytes()
    executor.embed(EMBEDDER, digests, patient())  # both actors are there
    many = digests * 20  # so that a node is lost long before the end
    before, killed = (executor.lost, executor.redone), []
    from konomi_rater.executors import ray_executor as module

    class Killing(module.BatchSpread):
        """Loses a node while its batches are under way."""

        def _taken(self, ref):
            if not killed and len(self._running) > 1:
                killed.append(ref)
                cluster.kill_elsewhere()
            yield from super()._taken(ref)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BatchSpread", Killing)
        found = executor.embed(EMBEDDER, many, patient())
    lost, redone = executor.lost - before[0], executor.redone - before[1]
    assert killed and rows(found).tobytes() == expected * 20
    assert lost >= 1 and 1 <= redone <= 2 * lost, "only what a lost node had: a batch it embedded, one that waited"
    cluster.add()
    assert rows(executor.embed(EMBEDDER, digests, patient())).tobytes() == expected


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_a_taste_is_the_same_wherever_its_images_were_embedded(cluster, executor, models, tmp_path) -> None:
    """Rows of the database, and the digest of what is fitted on them; embedded by one process, then on two nodes."""
    executor._pool.close()  # a process is in a cluster once
    found = []
    for kind in ("local", "ray"):
        home = tmp_path / kind
        home.mkdir()
        (home / "models").symlink_to(models)
        lines = (f'embed_executor = "{kind}"', f'address = "{cluster.cluster.address}"', "embed_batch_images = 16")
        (home / "konomi.toml").write_text("\n".join(("[scale]", *lines)))
        with serving(home) as rater:
            library = filled(rater)
            rater.label(library.taste, grades_of(library, library.digests[:40]))
            version = rater.fit(library.taste)
            (listed,) = rater.call("ListTastes", pb.ListTastesRequest()).tastes
        with closing(sqlite3.connect(home / "databases" / "rater.sqlite")) as database:
            embedded = database.execute("SELECT * FROM embeddings ORDER BY digest").fetchall()
        found.append((embedded, version.artifact_digest, listed.image_count))
    assert found[0] == found[1] and len(found[0][0]) == 120 and found[0][1]


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_requests_of_several_people_share_the_actors(local, executor, digests) -> None:
    expected = rows(local.keepable(EMBEDDER, digests, patient()))
    with ThreadPoolExecutor(4) as pool:
        work = [pool.submit(executor.embed, EMBEDDER, digests[n::4], Caller(f"p{n}", patient=True)) for n in range(4)]
        for n, one in enumerate(work):
            assert rows(one.result()).tobytes() == expected[n::4].tobytes()


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_actors_end_when_nobody_needs_them_and_come_back_with_the_next(executor, digests, monkeypatch) -> None:
    import ray

    executor.embed(EMBEDDER, digests[:32], patient())
    assert executor._pool._handles and ray.is_initialized()
    ended, end_all = threading.Event(), executor._pool._end_all
    monkeypatch.setattr(executor._pool, "_idle_seconds", 0.0)
    monkeypatch.setattr(executor._pool, "_end_all", lambda: (end_all(), ended.set()))
    executor.embed(EMBEDDER, digests[:2], patient())
    assert ended.wait(60)
    assert not executor._pool._handles and not ray.is_initialized(), "the cluster is left too"
    monkeypatch.undo()
    assert len(executor.embed(EMBEDDER, digests[:2], patient())) == 2


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_where_others_hold_all_cores_it_is_said(cluster, own, embedders, executor, digests) -> None:
    scale = ScaleSettings(
        home=own.home, embed_executor="ray", address=cluster.cluster.address, actor_cpus=64, patience_seconds=1.0
    )
    crowded = open_executor(scale, embedders, own)
    executor._pool.close()  # a process is in a cluster once
    try:
        with pytest.raises(Unavailable, match="other actors hold their GPUs and cores") as caught:
            crowded.embed(EMBEDDER, digests[:4], patient())
        assert caught.value.reason == "CLUSTER_AWAY" and caught.value.retry_after == 60.0
    finally:
        crowded.close()


def test_a_worker_with_another_embedder_refuses(own, store, digests, tmp_path) -> None:
    settings = own.model_copy(update={"home": tmp_path})
    worker = EmbeddingWorker(settings.model_dump_json(), StoreSettings(home=own.home).model_dump_json(), 1, VERSIONS)
    service = Fingerprints(own.home / "models").of(EMBEDDER)
    batch = DigestBatch(0, digests[:1])
    missing = worker.embed("job", batch, EMBEDDER, service, "").error
    assert missing.reason == "EMBEDDER_DIFFERS" and "is another (missing) than that of the service" in missing.message
    make_embedder(tmp_path / "models" / "starter" / "embedder", seed=1)
    other = worker.embed("job", batch, EMBEDDER, service, "").error
    assert other.reason == "EMBEDDER_DIFFERS" and "Copy the folder `models` of the home" in other.message


def test_a_worker_with_another_library_refuses(own, digests) -> None:
    store = StoreSettings(home=own.home).model_dump_json()
    worker = EmbeddingWorker(own.model_dump_json(), store, 1, '{"torch": "0.1"}')
    service = Fingerprints(own.home / "models").of(EMBEDDER)
    error = worker.embed("job", DigestBatch(0, digests[:1]), EMBEDDER, service, "").error
    assert error.reason == "VERSIONS_DIFFER" and "in place of 0.1" in error.message


def test_a_stopped_job_is_not_begun(own, digests) -> None:
    store = StoreSettings(home=own.home).model_dump_json()
    worker = EmbeddingWorker(own.model_dump_json(), store, 1, VERSIONS)
    service, batch = Fingerprints(own.home / "models").of(EMBEDDER), DigestBatch(0, digests[:2])
    worker.stop("gone")
    assert worker.embed("gone", batch, EMBEDDER, service, "").error.reason == "CANCELLED"
    assert len(worker.embed("other", batch, EMBEDDER, service, "").results) == 2 and worker.ready() == os.getpid()
    assert not worker._callers, "nobody waits"
    worker._batcher().close()
    worker._decoder.close()


def test_a_worker_gives_the_same_bits_whatever_else_it_embeds(own, local, digests) -> None:
    expected = local.keepable(EMBEDDER, digests[:48], patient())
    worker = EmbeddingWorker(own.model_dump_json(), StoreSettings(home=own.home).model_dump_json(), 2, VERSIONS)
    service = Fingerprints(own.home / "models").of(EMBEDDER)
    batches = split(digests[:48], 2, 7, 1)
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(worker.embed, "job", batch, EMBEDDER, service, "") for batch in batches]
        found = [one for answer in answers for one in answer.result().results]
    assert rows(found).tobytes() == rows(expected).tobytes()
    worker._batcher().close()
    worker._decoder.close()


def test_a_fingerprint_is_of_every_file_of_every_part(tmp_path: Path) -> None:
    models = tmp_path / "models"
    make_embedder(models / "starter" / "embedder")
    for name in ("a", "b"):
        (models / "timm" / name).mkdir(parents=True)
        (models / "timm" / name / "w.safetensors").write_bytes(name.encode())
    joined = "starter+timm:a/w"

    def now(name: str) -> str:
        return Fingerprints(models).of(name)

    seen = {now(joined), now("starter"), now("timm:a/w"), now("timm:b/w"), now("starter+timm:b/w")}
    assert len(seen) == 5 and now(joined) == now(joined) and now("timm:c/w") == ""
    (models / "starter" / "embedder" / "model.json").write_text("{}")
    assert now(joined) not in seen


def test_no_cluster_is_said(embedders, own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    scale = ScaleSettings(home=own.home, embed_executor="ray", address="127.0.0.1:1")
    executor = open_executor(scale, embedders, own)
    for _ in range(2):  # the rater itself serves on
        with pytest.raises(FailedPrecondition, match=r"There is no Ray cluster at .* Start one") as caught:
            executor.embed(EMBEDDER, ["0" * 64], patient())
        assert caught.value.reason == "CLUSTER_MISSING"


@pytest.mark.parametrize(
    ("nodes", "reason"), [(["10.0.0.1"], "CLUSTER_OPEN"), (["127.0.0.1", "127.0.0.2"], "STORE_NOT_SHARED")]
)
def test_an_open_cluster_and_a_store_of_one_machine_are_refused(embedders, own, monkeypatch, nodes, reason) -> None:
    alive = [{"Alive": True, "NodeManagerAddress": node} for node in nodes]
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: alive)
    executor = open_executor(ScaleSettings(home=own.home, embed_executor="ray"), embedders, own)
    with pytest.raises(FailedPrecondition) as caught:
        executor.embed(EMBEDDER, ["0" * 64], patient())
    assert caught.value.reason == reason


def test_without_ray_the_line_that_brings_it_is_said(embedders, own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("konomi_rater.executors.opening.find_spec", lambda _name: None)
    with pytest.raises(FailedPrecondition, match=r"embed_executor .* pip install 'konomi\[ray\]'") as caught:
        open_executor(ScaleSettings(home=own.home, embed_executor="ray"), embedders, own)
    assert caught.value.reason == "MISSING_EXTRA"


def test_local_is_the_default_and_a_rater_that_only_reads_joins_no_cluster(embedders, own, tmp_path: Path) -> None:
    assert open_executor(ScaleSettings(home=tmp_path), embedders, own) is None
    replica = own.model_copy(update={"read_only": True})
    assert open_executor(ScaleSettings(home=tmp_path, embed_executor="ray"), embedders, replica) is None


@pytest.mark.parametrize(
    ("count", "actors", "most", "sizes"),
    [
        (1, 1, 64, [1]),
        (160, 2, 64, [32] * 5),
        (100, 1, 64, [32, 32, 32, 4]),
        (1000, 2, 64, [64] * 15 + [40]),
        (40, 64, 64, [16, 16, 8]),
        (100, 1, 40, [32, 32, 32, 4]),
        (1000, 1, 40, [32] * 31 + [8]),
        (9, 1, 4, [4, 4, 1]),
        (0, 2, 64, []),
    ],
)
def test_batches_are_whole_passes_and_small_enough_for_all(count, actors, most, sizes) -> None:
    batches = split([str(n) for n in range(count)], actors, most, 16)
    assert [len(batch.digests) for batch in batches] == sizes
    assert [digest for batch in batches for digest in batch.digests] == [str(n) for n in range(count)]
    assert [batch.start for batch in batches] == [sum(sizes[:n]) for n in range(len(sizes))]


def test_answers_come_back_in_the_order_of_the_images(embedders, own, monkeypatch) -> None:
    """Whatever order the actors answer in; of a batch that came to nothing the request is told."""
    from konomi_rater.executors import ray_executor as module

    class Backwards:
        lost = redone = 0
        error = None

        def __init__(self, actors, batches, *_more) -> None:
            assert all(actor.away_since is not None for actor in actors), "given nothing before it answers"
            self.batches = batches

        def run(self, _stopped):
            for batch in reversed(self.batches):
                yield batch, EmbeddedBatch([Embedded(np.zeros(1), int(d), 1) for d in batch.digests], self.error)

        def stop(self) -> None:
            self.stopped = True

    monkeypatch.setattr(module, "BatchSpread", Backwards)
    does = {"gpus": lambda: 0, "cores": lambda: 3, "close": lambda: None, "in_use": nullcontext}
    does |= {"lost": False, "check_head": lambda: None, "end": lambda _handle: None}
    monkeypatch.setattr(module, "ClusterConnection", lambda *_: SimpleNamespace(**does))
    scale = ScaleSettings(home=own.home, embed_executor="ray", embed_batch_images=16)
    executor = open_executor(scale, embedders, own)
    executor._pool._start = lambda _cluster: object()
    found = executor.embed(EMBEDDER, [str(n) for n in range(100)], patient())
    assert [one.width for one in found] == list(range(100)) and executor.portion == 3 * 4 * 16
    Backwards.error = Unavailable("The store is away.", reason="STORE_UNREACHABLE")
    with pytest.raises(Unavailable, match="The store is away"):
        executor.embed(EMBEDDER, ["1"], patient())
    executor.close()
