"""Checkpoints that are published for others to judge, and a run that ends at the one they choose."""

import io
import time
import uuid

import pytest
import torch
from PIL import Image
from safetensors.torch import load

from konomi.errors import FailedPrecondition, NotFound
from konomi.v1 import trainer_pb2 as pb
from tests.trainer.conftest import Bench

REPORTS = pb.CheckpointReports(adapters=True, sample_prompts=["face 0", "face 1"], sample_steps=2)


def create(bench: Bench, manifest: str, **numbers: float) -> pb.TrainingRun:
    request = bench.request(manifest, **numbers)
    request.reports.CopyFrom(REPORTS)
    return bench.client.trainer.create_training_run(request)


def test_a_run_publishes_adapters_losses_and_sheets(bench: Bench) -> None:
    manifest = bench.manifest(6)
    run = bench.finish(create(bench, manifest, validation_share=0.34, learning_rate=0.02).name)
    assert [checkpoint.step for checkpoint in run.checkpoints] == [2, 4, 6]
    model = bench.client.trainer.get_model(name=run.model)
    last = run.checkpoints[-1]
    assert last.adapter_digest == model.adapter_digest and last.validation_loss == model.metrics["validation_loss"]
    assert model.metrics["images"] == 4 and model.metrics["held_out_images"] == 2
    assert len({checkpoint.adapter_digest for checkpoint in run.checkpoints}) == 3
    sheets = [Image.open(io.BytesIO(bench.store.get(checkpoint.sheet_digest))) for checkpoint in run.checkpoints]
    assert all(sheet.size == (128, 64) for sheet in sheets)
    quiet = bench.trained(manifest, validation_share=0.34, learning_rate=0.02, ema_decay=0.5)
    assert quiet.adapter_digest != model.adapter_digest
    kohya = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_KOHYA)
    assert b"modelspec.thumbnail" in bench.store.get(kohya.digest)


def test_publishing_changes_nothing_of_what_is_learnt(bench: Bench) -> None:
    manifest = bench.manifest(4)
    run = bench.finish(create(bench, manifest, ema_decay=0.9).name)
    again = bench.client.trainer.create_training_run(bench.request(manifest, ema_decay=0.9))
    assert again.name == run.name
    other = Bench(bench.home.with_name("other"))
    bench.home.with_name("other").mkdir(exist_ok=True)
    (bench.home.with_name("other") / "models").symlink_to(bench.home / "models")
    other.start()
    try:
        plain = other.trained(other.manifest(4), ema_decay=0.9)
    finally:
        other.stop()
    told = bench.client.trainer.get_model(name=run.model)
    assert plain.adapter_digest == told.adapter_digest


def test_a_run_ends_at_the_checkpoint_that_was_chosen(bench: Bench) -> None:
    trainer = bench.client.trainer
    name = create(bench, bench.manifest(4), steps=100_000, learning_rate=0.01).name
    for run in trainer.watch_training_run(name=name):
        if len(run.checkpoints) >= 2:
            break
    first = run.checkpoints[0]
    request = pb.FinishTrainingRunRequest(
        name=name, step=first.step, metrics={"win_rate": 0.8}, request_id=str(uuid.uuid4())
    )
    with pytest.raises(NotFound) as caught:
        trainer.finish_training_run(name=name, step=1, request_id=str(uuid.uuid4()))
    assert caught.value.reason == "CHECKPOINT_NOT_FOUND"
    ended = trainer.finish_training_run(request)
    assert ended.state == pb.TRAINING_STATE_SUCCEEDED and trainer.finish_training_run(request) == ended
    model = trainer.get_model(name=ended.model)
    assert model.adapter_digest == first.adapter_digest and model.metrics["win_rate"] == 0.8
    assert model.metrics["steps"] == first.step
    assert all(torch.isfinite(t).all() for t in load(bench.store.get(model.adapter_digest)).values())
    after = bench.trained(bench.manifest(2), steps=1)
    still = trainer.get_training_run(name=name)
    assert after.name != model.name and still.state == pb.TRAINING_STATE_SUCCEEDED and still.step == first.step
    deadline = time.monotonic() + 60
    while list((bench.home / "checkpoints").iterdir()):  # they go once the end of a run is on record
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_run_that_has_ended_may_be_given_an_earlier_checkpoint_until_promoted(bench: Bench) -> None:
    trainer = bench.client.trainer
    run = bench.finish(create(bench, bench.manifest(4), learning_rate=0.01).name)
    first = run.checkpoints[0]
    trainer.finish_training_run(name=run.name, step=first.step, request_id=str(uuid.uuid4()))
    model = trainer.get_model(name=run.model)
    assert model.adapter_digest == first.adapter_digest and model.metrics["steps"] == first.step
    trainer.promote_model(name=model.name, request_id=str(uuid.uuid4()))
    with pytest.raises(FailedPrecondition) as caught:
        trainer.finish_training_run(name=run.name, step=run.checkpoints[1].step, request_id=str(uuid.uuid4()))
    assert caught.value.reason == "MODEL_PROMOTED"
