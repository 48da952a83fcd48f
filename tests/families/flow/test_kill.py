"""`kill -9` of the trainer while it trains a flow model: it resumes and ends in the bytes of a run nobody broke.

The broken run has its blocks come one by one, the unbroken one has them all there: the same bytes again.
"""

from pathlib import Path

import pytest

from konomi.errors import Unavailable
from konomi.v1 import trainer_pb2 as pb
from tests.trainer.conftest import Bench
from tests.trainer.jobs.test_kill import Child, finish

IDS = ("sd3", "flux1-dev", "chroma", "qwen-image", "klein-base", "z-image", "lumina2")
QUICK = "z-image"
SIDES = {"lumina2": 64}
NUMBERS = {"steps": 5, "checkpoint_steps": 2, "batch_size": 2}
POINTS = ("trainer.checkpoint.mid_safetensors", "trainer.step@4", "trainer.before_adapter")


def copy(source: Path, folder: Path, id: str) -> Path:
    (folder / "models").mkdir(parents=True)
    (folder / "models" / id).symlink_to(source / "models" / id)
    return folder


def unbroken(home: Path, id: str) -> tuple[pb.CreateTrainingRunRequest, str]:
    """Returns a request and the digest of the adapter its run ends in."""
    bench = Bench(home).start()
    try:
        request = bench.request(bench.manifest(3, SIDES.get(id, 32)), id, **NUMBERS)
        name = bench.client.trainer.create_training_run(request).name
        *_, last = bench.client.trainer.watch_training_run(name=name)
        assert last.state == pb.TRAINING_STATE_SUCCEEDED, last
        (model,) = bench.client.trainer.list_models().models
        return request, model.adapter_digest
    finally:
        bench.stop()


@pytest.mark.slow
def test_a_run_killed_between_two_checkpoints_ends_in_the_same_adapter(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(QUICK, ("trainer.step@4",), home, tmp_path, monkeypatch)


@pytest.mark.chaos
@pytest.mark.parametrize("id", IDS)
def test_a_run_killed_again_and_again_ends_in_the_same_adapter(
    id: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(id, POINTS, home, tmp_path, monkeypatch)


def check(id: str, points: tuple[str, ...], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONOMI_THREADS", "1")
    request, digest = unbroken(copy(home, tmp_path / "whole", id), id)
    broken = copy(home, tmp_path / "broken", id)
    (broken / "konomi.toml").write_text("[trainer]\nblock_offload = true\n")
    Bench(broken).manifest(3, SIDES.get(id, 32))
    for point in points:
        child = Child(broken, point)
        with pytest.raises(Unavailable):
            finish(child, request)
        assert child.killed(), f"{point} was never passed"
    child = Child(broken)
    assert finish(child, request).state == pb.TRAINING_STATE_SUCCEEDED
    assert child.client is not None
    assert [model.adapter_digest for model in child.client.trainer.list_models().models] == [digest]
    assert child.terminate() == 0
