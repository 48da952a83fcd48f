"""One suite over both executors, this process and a Ray cluster of two nodes, and what only a cluster can suffer."""

import io
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import PIL.Image
import pytest

from konomi.errors import Cancelled, FailedPrecondition, InvalidArgument, NotFound, Unavailable
from konomi_chassis.cluster.exposure import check_common_store, check_exposure
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.cluster.versions import DRAWING, written
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.assembly import assemble
from konomi_generator.executors.batches import BatchOutcome, split
from konomi_generator.executors.opening import open_executor
from konomi_generator.generator import Executor, Generator
from konomi_generator.requests import Image, Request
from konomi_generator.settings import GeneratorSettings
from tests.chassis.cluster.ray_cluster import RayPlace, ray_place

pytestmark = pytest.mark.slow
BATCH = 2


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayPlace]:
    with ray_place(2) as place:
        yield place


@pytest.fixture(scope="module")
def own(settings: GeneratorSettings) -> GeneratorSettings:
    return settings.model_copy(update={"image_batch": 1})


@pytest.fixture(scope="module")
def generator(own: GeneratorSettings, store: ArtifactStore) -> Iterator[Generator]:
    decoder = Decoder()
    generator, _ = assemble(own, store, decoder)
    yield generator
    generator.close()
    decoder.close()


@pytest.fixture(scope="module")
def on_ray(cluster: RayPlace, generator: Generator, own: GeneratorSettings) -> Iterator[Executor]:
    settings = ScaleSettings(
        home=own.home, executor="ray", address=cluster.cluster.address, batch_images=BATCH, patience_seconds=120
    )
    executor = open_executor(settings, generator, own)
    yield executor
    executor.close()


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.chaos)])
def executor(request: pytest.FixtureRequest, generator: Generator) -> Executor:
    return generator if request.param == "local" else request.getfixturevalue("on_ray")


def asked_for(count: int, start: int = 0, **more: object) -> Request:
    return Request([Image("a {hair} cat", start + n) for n in range(count)], **{"steps": 1, **more})


def digests(executor: Executor, request: Request, stopped: Callable[[], bool] = lambda: False) -> dict[int, str]:
    return {finished.index: finished.artifact.digest for finished in executor.generate(request, stopped)}


def pixels(store: ArtifactStore, digest: str) -> bytes:
    return PIL.Image.open(io.BytesIO(store.get(digest))).convert("RGB").tobytes()


def test_every_image_comes_once_and_is_stored(executor: Executor, store: ArtifactStore) -> None:
    found = list(executor.generate(asked_for(5), lambda: False))
    assert sorted(finished.index for finished in found) == list(range(5))
    for finished in found:
        assert finished.seed == finished.index and finished.seconds > 0 and finished.error is None
        assert store.stat(finished.artifact.digest) == finished.artifact


def test_both_make_the_same_images(generator: Generator, on_ray: Executor) -> None:
    request = asked_for(4, 100, unit="u")
    assert digests(on_ray, request) == digests(generator, request)
    assert (on_ray.places, generator.places) == (2, 1), "so many draw at the same time"


@pytest.mark.chaos
def test_both_make_the_same_images_whatever_is_asked(generator: Generator, on_ray: Executor) -> None:
    for more in ({"steps": 2, "guidance_scale": 3.0}, {"base_model": "sd1"}, {"width": 72, "negative_prompt": "blur"}):
        request = asked_for(5, 100, **more)
        assert digests(on_ray, request) == digests(generator, request)


def test_what_is_wrong_is_said_in_the_same_words(executor: Executor) -> None:
    cases = [
        (asked_for(1, base_model="none"), NotFound, "MODEL_MISSING"),
        (asked_for(1, adapters=[("0" * 64, 1.0)]), NotFound, "ADAPTER_NOT_FOUND"),
        (asked_for(3, width=65), InvalidArgument, "SIZE"),
    ]
    for request, kind, reason in cases:
        with pytest.raises(kind) as caught:
            digests(executor, request)
        assert caught.value.reason == reason
    assert len(digests(executor, asked_for(2))) == 2, "the next request is served"


def test_a_caller_that_goes_away_ends_the_work(executor: Executor) -> None:
    gone = threading.Event()
    work = executor.generate(asked_for(40, 500, steps=20), gone.is_set)
    next(work)
    gone.set()
    with pytest.raises(Cancelled):
        list(work)
    assert len(digests(executor, asked_for(1))) == 1, "the next request need not wait for the rest of the work"


@pytest.mark.chaos
def test_what_one_made_for_a_night_the_other_need_not(generator: Generator, on_ray: Executor) -> None:
    request = asked_for(6, 700, night="shared")
    first = digests(generator, request)
    again = list(on_ray.generate(request, lambda: False))
    assert all(finished.recalled for finished in again)
    assert {finished.index: finished.artifact.digest for finished in again} == first


@pytest.mark.chaos
def test_nothing_large_goes_through_ray(on_ray: Executor) -> None:
    import ray

    before = ray.available_resources().get("object_store_memory")
    digests(on_ray, asked_for(6, 900))
    assert ray.available_resources().get("object_store_memory") == before


def test_memory_is_given_back(executor: Executor) -> None:
    digests(executor, asked_for(1))
    assert executor.release() > 0 and executor.release() == 0


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_a_killed_node_costs_what_it_had_in_hand_and_nothing_else(
    cluster: RayPlace, generator: Generator, on_ray: Executor, store: ArtifactStore
) -> None:
    request = asked_for(24, 2000, steps=4, night="killed")
    expected = digests(generator, asked_for(24, 2000, steps=4, night="killed local"))
    lost, redone, found, made = on_ray.lost, on_ray.redone, {}, 0
    for finished in on_ray.generate(request, lambda: False):
        assert finished.index not in found, "an image came twice"
        found[finished.index] = finished.artifact.digest
        made += not finished.recalled
        if len(found) == 4:
            cluster.kill()
    assert sorted(found) == list(range(24)) and len(expected) == 24
    lost, redone = on_ray.lost - lost, on_ray.redone - redone  # a busy machine loses an actor without our help too
    assert lost >= 1 and 1 <= redone <= 2 * lost, "only what a lost node had: a batch it made, a batch that waited"
    assert made + redone * BATCH >= 24
    assert digests(on_ray, request) == found and digests(generator, request) == found
    cluster.add()
    assert len(digests(on_ray, asked_for(8, 3000))) == 8


@pytest.mark.chaos
@pytest.mark.timeout(1800)
def test_nodes_killed_at_random_moments_of_a_night(
    cluster: RayPlace, generator: Generator, on_ray: Executor, store: ArtifactStore
) -> None:
    """Each kill waits for some images since the last: by the clock, a busy machine kills actors that never began."""
    plain, rng, kills = asked_for(72, 5000, steps=4, night="chaos"), random.Random(19), 0
    lost, redone, came = on_ray.lost, on_ray.redone, []
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(lambda: [came.append(one) for one in on_ray.generate(plain, lambda: False)])
        due = rng.randint(3, 7)
        while not wait({making}, timeout=0.3 * rng.random()).done:
            if len(came) >= due:
                cluster.kill()
                cluster.add()  # which Ray does in the main thread alone
                kills, due = kills + 1, len(came) + rng.randint(3, 7)
        making.result()
    found = {finished.index: finished.artifact.digest for finished in came}
    assert kills >= 2 and len(came) == len(found) == 72, "every image came once"
    lost, redone = on_ray.lost - lost, on_ray.redone - redone
    assert lost >= kills - 1 and 1 <= redone <= 2 * lost, "the last kill may come after the last batch"
    again = list(on_ray.generate(plain, lambda: False))
    assert all(finished.recalled for finished in again), "what was made of the night is made no more"
    assert {finished.index: finished.artifact.digest for finished in again} == found
    alone = digests(generator, asked_for(72, 5000, steps=4))  # of no night: made anew, and an image names its night
    assert {index: pixels(store, digest) for index, digest in alone.items()} == {
        index: pixels(store, digest) for index, digest in found.items()
    }


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_when_no_actor_answers_the_request_fails_in_words(cluster: RayPlace, on_ray: Executor) -> None:
    while cluster.nodes:
        cluster.kill()
    patience, on_ray._settings = on_ray._settings, on_ray._settings.model_copy(update={"patience_seconds": 2.0})
    try:
        with pytest.raises(Unavailable, match="No actor of the Ray cluster answers") as caught:
            digests(on_ray, asked_for(4, 8000, steps=300))  # longer than an actor outlives its node
        assert caught.value.reason == "CLUSTER_AWAY"
    finally:
        on_ray._settings = patience
        for _ in range(2):
            cluster.add()
    assert len(digests(on_ray, asked_for(4, 8000))) == 4


def test_no_cluster_is_said(generator: Generator, own: GeneratorSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(**_more: object) -> None:
        raise ConnectionError("could not find")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", nobody)
    settings = ScaleSettings(home=own.home, executor="ray", address="127.0.0.1:1")
    with pytest.raises(FailedPrecondition, match=r"There is no Ray cluster at .* Start one") as caught:
        open_executor(settings, generator, own)
    assert caught.value.reason == "CLUSTER_MISSING"


def test_without_ray_the_line_that_brings_it_is_said(generator, own, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("konomi_generator.executors.opening.find_spec", lambda _name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'konomi\[ray\]'") as caught:
        open_executor(ScaleSettings(home=own.home, executor="ray"), generator, own)
    assert caught.value.reason == "MISSING_EXTRA"


def test_another_program_makes_its_images_itself(generator, own) -> None:
    with pytest.raises(FailedPrecondition, match='backend is "sdapi"') as caught:
        open_executor(
            ScaleSettings(home=own.home, executor="ray"), generator, own.model_copy(update={"backend": "sdapi"})
        )
    assert caught.value.reason == "EXECUTOR"


def test_local_is_the_default_and_is_the_generator_itself(generator, own, tmp_path: Path) -> None:
    assert open_executor(ScaleSettings(home=tmp_path), generator, own) is generator


def test_a_worker_with_another_model_refuses(own: GeneratorSettings, home: Path) -> None:
    from konomi_generator.executors.worker import ImageWorker

    worker = ImageWorker(own.model_dump_json(), StoreSettings(home=home).model_dump_json(), written(DRAWING))
    (batch,) = split(asked_for(1), 1, 8)
    outcome = worker.make("job", batch, "0" * 64)
    assert outcome.error.reason == "MODEL_DIFFERS" and "Copy the folder `models`" in outcome.error.message


def test_a_worker_with_another_library_refuses_each_batch(own: GeneratorSettings, home: Path) -> None:
    from konomi_generator.executors.worker import ImageWorker

    worker = ImageWorker(own.model_dump_json(), StoreSettings(home=home).model_dump_json(), '{"diffusers": "0.1"}')
    for batch in split(asked_for(2), 1, 1):
        error = worker.make("job", batch, "0" * 64).error
        assert isinstance(error, FailedPrecondition) and error.reason == "VERSIONS_DIFFER"
    worker.stop("job")
    assert worker.is_stopped("job") and not worker.is_stopped("other")


@pytest.mark.parametrize(
    ("count", "actors", "sizes"),
    [(1, 1, [1]), (10, 1, [3, 3, 3, 1]), (100, 2, [8] * 12 + [4]), (7, 64, [1] * 7), (0, 2, [])],
)
def test_a_request_is_split_so_that_a_slow_actor_can_take_less(count: int, actors: int, sizes: list[int]) -> None:
    batches = split(asked_for(count, preview_every=3), actors, 8)
    assert [len(batch.positions) for batch in batches] == sizes
    assert [position for batch in batches for position in batch.positions] == list(range(count))
    assert all(batch.request.preview_every == 0 for batch in batches)


@pytest.mark.parametrize(
    ("count", "actors", "most", "kept", "sizes"),
    [
        (1, 1, 8, 4, [1]),
        (10, 1, 8, 4, [4, 4, 2]),
        (100, 2, 8, 6, [6] * 16 + [4]),
        (64, 2, 32, 5, [10] * 6 + [4]),
        (7, 64, 8, 2, [2, 2, 2, 1]),
        (9, 1, 4, 16, [4, 4, 1]),
        (0, 2, 8, 4, []),
    ],
)
def test_batches_are_whole_passes_and_small_enough_for_all(count, actors, most, kept, sizes) -> None:
    batches = split(asked_for(count), actors, most, kept)
    assert [len(batch.positions) for batch in batches] == sizes
    assert [position for batch in batches for position in batch.positions] == list(range(count))


@pytest.mark.parametrize(("own", "asked", "kept"), [(0, 0, 1), (4, 0, 4), (4, 2, 2)])
def test_a_pass_is_what_the_request_says_or_else_the_settings(monkeypatch, own, asked, kept) -> None:
    """Every batch of an executor is cut so; who draws them does not matter here."""
    from konomi_generator.executors import ray_executor as module

    seen = []
    monkeypatch.setattr(module, "split", lambda *arguments: seen.append(arguments) or [])
    executor = module.RayExecutor.__new__(module.RayExecutor)
    executor._settings, executor._own = ScaleSettings(), GeneratorSettings(image_batch=own)
    executor._generator, executor._clock = SimpleNamespace(model=lambda _name: (None, "")), lambda: 0.0
    executor.lost = executor.redone = 0
    cluster = SimpleNamespace(check_head=lambda: None)
    monkeypatch.setattr(executor, "_at_work", lambda: nullcontext((cluster, [])))
    assert list(executor.generate(asked_for(4, batch_size=asked), lambda: False)) == []
    assert [arguments[-2:] for arguments in seen] == [(8, kept)]


def test_a_cluster_on_a_network_needs_tokens_and_tls() -> None:
    check_exposure(["127.0.0.1", "::1"], {})
    check_exposure(["10.0.0.1"], {"RAY_AUTH_MODE": "token", "RAY_USE_TLS": "1"})
    for environment in ({}, {"RAY_AUTH_MODE": "token"}, {"RAY_USE_TLS": "1"}, {"RAY_AUTH_MODE": "no"}):
        with pytest.raises(FailedPrecondition, match="whoever reaches its ports could run programs") as caught:
            check_exposure(["127.0.0.1", "10.0.0.1"], environment)
        assert caught.value.reason == "CLUSTER_OPEN"


def test_several_machines_need_a_bucket() -> None:
    check_common_store(["10.0.0.1", "10.0.0.2"], is_local=False)
    check_common_store(["10.0.0.1", "10.0.0.1"], is_local=True)
    with pytest.raises(FailedPrecondition, match="Put them into a bucket") as caught:
        check_common_store(["10.0.0.1", "10.0.0.2"], is_local=True)
    assert caught.value.reason == "STORE_NOT_SHARED"


class Handle:
    """A stand-in for an actor on a clock of the test's own; it takes so many seconds for a batch, or dies of it."""

    def __init__(self, cluster: "Clockwork", name: str, seconds: float, *, dies: bool = False) -> None:
        self.cluster, self.name, self.seconds, self.dies = cluster, name, seconds, dies
        self.free, self.made = 0.0, 0
        self.make = self.stop = self
        self.ready = SimpleNamespace(remote=self._asked)

    def remote(self, *arguments):
        if len(arguments) < 2:
            return None
        self.made += 1
        self.free = max(self.free, self.cluster.now) + self.seconds
        ref = (self.name, self.made)
        self.cluster.due[ref], self.cluster.fails[ref] = self.free, self.dies
        return ref

    def _asked(self):
        ref = (self.name, "ready", len(self.cluster.due))
        self.cluster.due[ref] = self.cluster.now + 0.25
        return ref


class Clockwork:
    """A stand-in for Ray: whatever is due first has come, and then it is that late."""

    def __init__(self) -> None:
        self.now, self.due, self.fails = 0.0, {}, {}

    def wait(self, refs, num_returns, timeout):
        first = min(refs, key=self.due.__getitem__)
        self.now = self.due[first]
        return [first], []

    def get(self, ref, timeout=None):
        from ray import exceptions

        if self.fails.get(ref):
            raise exceptions.RayActorError
        return 1 if "ready" in ref else BatchOutcome(())

    def spread(self, monkeypatch, handles, batches, patience: float = 600.0, away_since: float | None = None):
        from konomi_chassis.cluster import connection
        from konomi_chassis.cluster.spreading import Actor, BatchSpread
        from konomi_generator.executors.ray_executor import _work

        monkeypatch.setattr(connection, "ray", self)
        actors = [Actor(handle, away_since=away_since) for handle in handles]
        return BatchSpread(actors, batches, _work(""), patience, lambda: self.now)


def test_a_slow_actor_takes_fewer_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pulled two ahead: three quick actors and one that takes five times as long."""
    cluster = Clockwork()
    handles = [Handle(cluster, "slow", 5.0), *(Handle(cluster, f"quick{n}", 1.0) for n in range(3))]
    batches = split(asked_for(160), 4, 4)
    work = cluster.spread(monkeypatch, handles, batches)
    assert sorted(batch.number for batch, _ in work.run(lambda: False)) == list(range(40))
    assert sum(handle.made for handle in handles) == len(batches) == 40
    assert handles[0].made == 3 and cluster.now == 15.0, (
        "twelve or thirteen rounds of the quick ones, three of the slow"
    )


def test_actors_that_die_of_every_batch_end_the_request_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Clockwork()
    work = cluster.spread(
        monkeypatch, [Handle(cluster, name, 7.0, dies=True) for name in "ab"], split(asked_for(8), 2, 4)
    )
    with pytest.raises(Unavailable, match="go away before any of them has made a batch") as caught:
        list(work.run(lambda: False))
    assert caught.value.reason == "CLUSTER_AWAY" and 600.0 < cluster.now < 620.0


def test_one_machine_that_never_stays_keeps_no_other_from_its_work(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Clockwork()
    handles = [Handle(cluster, "flies", 1.0, dies=True), Handle(cluster, "stays", 90.0)]
    work = cluster.spread(monkeypatch, handles, split(asked_for(80), 2, 4))
    assert len(list(work.run(lambda: False))) == 20
    assert cluster.now > 600.0 and work.lost > 10 and handles[1].made == 20


def test_what_was_away_before_a_request_has_all_its_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour ago a request ended while all machines were away; they have long been back, and only nobody asked."""
    cluster = Clockwork()
    cluster.now = 3600.0
    work = cluster.spread(monkeypatch, [Handle(cluster, "a", 1.0)], split(asked_for(4), 1, 4), away_since=0.0)
    assert len(list(work.run(lambda: False))) == 4
