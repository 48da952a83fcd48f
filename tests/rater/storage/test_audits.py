"""Audits over the wire: drawn blind, answered durably, resumed, certified, and every refusal with its status."""

import json
import uuid

import pytest

from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from konomi.v1 import rater_pb2 as pb
from tests.rater.conftest import grades_of

BOTH_ENGINES = True
UNKNOWN = "0" * 64


def certify(rater, taste: str, digests: list[str], **fields) -> pb.Certificate:
    return rater.call("CertifySet", pb.CertifySetRequest(taste=taste, digests=digests, **fields))


def answer(rater, name: str, grades: dict[str, int], **fields) -> pb.Certificate:
    labels = [pb.Label(image_digest=digest, grade=grade) for digest, grade in grades.items()]
    return rater.call("RecordAudit", pb.RecordAuditRequest(name=name, labels=labels, **fields))


def test_a_good_set_is_certified_by_thirty_answers(rater, fitted):
    drawn = certify(rater, fitted.taste, fitted.digests[:100])
    assert (len(drawn.shown), drawn.allowed_rejections, drawn.set_size) == (30, 2, 100)
    assert (drawn.alpha, drawn.delta, drawn.threshold) == (0.2, 0.05, pb.GRADE_SSR)
    assert drawn.pending == drawn.shown and set(drawn.shown) <= set(fitted.digests[:100])
    assert (drawn.certified, drawn.ended, drawn.upper_bound) == (False, False, 1.0)
    assert drawn.rater_version == f"{fitted.taste}/raterVersions/1"
    half = answer(rater, drawn.name, dict.fromkeys(drawn.shown[:15], 5))
    assert (half.pending, half.certified, half.artifact_digest) == (drawn.shown[15:], False, "")
    rest = dict.fromkeys(drawn.shown[15:], 4) | {drawn.shown[16]: 3, drawn.shown[20]: 1}
    done = answer(rater, drawn.name, rest)
    assert (done.rejections, done.certified, done.ended, done.certified_size) == (2, True, True, 100)
    assert 0.19 < done.upper_bound <= 0.2
    document = json.loads(rater.store.get(done.artifact_digest))
    assert document["set_digest"] == done.set_digest
    assert document["answers"][drawn.shown[16]] == 3 and len(document["answers"]) == 30
    assert sorted(json.loads(rater.store.get(done.set_digest))["digests"]) == sorted(fitted.digests[:100])
    assert rater.store.exists(document["rater_artifact"])


def test_three_rejections_of_thirty_certify_nothing(rater, library):
    drawn = certify(rater, library.taste, library.digests)
    done = answer(rater, drawn.name, {digest: 5 if row > 2 else 2 for row, digest in enumerate(drawn.shown)})
    assert (done.certified, done.ended, done.certified_size, done.rejections) == (False, True, 0, 3)
    assert done.upper_bound > 0.2


def test_an_audit_is_resumed_not_drawn_again(rater, library):
    members = library.digests[:80]
    first = certify(rater, library.taste, members, request_id=str(uuid.uuid4()))
    answered = answer(rater, first.name, dict.fromkeys(first.shown[:4], 1))
    again = certify(rater, library.taste, members[::-1], seed=99, request_id=str(uuid.uuid4()))
    assert again == answered
    assert again.rejections == 4
    other = certify(rater, library.taste, members[1:])
    assert other.name != first.name and other.set_digest != first.set_digest
    assert certify(rater, library.taste, members, alpha=0.3).name not in (first.name, other.name)


def test_answers_survive_the_server_and_a_repeated_request_is_no_second_answer(rater, library):
    drawn = certify(rater, library.taste, library.digests)
    request_id = str(uuid.uuid4())
    grades = {drawn.shown[0]: 5, drawn.shown[1]: 2}
    first = answer(rater, drawn.name, grades, request_id=request_id)
    assert answer(rater, drawn.name, grades, request_id=request_id) == first
    with pytest.raises(AlreadyExists) as failure:
        answer(rater, drawn.name, {drawn.shown[0]: 1}, request_id=request_id)
    assert failure.value.reason == "REQUEST_ID_REUSED"
    corrected = answer(rater, drawn.name, {drawn.shown[1]: 5})
    assert (first.rejections, corrected.rejections, len(corrected.pending)) == (1, 0, 28)
    assert answer(rater, drawn.name, {}) == corrected


def test_stages_are_certified_strict_to_lax(rater, library):
    ranked = sorted(library.digests, key=library.utility.__getitem__, reverse=True)
    drawn = certify(rater, library.taste, ranked, stages=[20, 50, 120])
    assert [stage.size for stage in drawn.stages] == [20, 50, 120]
    assert set(drawn.shown) == set(ranked[:20]) and drawn.stages[0].allowed_rejections == 4
    step = answer(rater, drawn.name, dict.fromkeys(drawn.shown, 5))
    assert (step.certified, step.certified_size, step.ended) == (True, 20, False)
    assert set(step.pending) <= set(ranked[20:50]) and step.pending
    done = answer(rater, drawn.name, dict.fromkeys(step.pending, 1))
    assert (done.certified, done.certified_size, done.ended) == (True, 20, True)
    assert [stage.certified for stage in done.stages] == [True, False, False]
    assert not set(done.shown) & set(ranked[50:])


def test_an_audit_is_no_label_and_shows_no_score(rater, fitted):
    before = rater.call("ListLabels", pb.ListLabelsRequest(taste=fitted.taste, page_size=1000))
    drawn = certify(rater, fitted.taste, fitted.digests[40:])
    answer(rater, drawn.name, dict.fromkeys(drawn.shown, 5))
    assert rater.call("ListLabels", pb.ListLabelsRequest(taste=fitted.taste, page_size=1000)) == before
    assert rater.fit(fitted.taste).label_count == 40
    assert "score" not in str(drawn)


def test_an_end_is_final(rater, library):
    drawn = certify(rater, library.taste, library.digests[:10])
    done = answer(rater, drawn.name, dict.fromkeys(drawn.shown, 5))
    assert done.ended and done.upper_bound == 0.0
    assert answer(rater, drawn.name, {drawn.shown[0]: 5}) == done
    with pytest.raises(FailedPrecondition) as failure:
        answer(rater, drawn.name, {drawn.shown[0]: 1})
    assert failure.value.reason == "AUDIT_ENDED"
    assert "begin another one (konomi rater certify)" in failure.value.message


IMPOSSIBLE = [
    ({"alpha": 0.0}, "LIMIT_INVALID"),
    ({"delta": 1.0}, "LIMIT_INVALID"),
    ({"alpha": 1.5}, "FIELD_INVALID"),
    ({"allowed_rejections": 51}, "FIELD_INVALID"),
    ({"stages": [10, 10, 120]}, "STAGES_INVALID"),
    ({"stages": [10, 20]}, "STAGES_INVALID"),
    ({"stages": [0, 120]}, "STAGES_INVALID"),
]


def test_impossible_terms_are_refused(rater, library):
    for fields, reason in IMPOSSIBLE:
        with pytest.raises(InvalidArgument) as failure:
            certify(rater, library.taste, library.digests, **fields)
        assert failure.value.reason == reason, fields
        assert "expected" in failure.value.message


def test_members_must_be_known_and_named_once(rater, library):
    with pytest.raises(InvalidArgument) as twice:
        certify(rater, library.taste, [library.digests[0]] * 2)
    assert twice.value.reason == "MEMBER_TWICE"
    with pytest.raises(NotFound) as unknown:
        certify(rater, library.taste, [library.digests[0], UNKNOWN])
    assert unknown.value.reason == "IMAGE_NOT_FOUND" and UNKNOWN[:8] in unknown.value.message
    with pytest.raises(InvalidArgument, match="1 to 10000"):
        certify(rater, library.taste, [])


def test_answers_must_belong_to_the_audit(rater, library):
    drawn = certify(rater, library.taste, library.digests)
    left_out = next(digest for digest in library.digests if digest not in drawn.shown)
    with pytest.raises(InvalidArgument) as failure:
        answer(rater, drawn.name, {left_out: 5})
    assert failure.value.reason == "NOT_SHOWN"
    for name, error, reason in (
        (f"{library.taste}/certificates/99", NotFound, "CERTIFICATE_NOT_FOUND"),
        (f"{library.taste}/certificates/x", InvalidArgument, "NAME_INVALID"),
        ("certificates/1", InvalidArgument, "FIELD_INVALID"),
    ):
        with pytest.raises(error) as failure:
            answer(rater, name, {})
        assert failure.value.reason == reason
    with pytest.raises(InvalidArgument, match="grade"):
        answer(rater, drawn.name, {drawn.shown[0]: 0})


def test_the_promise_is_about_the_owners_own_grades(rater, fitted):
    grades = grades_of(fitted, fitted.digests)
    drawn = certify(rater, fitted.taste, fitted.digests, threshold=pb.GRADE_N)
    assert answer(rater, drawn.name, {d: grades[d] for d in drawn.shown}).certified
    drawn = certify(rater, fitted.taste, fitted.digests)
    assert not answer(rater, drawn.name, {d: grades[d] for d in drawn.shown}).certified
