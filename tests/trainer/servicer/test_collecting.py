"""Superseded checkpoints over a socket: which adapters go, what stays, and what is said of what is gone."""

import json
import os
import time
import uuid

import pytest

from konomi.errors import FailedPrecondition, NotFound
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.data.cache import TensorCache

BOTH_ENGINES = True
DAY = 86400.0


@pytest.fixture
def run(bench):
    """A finished run that published the adapters and sheets of three checkpoints."""
    request = bench.request(bench.manifest())
    request.reports.CopyFrom(pb.CheckpointReports(adapters=True, sample_prompts=["a face"], sample_steps=1))
    done = bench.finish(bench.client.trainer.create_training_run(request).name)
    assert done.state == pb.TRAINING_STATE_SUCCEEDED and len(done.checkpoints) == 3
    return done


def age(bench, digests, days=10):
    then = time.time() - days * DAY
    for digest in digests:
        path = bench.home / "artifacts" / digest[:2] / digest
        for each in (path, path.with_name(f"{digest}.type")):
            os.utime(each, (then, then))


def collect(bench, seconds=7 * DAY, **fields):
    return bench.client.trainer.collect_checkpoints(checkpoint_seconds=seconds, request_id=str(uuid.uuid4()), **fields)


def kinds(reply):
    return {kind.kind: kind.count for kind in reply.kinds}


def test_adapters_that_became_no_model_go_and_the_run_keeps_its_sheets_and_figures(bench, run):
    adapters = [checkpoint.adapter_digest for checkpoint in run.checkpoints]
    model = bench.client.trainer.get_model(name=run.model)
    superseded = sorted(set(adapters) - {model.adapter_digest})
    assert len(superseded) == 2 and kinds(collect(bench)) == {"model": 1, "recent": 2}
    age(bench, adapters)
    assert kinds(collect(bench, 0.0)) == {"model": 1, "recent": 2}, "0 is never"
    dry = collect(bench, dry_run=True)
    assert list(dry.digests) == superseded and all(map(bench.store.exists, adapters))
    request_id = str(uuid.uuid4())
    done = bench.client.trainer.collect_checkpoints(checkpoint_seconds=7 * DAY, request_id=request_id)
    assert (done.count, done.bytes) == (2, dry.bytes) and dry.bytes > 0
    assert [bench.store.exists(digest) for digest in adapters] == [digest not in superseded for digest in adapters]
    assert bench.client.trainer.collect_checkpoints(checkpoint_seconds=7 * DAY, request_id=request_id) == done
    assert kinds(collect(bench)) == {"model": 1, "collected": 2}
    after = bench.client.trainer.get_training_run(name=run.name)
    assert [c.adapter_collected for c in after.checkpoints] == [d in superseded for d in adapters]
    assert all(bench.store.exists(checkpoint.sheet_digest) for checkpoint in after.checkpoints)
    assert [c.loss for c in after.checkpoints] == [c.loss for c in run.checkpoints]


def test_a_run_cannot_be_finished_with_what_is_gone_and_says_so(bench, run):
    age(bench, [checkpoint.adapter_digest for checkpoint in run.checkpoints])
    collect(bench)
    first = run.checkpoints[0]
    with pytest.raises(NotFound, match="collected by the storage policy"):
        bench.store.get(first.adapter_digest)
    with pytest.raises(FailedPrecondition, match="was collected by the storage policy; start a new run") as caught:
        bench.client.trainer.finish_training_run(name=run.name, step=first.step, request_id=str(uuid.uuid4()))
    assert caught.value.reason == "CHECKPOINT_COLLECTED"


def test_a_lineage_leaves_and_is_replaced_without_them(bench, run):
    age(bench, [checkpoint.adapter_digest for checkpoint in run.checkpoints])
    collect(bench)
    rows = next(iter(bench.client.trainer.export_lineage(taste="tastes/default"))).artifact.digest
    back = bench.client.trainer.import_lineage(
        rows_digest=rows, taste="tastes/default", replace=True, request_id=str(uuid.uuid4())
    )
    assert back.models == 1


def test_what_a_kill_left_of_an_ended_run_goes_at_the_next_start_and_what_may_go_on_stays(bench, run):
    folder = bench.home / "checkpoints"
    bench.stop()  # a run's end is told before its checkpoints are gone, and waited for here
    assert not list(folder.glob("*"))
    for name in (run.name.removeprefix("trainingRuns/"), "f" * 32):
        (folder / name).mkdir(parents=True)
        (folder / name / "step-00000002.json").write_text("{}")
    bench.start()
    until = time.monotonic() + 120  # its libraries load behind an open port
    while len(list(folder.iterdir())) > 1 and time.monotonic() < until:
        time.sleep(0.1)
    assert [path.name for path in folder.iterdir()] == ["f" * 32], "of a run nobody knows nothing is removed"


def test_cached_tensors_of_an_image_bear_its_digest_and_unnamed_ones_of_before_go(bench, run):
    images = {path.name.partition("-")[0] for path in (bench.home / "cache" / "images").rglob("*.safetensors")}
    assert len(images) == 5 and all(map(bench.store.exists, images))
    old = bench.home / "cache" / "ab" / ("ab" + "0" * 62 + ".safetensors")
    old.parent.mkdir()
    old.write_bytes(b"latents of whatever image")
    TensorCache(bench.home / "cache").clear_unnamed()
    assert not old.parent.exists() and (bench.home / "cache" / "images").is_dir()


def test_a_manifest_that_names_a_collected_image_is_refused_and_says_so(bench):
    request = bench.request(bench.manifest())
    digest = json.loads(bench.store.get(request.manifest_digest))["items"][0]["digest"]
    bench.store.discard([digest], None)
    with pytest.raises(NotFound, match=r"names an image that is gone\. The bytes of .* were collected") as caught:
        bench.client.trainer.create_training_run(request)
    assert caught.value.reason == "ARTIFACT_COLLECTED"
