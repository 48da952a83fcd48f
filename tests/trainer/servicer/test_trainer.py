"""The trainer on a real socket: a run from request to model, its refusals, idempotency, cancel, promotion."""

import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from konomi.client import connect
from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, KonomiError, NotFound, PermissionDenied
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.auth.authentication import issue_token
from konomi_trainer.storage.schema import SCHEMA
from tests.postgresql import Rows, on_both_engines
from tests.trainer.conftest import Bench


class Trained(NamedTuple):
    """A trainer whose home holds three models of one manifest, the oldest first; none was ever promoted."""

    bench: Bench
    names: list[str]
    manifest: str


@pytest.fixture(scope="module")
def three_models(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Trains them once; nobody changes this home."""
    place = tmp_path_factory.mktemp("three") / "home"
    shutil.copytree(bases, place / "models")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("KONOMI_THREADS", "1")
        bench = Bench(place).start()
        try:
            manifest = bench.manifest()
            names = [bench.trained(manifest, steps=steps).name for steps in (1, 2, 3)]
        finally:
            bench.stop()
    return Trained(bench, names, manifest)


@pytest.fixture
def trained(three_models: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_in: Rows) -> Iterator[Trained]:
    """A running trainer on a copy of that home."""
    monkeypatch.setenv("KONOMI_THREADS", "1")
    place = Path(shutil.copytree(three_models.bench.home, tmp_path / "home"))
    kept_in.move(place, SCHEMA)
    bench = Bench(place).start()
    yield Trained(bench, three_models.names, three_models.manifest)
    bench.stop()


@on_both_engines
def test_a_run_ends_in_a_model_with_its_lineage(bench: Bench) -> None:
    request = bench.request(bench.manifest())
    request.rater_version, request.night = "r7", "n1"
    created = bench.client.trainer.create_training_run(request)
    assert created.state == pb.TRAINING_STATE_QUEUED and created.total_steps == 6
    assert created.request.hyper_parameters.rank == 8 and created.request.hyper_parameters.precision == "fp32"
    states = [run.state for run in bench.client.trainer.watch_training_run(name=created.name)]
    assert states[-1] == pb.TRAINING_STATE_SUCCEEDED
    run = bench.client.trainer.get_training_run(name=created.name)
    assert run.step == 6 and run.loss > 0
    model = bench.client.trainer.get_model(name=run.model)
    assert model.manifest_digest == request.manifest_digest and model.config_digest == run.config_digest
    assert (model.display_name, model.rater_version, model.night, model.seed) == ("unit-1", "r7", "n1", 7)
    assert model.training_run == run.name and not model.current and len(model.base_digest) == 64
    assert model.metrics["steps"] == 6 and model.metrics["images"] == 5 and model.metrics["skipped_steps"] == 0
    assert bench.client.artifacts.get(model.adapter_digest)[8:].startswith(b'{"__metadata__"')
    deadline = time.monotonic() + 20  # they go right after the run's success was committed
    while list((bench.home / "checkpoints").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_same_inputs_give_the_same_adapter_in_another_home(bench: Bench, bases: Path, tmp_path: Path) -> None:
    first = bench.trained(bench.manifest())
    shutil.copytree(bases, tmp_path / "other" / "models")
    other = Bench(tmp_path / "other").start()
    try:
        second = other.trained(other.manifest())
        third = other.trained(other.manifest(), rank=4)
    finally:
        other.stop()
    assert (first.adapter_digest, first.name) == (second.adapter_digest, second.name)
    assert third.adapter_digest != first.adapter_digest


@on_both_engines
def test_a_manifest_and_configuration_train_once(bench: Bench) -> None:
    manifest = bench.manifest()
    request = bench.request(manifest)
    first = bench.client.trainer.create_training_run(request)
    again = bench.client.trainer.create_training_run(request)
    other_id = bench.client.trainer.create_training_run(bench.request(manifest))
    assert again == first and other_id.name == first.name
    done = bench.finish(first.name)
    late = bench.client.trainer.create_training_run(bench.request(manifest))
    assert late.state == pb.TRAINING_STATE_SUCCEEDED and late.model == done.model
    assert len(bench.client.trainer.list_models().models) == 1
    changed = bench.request(manifest, steps=7)
    changed.request_id = request.request_id
    with pytest.raises(AlreadyExists):
        bench.client.trainer.create_training_run(changed)


def test_requests_that_cannot_be_served_say_why(bench: Bench) -> None:
    trainer, manifest = bench.client.trainer, bench.manifest()

    def refused(kind: type[KonomiError], request: pb.CreateTrainingRunRequest) -> KonomiError:
        with pytest.raises(kind) as caught:
            trainer.create_training_run(request)
        return caught.value

    refused(NotFound, bench.request("0" * 64))
    bad = bench.store.put(b'{"schema":"konomi.manifest/1","items":[{"digest":"x"}]}', "application/json").digest
    assert refused(InvalidArgument, bench.request(bad)).field == "manifest.items[0]"
    empty = bench.store.put(b'{"schema":"konomi.manifest/1","items":[]}', "application/json").digest
    assert refused(InvalidArgument, bench.request(empty)).reason == "MANIFEST_EMPTY"
    half = bench.store.get(manifest).replace(b'"digest":"', b'"digest":"0', 1)
    cut = half[: half.index(b'"digest":"0') + 10 + 64] + half[half.index(b'"digest":"0') + 10 + 65 :]
    missing = refused(NotFound, bench.request(bench.store.put(cut, "application/json").digest))
    assert missing.reason == "ARTIFACT_NOT_FOUND"
    assert refused(KonomiError, bench.request(manifest, base="nowhere")).reason == "MODEL_MISSING"
    assert refused(FailedPrecondition, bench.request(manifest, base="starter")).reason == "MODEL_MISSING"
    for name, value in (("steps", -1), ("rank", 300), ("learning_rate", 2.0), ("ema_decay", 1.0)):
        error = refused(InvalidArgument, bench.request(manifest, **{name: value}))
        assert error.field == f"hyper_parameters.{name}"
    error = refused(InvalidArgument, bench.request(manifest, precision="fp8"))  # type: ignore[arg-type]
    assert error.field == "hyper_parameters.precision"
    custom = bench.request(manifest)
    custom.method = pb.TRAINING_METHOD_CUSTOM_DIFFUSION
    assert refused(InvalidArgument, custom).field == "concepts"
    with_concepts = bench.request(manifest)
    with_concepts.concepts.add(token="<a>", class_word="face")
    assert "Custom Diffusion" in refused(InvalidArgument, with_concepts).message
    for concept, field in (
        (pb.Concept(token="cat", class_word="cat"), "concepts[0].token"),
        (pb.Concept(token="<a>", class_word=""), "concepts[0].class_word"),
        (pb.Concept(token="<a>", class_word="face", initial_word="<b>"), "concepts[0].initial_word"),
        (pb.Concept(token="<a>", class_word="face"), "concepts[0].token"),
    ):
        del custom.concepts[:]
        custom.concepts.append(concept)
        assert refused(InvalidArgument, custom).field == field
    custom.concepts.add(token="<a>", class_word="face")
    assert refused(InvalidArgument, custom).field == "concepts[1].token"
    orphan = bench.request(manifest)
    orphan.parents.append("models/nobody")
    assert refused(InvalidArgument, orphan).field == "parents[0]"
    with pytest.raises(NotFound):
        trainer.get_training_run(name="trainingRuns/nobody")
    with pytest.raises(NotFound):
        list(trainer.watch_training_run(name="trainingRuns/nobody"))
    with pytest.raises(NotFound):
        trainer.get_model(name="models/nobody")
    assert not trainer.list_training_runs().training_runs


def test_an_unreadable_image_fails_the_run_and_not_the_server(bench: Bench) -> None:
    from konomi_trainer.data.manifest import ManifestItem, render

    digest = bench.store.put(b"no image at all", "image/png").digest
    manifest = bench.store.put(render((ManifestItem(digest, "", 1.0, "selected"),)), "application/json").digest
    run = bench.finish(bench.client.trainer.create_training_run(bench.request(manifest)).name)
    assert run.state == pb.TRAINING_STATE_FAILED and run.error.reason == "IMAGE_TYPE" and digest in run.error.message
    assert not bench.client.trainer.list_models().models
    assert bench.trained(bench.manifest()).adapter_digest


def test_weights_that_are_no_numbers_diverge_and_register_nothing(bench: Bench) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    path = next((bench.home / "models" / "tiny" / "unet").glob("*.safetensors"))
    weights = load_file(path)
    weights["conv_out.weight"] = torch.full_like(weights["conv_out.weight"], float("nan"))
    save_file(weights, path, {"format": "pt"})
    manifest = bench.manifest()
    run = bench.finish(bench.client.trainer.create_training_run(bench.request(manifest)).name)
    assert run.state == pb.TRAINING_STATE_FAILED and run.error.reason == "DIVERGED"
    assert not bench.client.trainer.list_models().models
    again = bench.client.trainer.create_training_run(bench.request(manifest))
    assert again.state == pb.TRAINING_STATE_FAILED


def test_cancel_stops_a_run_and_a_new_request_goes_on_with_it(bench: Bench) -> None:
    manifest = bench.manifest()
    whole = bench.trained(manifest, steps=40)
    request = bench.request(manifest, steps=100_000)
    name = bench.client.trainer.create_training_run(request).name
    waiting = bench.client.trainer.create_training_run(bench.request(manifest, steps=9)).name
    for run in bench.client.trainer.watch_training_run(name=name):
        if run.step >= 3:
            break
    assert run.phase == "training" and run.eta_seconds > 0
    cancelled = bench.client.trainer.cancel_training_run(name=waiting, request_id=str(uuid.uuid4()))
    assert cancelled.state == pb.TRAINING_STATE_CANCELLED
    began = time.monotonic()
    bench.client.trainer.cancel_training_run(name=name, request_id=str(uuid.uuid4()))
    ended = bench.finish(name)
    assert ended.state == pb.TRAINING_STATE_CANCELLED and time.monotonic() - began < 5
    assert [model.name for model in bench.client.trainer.list_models().models] == [whole.name]
    again = bench.client.trainer.create_training_run(bench.request(manifest, steps=9))
    assert again.name == waiting and again.state == pb.TRAINING_STATE_QUEUED
    assert bench.finish(waiting).state == pb.TRAINING_STATE_SUCCEEDED


def test_a_full_disk_fails_the_run_and_a_new_request_finishes_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = bench.manifest()
    monkeypatch.setenv("KONOMI_FAILPOINT", "trainer.checkpoint.mid_safetensors=enospc@3")
    name = bench.client.trainer.create_training_run(bench.request(manifest)).name
    run = bench.finish(name)
    assert run.state == pb.TRAINING_STATE_FAILED and run.error.reason == "DISK_FULL"
    assert not bench.client.trainer.list_models().models
    monkeypatch.delenv("KONOMI_FAILPOINT")
    assert bench.trained(manifest).training_run == name


@on_both_engines
def test_promotion_and_rollback_walk_the_history(trained: Trained) -> None:
    trainer = trained.bench.client.trainer
    first, second = (trainer.get_model(name=name) for name in trained.names[:2])

    def current() -> list[str]:
        return [model.name for model in trainer.list_models(taste="tastes/default").models if model.current]

    with pytest.raises(FailedPrecondition):
        trainer.rollback_model(taste="tastes/default", request_id=str(uuid.uuid4()))
    assert trainer.promote_model(name=first.name, metrics={"win_rate": 0.6}, request_id=str(uuid.uuid4())).current
    key = str(uuid.uuid4())
    promoted = trainer.promote_model(name=second.name, request_id=key)
    assert current() == [second.name]
    assert trainer.get_model(name=first.name).metrics["win_rate"] == 0.6
    back = str(uuid.uuid4())
    assert trainer.rollback_model(taste="tastes/default", request_id=back).model.name == first.name
    assert trainer.rollback_model(taste="tastes/default", request_id=back).model.name == first.name
    assert trainer.promote_model(name=second.name, request_id=key) == promoted
    assert current() == [first.name]
    assert not trainer.rollback_model(taste="tastes/default", request_id=str(uuid.uuid4())).HasField("model")
    assert current() == []


@on_both_engines
def test_a_rollback_may_go_several_units_back_in_one_transaction(trained: Trained) -> None:
    trainer, names = trained.bench.client.trainer, trained.names

    def promote_all() -> None:
        for name in names:
            trainer.promote_model(name=name, request_id=str(uuid.uuid4()))

    def back(to: str) -> pb.RollbackModelResponse:
        return trainer.rollback_model(taste="tastes/default", to=to, request_id=str(uuid.uuid4()))

    def current() -> list[str]:
        return [model.name for model in trainer.list_models(taste="tastes/default").models if model.current]

    promote_all()
    assert back(names[0]).model.name == names[0]
    assert not back("base").HasField("model") and current() == []
    promote_all()
    with pytest.raises(FailedPrecondition, match="current before"):
        back("models/never")
    assert current() == [names[2]], "a refused rollback changed nothing"
    with pytest.raises(InvalidArgument):
        back("unit-1")


@on_both_engines
def test_pages_and_tastes(trained: Trained) -> None:
    bench, names, manifest = trained
    trainer = bench.client.trainer
    page = trainer.list_models(page_size=2)
    rest = trainer.list_models(page_size=2, page_token=page.next_page_token)
    assert [model.name for model in (*page.models, *rest.models)] == names[::-1] and not rest.next_page_token
    assert len(trainer.list_training_runs(page_size=2).training_runs) == 2
    with pytest.raises(InvalidArgument):
        trainer.list_models(page_token="nonsense")
    assert not trainer.list_models(taste="tastes/other").models
    assert bench.server is not None
    token = issue_token(bench.home, "loop", "service", "other")
    with connect(bench.server.address, token=token) as stranger:
        for call in (stranger.trainer.get_model, stranger.trainer.export_model):
            with pytest.raises(PermissionDenied):
                call(name=names[0], **({"format": 1} if call is stranger.trainer.export_model else {}))
        theirs = bench.request(manifest)
        theirs.taste = "tastes/other"
        theirs.parents.append(names[0])
        with pytest.raises(InvalidArgument):
            stranger.trainer.create_training_run(theirs)
