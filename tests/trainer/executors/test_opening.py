"""Who trains, by the settings, and what is said where a cluster cannot."""

import json
from pathlib import Path

import pytest

from konomi.errors import FailedPrecondition, NotFound, Unavailable
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_trainer.executors.opening import open_cluster_trainer
from konomi_trainer.executors.training_worker import TrainingWorker, check_model
from konomi_trainer.settings import TrainerSettings


def opened(home: Path) -> object:
    return open_cluster_trainer(home, TrainerSettings(home=home), ArtifactStore(StoreSettings(home=home)))


@pytest.fixture
def on_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONOMI_SCALE_TRAIN_EXECUTOR", "ray")
    monkeypatch.setenv("KONOMI_SCALE_ADDRESS", "127.0.0.1:1")


def test_the_service_trains_itself_where_nobody_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "konomi.toml").write_text('[scale]\nexecutor = "ray"\n')
    assert opened(tmp_path) is None, "images on a cluster say nothing of trainings"


def test_without_ray_the_line_that_brings_it_is_said(
    on_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("konomi_trainer.executors.opening.find_spec", lambda _name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'konomi\[trainer,ray\]'") as caught:
        opened(tmp_path)
    assert caught.value.reason == "MISSING_EXTRA"


@pytest.mark.slow
def test_no_cluster_is_said_at_once(on_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray itself would wait for somebody to listen there, for ten minutes and more."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_more: pytest.fail("nobody listens there"))
    with pytest.raises(FailedPrecondition, match=r"There is no Ray cluster at .* Start one") as caught:
        opened(tmp_path)
    assert caught.value.reason == "CLUSTER_MISSING"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("environment", "reason", "words"),
    [
        ({}, "CLUSTER_OPEN", "whoever reaches its ports could run programs"),
        ({"RAY_AUTH_MODE": "token", "RAY_USE_TLS": "1"}, "STORE_NOT_SHARED", "Put them into a bucket"),
    ],
)
def test_a_cluster_anybody_could_use_or_without_a_common_store_is_refused(
    on_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict, reason: str, words: str
) -> None:
    nodes = [{"NodeManagerAddress": f"10.0.0.{number}", "Alive": True} for number in (1, 2)]
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(FailedPrecondition, match=words) as caught:
        opened(tmp_path)
    assert caught.value.reason == reason


def test_an_actor_with_another_library_says_so_and_trains_nothing() -> None:
    worker = TrainingWorker(json.dumps({"versions": {"torch": "0.1"}}))
    worker._work()
    failed, ended = worker.hear()
    assert failed["event"] == "failed" and failed["reason"] == "VERSIONS_DIFFER" and ended["event"] == "ended"
    assert "in place of 0.1" in failed["message"] and 'pip install "torch==0.1"' in failed["message"]


def test_a_machine_with_another_model_or_none_refuses(bases: Path, tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to(bases)
    models = BaseModels(tmp_path)
    digest = models.digest(models.get("tiny"))
    check_model(tmp_path, {"base_model": "tiny", "base_digest": digest})
    with pytest.raises(FailedPrecondition, match="Copy the folder `models` of the home to every machine") as caught:
        check_model(tmp_path, {"base_model": "tiny", "base_digest": "0" * 64})
    assert caught.value.reason == "MODEL_DIFFERS" and digest[:12] in caught.value.message
    with pytest.raises(NotFound) as missing:
        check_model(tmp_path, {"base_model": "none", "base_digest": digest})
    assert missing.value.reason == "MODEL_MISSING"
    assert "said by a machine of the cluster. Copy the folder `models`" in missing.value.message


@pytest.mark.slow
def test_machines_that_go_away_before_a_checkpoint_end_the_run_in_words_once_patience_is_over() -> None:
    from konomi_trainer.executors.cluster_trainer import FRUITLESS, _Losses

    now = [0.0]
    losses = _Losses(600.0, lambda: now[0])
    for _ in range(100):
        losses.count(fruitless=True)  # at once, one after another: patience is not over
    now[0] = 10_000.0
    losses.count(fruitless=False)  # a checkpoint came, however late
    now[0] += 601.0
    for _ in range(FRUITLESS):
        losses.count(fruitless=True)
    with pytest.raises(Unavailable, match="before the training run has reached its next checkpoint") as caught:
        losses.count(fruitless=True)
    assert caught.value.reason == "CLUSTER_AWAY" and "goes on from its newest checkpoint" in caught.value.message
