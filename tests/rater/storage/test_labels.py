"""The label log: append-only, chained, and what an acknowledged label survives."""

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import grpc
import pytest
import sqlalchemy

from konomi.errors import DataLoss
from konomi.v1 import rater_pb2 as pb
from konomi.v1 import rater_pb2_grpc
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_chassis.storage.dialects import NO_LIMIT
from konomi_rater.storage import image_records, labels, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import SCHEMA
from tests.postgresql import unguard
from tests.rater.conftest import png

BOTH_ENGINES = True
DIGESTS = [f"{i:064x}" for i in range(4)]
LABELS = 20
"""Acknowledged before the rater is killed."""


@pytest.fixture
def engine(rows, tmp_path: Path):
    engine = rows.open(tmp_path, SCHEMA)
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest in DIGESTS:
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
    yield engine
    engine.dispose()


def record(engine, *grades: tuple[int, int]):
    with engine.begin() as connection:
        return labels.record(connection, "t", [NewLabel(DIGESTS[i], grade) for i, grade in grades], 1.5)


def test_rows_can_be_neither_changed_nor_deleted(engine):
    record(engine, (0, 5))
    for statement in ("UPDATE labels SET grade = 1", "DELETE FROM labels"):
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"), engine.begin() as connection:
            connection.exec_driver_sql(statement)


def test_the_chain_finds_a_row_that_was_changed_behind_our_back(engine, tmp_path):
    record(engine, (0, 5), (1, 2))
    record(engine, (0, 3))
    with reading(engine) as connection:
        assert labels.verify(connection, "t") == 3
    with engine.begin() as connection:
        unguard(connection, "labels", "UPDATE")
        connection.exec_driver_sql("UPDATE labels SET grade = 4 WHERE sequence = 2")
    with reading(engine) as connection, pytest.raises(DataLoss, match="label 2"):
        labels.verify(connection, "t")


def test_the_chain_holds_for_a_time_in_whole_seconds(engine):
    with engine.begin() as connection:
        labels.record(connection, "t", [NewLabel(DIGESTS[0], 3)], 7)
        assert labels.verify(connection, "t") > 0


def test_the_digest_of_labels_does_not_depend_on_their_order(engine):
    record(engine, (0, 5), (1, 2))
    with reading(engine) as connection:
        first = labels.digest_of(labels.grades_in_force(connection, "t"))
    record(engine, (1, 3), (0, 4))
    record(engine, (1, 2), (0, 5))
    with reading(engine) as connection:
        assert labels.digest_of(labels.grades_in_force(connection, "t")) == first


def test_retests_pair_a_repeat_with_the_grade_before(engine):
    record(engine, (0, 5), (1, 2))
    with engine.begin() as connection:
        labels.record(connection, "t", [NewLabel(DIGESTS[0], 4, reason=labels.REPEAT_CHECK)], 2.0)
    with reading(engine) as connection:
        assert labels.retests(connection, "t") == [(5, 4)]


def serve(home: Path, **environment: str) -> tuple[subprocess.Popen, str]:
    command = [sys.executable, "-m", "konomi_rater", "--home", str(home)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}, stderr=subprocess.DEVNULL
    )
    line = process.stdout.readline()
    return process, line.split('"address": "')[1].split('"')[0]


def stub_of(home: Path, address: str) -> rater_pb2_grpc.RaterServiceStub:
    token = (home / "tokens" / "owner.token").read_text().strip()
    stub = rater_pb2_grpc.RaterServiceStub(grpc.insecure_channel(address))
    stub.metadata = [("authorization", f"Bearer {token}")]
    return stub


def request(digest: str, grade: int, request_id: str) -> pb.RecordLabelsRequest:
    label = pb.Label(image_digest=digest, grade=grade)
    return pb.RecordLabelsRequest(taste="tastes/t", labels=[label], request_id=request_id)


@pytest.mark.timeout(900)
def test_acknowledged_labels_survive_kill_9_and_retries_do_not_double_them(home, kept_in):
    digest = ArtifactStore(StoreSettings(home=home)).put(png((200, 0, 0)), "image/png").digest
    # Killed between commit and answer of what comes after the taste and twenty acknowledged labels.
    process, address = serve(home, KONOMI_FAILPOINT=f"rater.after_commit@{1 + LABELS + 1}")
    stub = stub_of(home, address)
    stub.CreateTaste(pb.CreateTasteRequest(taste_id="t"), metadata=stub.metadata, timeout=60)
    add = pb.AddImagesRequest(taste="tastes/t", image={"digest": digest, "source": 1})
    (added,) = stub.AddImages(iter([add]), metadata=stub.metadata, timeout=120)
    assert not added.HasField("error")
    acknowledged = []
    for number in range(LABELS):
        answer = stub.RecordLabels(
            request(digest, 1 + number % 5, str(uuid.uuid4())), metadata=stub.metadata, timeout=60
        )
        acknowledged += [(label.sequence, label.grade) for label in answer.labels]

    # The label is there all the same, and the retry finds it instead of writing another.
    request_id = str(uuid.uuid4())
    with pytest.raises(grpc.RpcError):
        stub.RecordLabels(request(digest, 5, request_id), metadata=stub.metadata, timeout=60)
    assert process.wait(timeout=60) == -signal.SIGKILL

    process, address = serve(home, KONOMI_FAILPOINT="rater.before_commit")
    stub = stub_of(home, address)
    retried = stub.RecordLabels(request(digest, 5, request_id), metadata=stub.metadata, timeout=60)
    assert retried.labels[0].sequence == LABELS + 1
    log = stub.ListLabels(pb.ListLabelsRequest(taste="tastes/t"), metadata=stub.metadata, timeout=60).labels
    assert [(label.sequence, label.grade) for label in log] == [*acknowledged, (LABELS + 1, 5)]

    # Killed before the commit: nothing is there.
    with pytest.raises(grpc.RpcError):
        stub.RecordLabels(request(digest, 2, str(uuid.uuid4())), metadata=stub.metadata, timeout=60)
    assert process.wait(timeout=60) == -signal.SIGKILL
    left = kept_in.open(home, SCHEMA)
    with reading(left) as connection:
        entries = labels.read(connection, "t", 0, NO_LIMIT, in_force=False)
        assert labels.verify(connection, "t") == LABELS + 1
    left.dispose()
    assert [(entry.sequence, entry.grade) for entry in entries] == [*acknowledged, (LABELS + 1, 5)]


def test_the_log_is_written_with_full_synchronisation(engine):
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
            return
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
