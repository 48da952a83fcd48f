"""The log of comparisons: an undo is another entry, and what was undone no longer counts."""

import uuid
from contextlib import contextmanager

import pytest
import sqlalchemy

from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.v1 import rater_pb2 as pb
from konomi_rater.storage import comparisons
from tests.postgresql import beside

BOTH_ENGINES = True


def compare(rater, library, winner: int, loser: int, tie: bool = False):
    said = {"winner_digest": library.digests[winner], "loser_digest": library.digests[loser], "tie": tie}
    request = pb.RecordComparisonRequest(taste=library.taste, comparison=said, request_id=str(uuid.uuid4()))
    return rater.call("RecordComparison", request)


def undo(rater, library, name: str = "", request_id: str = ""):
    request = pb.UndoComparisonRequest(taste=library.taste, name=name, request_id=request_id or str(uuid.uuid4()))
    return rater.call("UndoComparison", request)


@contextmanager
def database(rater):
    """The running rater's database, seen from outside: its own way of opening it takes the only lock."""
    engine = beside(rater.home)
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def counting(rater) -> list[tuple[str, str, bool]]:
    with database(rater) as connection:
        return comparisons.standing(connection, "default")


def test_an_undone_comparison_no_longer_counts_and_stays_on_record(rater, library):
    a, b, c = library.digests[:3]
    first, second, third = (
        compare(rater, library, 0, 1),
        compare(rater, library, 1, 2, tie=True),
        compare(rater, library, 2, 0),
    )
    entry = undo(rater, library)
    assert (entry.undoes, entry.winner_digest, entry.loser_digest) == (third.name, c, a)
    assert counting(rater) == [(a, b, False), (b, c, True)]
    named = undo(rater, library, first.name)
    assert named.undoes == first.name
    last = undo(rater, library)
    assert (last.undoes, last.tie) == (second.name, True)
    assert counting(rater) == []
    with pytest.raises(FailedPrecondition) as failure:
        undo(rater, library)
    assert failure.value.reason == "NOTHING_TO_UNDO"
    assert compare(rater, library, 0, 1).name.endswith("/7")  # six entries stay before it
    assert counting(rater) == [(a, b, False)]


def test_the_same_request_undoes_once(rater, library):
    compare(rater, library, 0, 1)
    compare(rater, library, 1, 2)
    once = str(uuid.uuid4())
    assert undo(rater, library, request_id=once) == undo(rater, library, request_id=once)
    assert len(counting(rater)) == 1


@pytest.mark.parametrize(
    ("name", "error", "reason"),
    [
        ("comparisons/9", NotFound, "COMPARISON_NOT_FOUND"),
        ("comparisons/1", FailedPrecondition, "ALREADY_UNDONE"),
        ("comparisons/2", InvalidArgument, "UNDO_OF_UNDO"),
        ("comparisons/x", InvalidArgument, "NAME_INVALID"),
        ("labels/1", InvalidArgument, ""),
        ("other", InvalidArgument, "NAME_INVALID"),
    ],
)
def test_what_cannot_be_undone_is_refused_by_name(rater, library, name, error, reason):
    compare(rater, library, 0, 1)
    undo(rater, library)
    full = "tastes/other/comparisons/1" if name == "other" else f"{library.taste}/{name}"
    with pytest.raises(error) as failure:
        undo(rater, library, full)
    assert not reason or failure.value.reason == reason
    assert counting(rater) == []


def test_rows_can_be_neither_changed_nor_deleted(rater, library):
    compare(rater, library, 0, 1)
    undo(rater, library)
    for statement in ("UPDATE comparisons SET undoes = NULL", "DELETE FROM comparisons WHERE undoes = 1"):
        with pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"), database(rater) as connection:
            connection.exec_driver_sql(statement)
