"""A lineage leaves one trainer and arrives at another: models, runs, promotions, and the way back with them."""

import json
import shutil
import uuid
from pathlib import Path

import pytest

from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from konomi.v1 import artifact_pb2
from konomi.v1 import trainer_pb2 as pb
from tests.postgresql import Rows
from tests.trainer.conftest import Bench

BOTH_ENGINES = True
TASTE = "tastes/default"


@pytest.fixture
def other(bases: Path, tmp_path: Path, kept_in: Rows):
    """A trainer on another home with the same base models."""
    shutil.copytree(bases, tmp_path / "other" / "models")
    kept_in.settings(tmp_path / "other")
    bench = Bench(tmp_path / "other").start()
    yield bench
    bench.stop()


def export(bench: Bench) -> list[artifact_pb2.SnapshotArtifact]:
    return list(bench.client.trainer.export_lineage(taste=TASTE))


def carry(there: Bench, here: Bench, parts) -> str:
    for part in parts:
        here.store.put(there.store.get(part.artifact.digest), part.artifact.media_type)
    return parts[0].artifact.digest


def forged(bench: Bench, rows: str, change) -> str:
    lines = [change(json.loads(line)) for line in bench.store.get(rows).decode().splitlines()]
    text = "".join(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n" for line in lines if line)
    return bench.store.put(text.encode(), "application/json").digest


@pytest.mark.slow
def test_a_lineage_arrives_whole_and_goes_on(bench, other):
    first = bench.trained(bench.manifest())
    second = bench.trained(bench.manifest(first=9), steps=4)
    for model in (first, second):
        bench.client.trainer.promote_model(name=model.name, metrics={"win_rate": 0.75})
    bench.client.trainer.create_training_run(bench.request(bench.manifest(first=20), steps=100_000))  # goes on here
    parts = export(bench)
    kinds = [part.part for part in parts]
    assert kinds[0] == artifact_pb2.SNAPSHOT_PART_ROWS and kinds.count(artifact_pb2.SNAPSHOT_PART_ADAPTER) == 2
    rows = carry(bench, other, parts)
    restored = other.client.trainer.import_lineage(rows_digest=rows)
    assert restored == pb.ImportLineageResponse(models=2, current=second.name)

    mine, theirs = (list(b.client.trainer.list_models(taste=TASTE).models) for b in (bench, other))
    assert theirs == mine and export(other) == parts
    assert [run.state for run in other.client.trainer.list_training_runs().training_runs] == [3, 3]
    for form in (pb.EXPORT_FORMAT_PEFT, pb.EXPORT_FORMAT_KOHYA):
        digests = {b.client.trainer.export_model(name=first.name, format=form).digest for b in (bench, other)}
        assert len(digests) == 1
    assert other.client.trainer.rollback_model(taste=TASTE).model.name == first.name
    assert not other.client.trainer.rollback_model(taste=TASTE).HasField("model")

    with pytest.raises(AlreadyExists, match="stay as they are") as refused:
        other.client.trainer.import_lineage(rows_digest=rows)
    assert refused.value.reason == "MODELS_EXIST"
    other.client.trainer.import_lineage(rows_digest=rows, replace=True)
    assert export(other) == parts
    assert other.client.trainer.import_lineage(rows_digest=rows).models == 2  # the very same: nothing to do
    with pytest.raises(AlreadyExists, match="another taste"):
        other.client.trainer.import_lineage(rows_digest=rows, taste="tastes/friend")
    _refuses_what_cannot_be_right(bench, other, rows)


def _refuses_what_cannot_be_right(bench: Bench, other: Bench, rows: str) -> None:
    cases = {
        "has not ended": lambda x: (
            {"training_runs": {**x["training_runs"], "state": "queued"}} if "training_runs" in x else x
        ),
        "another taste": lambda x: {"models": {**x["models"], "taste": "tastes/x"}} if "models" in x else x,
        "digest": lambda x: {"models": {**x["models"], "adapter_digest": "../x"}} if "models" in x else x,
        "do not fit": lambda x: {"models": {**x["models"], "metrics": "{"}} if "models" in x else x,
        "known table": lambda x: {"requests": {}} if "models" in x else x,
        "no table takes": lambda x: {"models": {**x["models"], "seed": {"base64": "!"}}} if "models" in x else x,
    }
    before = export(other)
    for said, change in cases.items():
        with pytest.raises(InvalidArgument, match=said):
            other.client.trainer.import_lineage(rows_digest=forged(other, rows, change), replace=True)
    newer = forged(other, rows, lambda x: {**x, "schema": 99} if "schema" in x else x)
    with pytest.raises(FailedPrecondition, match="newer konomi"):
        other.client.trainer.import_lineage(rows_digest=newer, replace=True)
    absent = forged(
        other, rows, lambda x: {"models": {**x["models"], "adapter_digest": "0" * 64}} if "models" in x else x
    )
    with pytest.raises(NotFound, match="0" * 64):
        other.client.trainer.import_lineage(rows_digest=absent, replace=True)
    assert export(other) == before


def test_a_taste_without_models_has_an_empty_lineage(bench):
    parts = export(bench)
    assert [part.part for part in parts] == [artifact_pb2.SNAPSHOT_PART_ROWS]
    twice = str(uuid.uuid4())
    for _ in range(2):
        said = bench.client.trainer.import_lineage(rows_digest=parts[0].artifact.digest, request_id=twice)
        assert said == pb.ImportLineageResponse()
