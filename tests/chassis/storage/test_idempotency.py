"""Request ids: first answer again, other payload refused, nothing remembered of what was rolled back."""

import uuid

import pytest
from sqlalchemy import MetaData

from konomi.errors import AlreadyExists
from konomi.v1 import rater_pb2
from konomi_chassis.storage.idempotency import Idempotency
from konomi_chassis.storage.schema import Schema

NOTHING = Schema("rater", (), MetaData())
"""A database that holds the answered requests alone."""
RPC = "RecordLabels"
REPLY = rater_pb2.RecordLabelsResponse(labels=[rater_pb2.Label(name="tastes/a/labels/1", sequence=1)])


@pytest.fixture
def engine(rows, tmp_path):
    engine = rows.open(tmp_path, NOTHING)
    yield engine
    engine.dispose()


def request(request_id, grade=3):
    label = rater_pb2.Label(image_digest="0" * 64, grade=grade)
    return rater_pb2.RecordLabelsRequest(taste="tastes/a", request_id=request_id, labels=[label])


def test_the_same_request_gets_the_first_answer(engine, rows, tmp_path):
    memory, asked = Idempotency(), request(str(uuid.uuid4()))
    with engine.begin() as connection:
        assert memory.replay(connection, RPC, asked) is None
        memory.remember(connection, RPC, asked, REPLY)
    engine.dispose()
    again = rows.open(tmp_path, NOTHING)
    with again.begin() as connection:
        stored = memory.replay(connection, RPC, asked)
    again.dispose()
    assert rater_pb2.RecordLabelsResponse.FromString(stored) == REPLY


@pytest.mark.parametrize("other", ["payload", "rpc"])
def test_another_request_under_the_same_id_is_refused(engine, other):
    memory, request_id = Idempotency(), str(uuid.uuid4())
    with engine.begin() as connection:
        memory.remember(connection, RPC, request(request_id), REPLY)
    with engine.begin() as connection, pytest.raises(AlreadyExists) as caught:
        memory.replay(
            connection, "UndoLabel" if other == "rpc" else RPC, request(request_id, 3 if other == "rpc" else 4)
        )
    assert caught.value.field == "request_id"


def test_a_rolled_back_answer_is_not_remembered(engine):
    memory, asked = Idempotency(), request(str(uuid.uuid4()))
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        memory.remember(connection, RPC, asked, REPLY)
        raise ZeroDivisionError
    with engine.begin() as connection:
        assert memory.replay(connection, RPC, asked) is None


def test_without_an_id_nothing_is_remembered(engine):
    memory = Idempotency()
    with engine.begin() as connection:
        memory.remember(connection, RPC, request(""), REPLY)
        assert memory.replay(connection, RPC, request("")) is None
        assert memory.replay(connection, RPC, rater_pb2.GetTasteRequest(name="tastes/a")) is None


def test_the_letter_case_of_a_uuid_means_nothing_else(engine):
    memory, request_id = Idempotency(), str(uuid.uuid4())
    with engine.begin() as connection:
        memory.remember(connection, RPC, request(request_id), REPLY)
        assert memory.replay(connection, RPC, request(request_id.upper())) is not None
