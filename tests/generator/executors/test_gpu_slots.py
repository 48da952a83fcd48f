"""An actor holds its GPU while it lives: given back with the memory, so that a training on the cluster finds room."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from konomi.errors import Unavailable
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.executors.opening import open_executor
from konomi_generator.generator import Executor
from konomi_generator.settings import GeneratorSettings
from tests.generator.executors.test_executors import asked_for, cluster, digests, generator, own

__all__ = ["cluster", "generator", "own"]  # fixtures


@pytest.fixture(scope="module")
def on_gpus(cluster, generator, own: GeneratorSettings) -> Iterator[Executor]:
    """Actors on the one GPU of a cluster, which Ray only counts: they draw on the CPU."""
    cluster.add(num_gpus=1)
    settings = ScaleSettings(
        home=own.home, executor="ray", address=cluster.cluster.address, batch_images=2, patience_seconds=120
    )
    executor = open_executor(settings, generator, own)
    yield executor
    executor.close()


@pytest.mark.chaos
@pytest.mark.timeout(280)
def test_release_frees_the_gpu_and_the_next_request_takes_it_again(generator, on_gpus: Executor) -> None:
    import ray

    request = asked_for(4, 300)
    expected = digests(generator, request)
    assert digests(on_gpus, request) == expected
    holder = ray.remote(num_cpus=0, num_gpus=1)(Holder).remote()
    held = holder.here.remote()
    assert not ray.wait([held], timeout=2.0)[0], "the actor that drew has the GPU"
    working = on_gpus.generate(asked_for(8, 400), lambda: False)
    next(working)
    assert on_gpus.release() is None, "a request under way keeps its actors"
    assert len(list(working)) == 7
    assert on_gpus.release() > 0
    assert ray.get(held, timeout=60) and on_gpus.release() == 0
    patience, on_gpus._settings = on_gpus._settings, on_gpus._settings.model_copy(update={"patience_seconds": 2.0})
    try:
        with pytest.raises(Unavailable, match="No actor of the Ray cluster answers"):
            digests(on_gpus, request)
    finally:
        on_gpus._settings = patience
    ray.kill(holder)
    assert digests(on_gpus, request) == expected


def test_without_gpus_actors_end_where_a_training_wants_their_cores(
    generator, own: GeneratorSettings, store: ArtifactStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from konomi_generator.executors import ray_executor as module

    killed = []
    monkeypatch.setattr(module, "ClusterConnection", lambda *_more: Cores(killed))
    monkeypatch.setattr(module, "_start", lambda *_more: ["one", "two"])
    for train_executor, ended in (("local", []), ("ray", ["one", "two"])):
        settings = ScaleSettings(home=tmp_path, executor="ray", train_executor=train_executor)
        executor = module.RayExecutor(generator, settings, own, None, {})
        waiting = [actor.away_since is not None for actor in executor._actors]
        assert waiting == [True, True], "one that waits for what others hold is given no batch before it has answered"
        assert executor.release() == 0 and killed == ended


def test_actors_whose_head_is_lost_while_they_are_asked_give_nothing_back_and_are_left_alone(
    generator, own: GeneratorSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from konomi_generator.executors import ray_executor as module

    killed, asked = [], []
    silent = SimpleNamespace(release=SimpleNamespace(remote=lambda: asked.append(1)))
    monkeypatch.setattr(module, "ClusterConnection", lambda *_more: Cores(killed))
    monkeypatch.setattr(module, "_start", lambda *_more: [silent])
    monkeypatch.setattr(module, "first_answered", lambda _refs, _seconds: [])
    settings = ScaleSettings(home=tmp_path, executor="ray", train_executor="ray")
    executor = module.RayExecutor(generator, settings, own, None, {})
    executor._actors[0].away_since = None
    assert executor.release() == 0 and asked == [1] and not killed


class Holder:
    """Whoever else wants the GPU."""

    def here(self) -> bool:
        return True


class Cores:
    """A stand-in for a cluster without GPUs."""

    lost = False

    def __init__(self, ended: list) -> None:
        self.end = ended.append

    def gpus(self) -> int:
        return 0

    def in_use(self) -> AbstractContextManager[None]:
        return nullcontext()

    def check_head(self) -> None:
        raise Unavailable("The head of the Ray cluster is away.", reason="CLUSTER_AWAY")
