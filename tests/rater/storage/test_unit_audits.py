"""Blind audits of units over the wire: durable, once, never training data; they let the pressure start anew."""

import uuid

import pytest
import sqlalchemy

from konomi.errors import InvalidArgument, NotFound
from konomi.v1 import rater_pb2 as pb
from tests.postgresql import beside

BOTH_ENGINES = True

NIGHT = {"night": "n1", "unit": "m2", "against": "base"}


def pairs(digests: list[str], choices: list[int]) -> list[pb.BlindPair]:
    sides = zip(digests[0::2], digests[1::2], choices, strict=False)
    return [pb.BlindPair(unit_digest=unit, against_digest=against, choice=choice) for unit, against, choice in sides]


def record(rater, taste: str, asked: list[pb.BlindPair], **fields) -> pb.BlindAudit:
    request_id = fields.pop("request_id", str(uuid.uuid4()))
    audit = pb.BlindAudit(pairs=asked, **(NIGHT | fields))
    return rater.call("RecordBlindAudit", pb.RecordBlindAuditRequest(taste=taste, audit=audit, request_id=request_id))


def pressure(rater, taste: str) -> pb.Pressure:
    return rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=f"{taste}/raterVersions/active")).pressure


def select(rater, taste: str, count: int) -> pb.SelectImagesResponse:
    return rater.call("SelectImages", pb.SelectImagesRequest(taste=taste, policy="converge", count=count))


def test_an_audit_is_recorded_once_and_says_its_win_rate(rater, library):
    asked = pairs(library.digests, [1] * 13 + [2] * 5 + [3] * 2)
    request_id = str(uuid.uuid4())
    found = record(rater, library.taste, asked, request_id=request_id)
    assert found.name == f"{library.taste}/blindAudits/1"
    assert (found.labeller, list(found.pairs)) == ("owner", asked)
    assert (found.win_rate.value, found.win_rate.n) == (14 / 20, 20)
    assert (found.win_rate.low, found.win_rate.high) == (pytest.approx(0.481, abs=1e-3), pytest.approx(0.855, abs=1e-3))
    assert record(rater, library.taste, asked, request_id=request_id) == found, "the same request is one audit"
    assert record(rater, library.taste, asked[:3]).name.endswith("/2")


def test_an_audit_lets_the_pressure_start_anew(rater, fitted):
    select(rater, fitted.taste, 6)
    assert pressure(rater, fitted.taste).nats > 2
    record(rater, fitted.taste, pairs(fitted.digests, [2] * 20))
    assert pressure(rater, fitted.taste).selections == 0


def test_images_judged_blind_are_never_selected_nor_fitted_on(rater, fitted):
    before = select(rater, fitted.taste, 10)
    best = [member.digest for member in before.selected]
    labels = len(rater.call("ListLabels", pb.ListLabelsRequest(taste=fitted.taste, page_size=1000)).labels)
    record(rater, fitted.taste, pairs(best, [1] * (len(best) // 2)))
    judged = set(best[: 2 * (len(best) // 2)])
    after = select(rater, fitted.taste, 10)
    assert len(judged) >= 10 and not judged & {member.digest for member in after.selected}
    assert after.considered == before.considered - len(judged)
    assert len(rater.call("ListLabels", pb.ListLabelsRequest(taste=fitted.taste, page_size=1000)).labels) == labels


def test_what_is_on_record_can_be_neither_changed_nor_deleted(rater, library):
    record(rater, library.taste, pairs(library.digests, [1]))
    for change in ("UPDATE blind_pairs SET choice = 2", "DELETE FROM blind_audits"):
        with (
            pytest.raises(sqlalchemy.exc.IntegrityError, match="append-only"),
            beside(rater.home).begin() as connection,
        ):
            connection.exec_driver_sql(change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"against": "m2"}, "SAME_MODEL"),
        ({"unit": ""}, "FIELD_INVALID"),
        ({"pairs": []}, "FIELD_INVALID"),
        ({"pairs": [pb.BlindPair(unit_digest="a" * 64, against_digest="a" * 64, choice=1)]}, "SAME_IMAGE"),
        ({"pairs": [pb.BlindPair(unit_digest="a" * 64, against_digest="b" * 64, choice=0)]}, "FIELD_INVALID"),
    ],
)
def test_a_malformed_audit_is_refused(rater, library, change, reason):
    audit = pb.BlindAudit(**(NIGHT | {"pairs": pairs(library.digests, [1])} | change))
    request = pb.RecordBlindAuditRequest(taste=library.taste, audit=audit, request_id=str(uuid.uuid4()))
    with pytest.raises(InvalidArgument) as caught:
        rater.call("RecordBlindAudit", request)
    assert caught.value.reason == reason


def test_images_that_are_not_stored_cannot_have_been_judged(rater, library):
    with pytest.raises(NotFound, match="not in the store"):
        record(rater, library.taste, [pb.BlindPair(unit_digest="a" * 64, against_digest="b" * 64, choice=1)])
    empty = pb.RecordBlindAuditRequest(taste=library.taste, request_id=str(uuid.uuid4()))
    with pytest.raises(InvalidArgument, match="expected the audit"):
        rater.call("RecordBlindAudit", empty)
