"""Consents and revocation over a socket: the ledger, who may come back, and a set built as if an image never was."""

import uuid

import pytest
from sqlalchemy import text

from konomi import errors
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.storage.database import open_database
from konomi_rater.storage.schema import MIGRATIONS
from tests.rater.conftest import grades_of, png

BOTH_ENGINES = True


def consent(rater, taste, reference, giver="A. Painter", **fields):
    given = pb.Consent(reference=reference, giver=giver, **fields)
    request = pb.RecordConsentRequest(taste=taste, consent=given, request_id=str(uuid.uuid4()))
    return rater.call("RecordConsent", request)


def given_images(rater, taste, reference, count, seed=500, **fields):
    digests = [rater.put(png((200, 30, 30 + seed % 100), seed=seed + number)) for number in range(count)]
    images = [
        pb.Image(digest=digest, source=pb.SOURCE_CONSENTED, consent=reference, prompt="theirs", **fields)
        for digest in digests
    ]
    return digests, rater.add(taste, images)


def revoke(rater, taste, **fields):
    request = pb.RevokeImagesRequest(taste=taste, request_id=str(uuid.uuid4()), **fields)
    return list(rater.call("RevokeImages", request).revocations)


def test_the_ledger_says_who_gave_what_and_what_was_taken_back(rater, library):
    taste = library.taste
    consent(rater, taste, "mail-1", licence="CC0-1.0")
    digests, _ = given_images(rater, taste, "mail-1", 3, licence="CC0-1.0")
    given_images(rater, taste, "unrecorded", 1, seed=700)
    first, second = rater.call("ListConsents", pb.ListConsentsRequest(taste=taste)).consents
    assert (first.reference, first.giver, first.licence, first.image_count) == ("mail-1", "A. Painter", "CC0-1.0", 3)
    assert (second.reference, second.giver, second.image_count) == ("unrecorded", "", 1)
    assert first.HasField("create_time") and not second.HasField("create_time")
    gone = revoke(rater, taste, consent="mail-1", why="asked by mail")
    assert [one.digest for one in gone] == digests
    assert {(one.source, one.licence, one.consent, one.why) for one in gone} == {
        (pb.SOURCE_CONSENTED, "CC0-1.0", "mail-1", "asked by mail")
    }
    pages = []
    token = ""
    while token or not pages:
        request = pb.ListRevocationsRequest(taste=taste, page_size=2, page_token=token)
        pages.append(rater.call("ListRevocations", request))
        token = pages[-1].next_page_token
    assert [one.digest for page in pages for one in page.revocations] == digests
    first = rater.call("ListConsents", pb.ListConsentsRequest(taste=taste, page_size=1)).consents[0]
    assert (first.image_count, first.revoked_count, first.HasField("revoke_time")) == (0, 3, True)


def test_a_corrected_record_supersedes_the_earlier_and_an_empty_one_is_refused(rater, library):
    consent(rater, library.taste, "mail-1", giver="A. Panter")
    assert consent(rater, library.taste, "mail-1", giver="A. Painter").giver == "A. Painter"
    (only,) = rater.call("ListConsents", pb.ListConsentsRequest(taste=library.taste)).consents
    assert only.giver == "A. Painter"
    with pytest.raises(errors.InvalidArgument, match="expected the giver"):
        consent(rater, library.taste, "mail-2", giver=" ")


def test_what_was_revoked_is_gone_everywhere_and_cannot_come_back(rater, library):
    taste = library.taste
    digests, _ = given_images(rater, taste, "mail-1", 2)
    rater.label(taste, {digests[0]: 5, library.digests[0]: 4})
    revoke(rater, taste, consent="mail-1")
    with pytest.raises(errors.NotFound):
        rater.call("GetImage", pb.GetImageRequest(taste=taste, digest=digests[0]))
    state = rater.call("GetTaste", pb.GetTasteRequest(name=taste))
    assert (state.image_count, state.label_count) == (120, 1)
    _, answers = given_images(rater, taste, "mail-1", 3)
    assert [answer.error.reason for answer in answers] == ["IMAGE_REVOKED", "IMAGE_REVOKED", "CONSENT_REVOKED"]
    with pytest.raises(errors.FailedPrecondition, match="new reference"):
        consent(rater, taste, "mail-1")
    image = pb.Image(digest=digests[0], source=pb.SOURCE_IMPORTED)
    assert rater.add(taste, [image])[0].error.reason == "IMAGE_REVOKED"


def test_single_images_of_any_source_can_be_revoked_all_or_none(rater, library):
    some = library.digests[3:5]
    with pytest.raises(errors.NotFound, match="nothing was revoked"):
        revoke(rater, library.taste, digests=[*some, "f" * 64])
    assert rater.call("GetTaste", pb.GetTasteRequest(name=library.taste)).image_count == 120
    assert [one.digest for one in revoke(rater, library.taste, digests=some)] == some
    again = revoke(rater, library.taste, digests=some[:1])
    assert [one.digest for one in again] == some[:1]
    with pytest.raises(errors.InvalidArgument, match="either a consent or digests"):
        revoke(rater, library.taste)
    with pytest.raises(errors.NotFound, match="none called 'mail-9'"):
        revoke(rater, library.taste, consent="mail-9")


def golden_set(rater, taste, **fields):
    limits = {"count": 50, "base_share": 0.25, "quota": 0, "duplicate_cosine": 1}
    request = pb.SelectImagesRequest(taste=taste, policy="golden", seed=11, **limits, **fields)
    return [(one.digest, one.role, one.cell, one.weight) for one in rater.call("SelectImages", request).selected]


def test_after_revocation_every_set_is_what_it_would_have_been_without_the_images(rater, library):
    taste = library.taste
    rater.label(taste, grades_of(library, library.digests[:60]))
    rater.fit(taste)
    converge = pb.SelectImagesRequest(taste=taste, policy="converge", count=20, seed=11)
    without = golden_set(rater, taste), list(rater.call("SelectImages", converge).selected)
    digests, _ = given_images(rater, taste, "mail-1", 6)
    rater.label(taste, dict.fromkeys(digests, 5))
    with_them = golden_set(rater, taste)
    assert {digest for digest, *_ in with_them} >= set(digests)
    revoke(rater, taste, consent="mail-1")
    assert (golden_set(rater, taste), list(rater.call("SelectImages", converge).selected)) == without


def test_a_rater_fitted_after_revocation_is_the_one_of_the_remaining_labels(rater, library):
    taste = library.taste
    rater.label(taste, grades_of(library, library.digests[:40]))
    before = rater.fit(taste, seed=3)
    digests, _ = given_images(rater, taste, "mail-1", 4)
    rater.label(taste, dict.fromkeys(digests, 1))
    assert rater.fit(taste, seed=3).label_digest != before.label_digest
    revoke(rater, taste, consent="mail-1")
    after = rater.fit(taste, seed=3)
    assert (after.label_digest, after.label_count) == (before.label_digest, before.label_count)


def test_certified_members_enter_golden_ungraded_behind_the_graded_and_not_before_the_audit_ends(rater, fitted):
    taste = fitted.taste
    members = fitted.digests[60:80]
    drawn = rater.call("CertifySet", pb.CertifySetRequest(taste=taste, digests=members, allowed_rejections=1))
    with pytest.raises(errors.FailedPrecondition, match="certifies nothing"):
        golden_set(rater, taste, certificates=[drawn.name])
    answers = [pb.Label(image_digest=digest, grade=2 if place == 0 else 5) for place, digest in enumerate(drawn.shown)]
    done = rater.call("RecordAudit", pb.RecordAuditRequest(name=drawn.name, labels=answers))
    assert done.certified
    request = pb.SelectImagesRequest(
        taste=taste, policy="golden", count=50, quota=0, duplicate_cosine=1, certificates=[drawn.name]
    )
    selected = rater.call("SelectImages", request).selected
    admitted = [one.digest for one in selected if one.certificate == drawn.name]
    assert set(admitted) == set(members) - {drawn.shown[0]}
    graded = [one.digest for one in selected if one.role == pb.SELECTION_ROLE_SELECTED and not one.certificate]
    order = [one.digest for one in selected if one.role == pb.SELECTION_ROLE_SELECTED]
    assert graded and order[: len(graded)] == graded
    assert rater.call("GetImage", pb.GetImageRequest(taste=taste, digest=members[1])).grade == 0
    with pytest.raises(errors.NotFound):
        golden_set(rater, taste, certificates=[f"{taste}/certificates/99"])
    other = rater.taste("other")
    with pytest.raises(errors.InvalidArgument, match="expected certificates of"):
        golden_set(rater, taste, certificates=[f"{other}/certificates/1"])


def test_an_older_home_gains_the_ledger_and_keeps_its_grades(tmp_path):
    path = tmp_path / "rater.sqlite"
    engine = open_database(path, MIGRATIONS[:5])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tastes VALUES ('t', 'u', '', 'starter', 'starter', 0, 0)"))
        connection.execute(
            text(
                "INSERT INTO labels VALUES ('t', 1, :digest, 4, 'owner', 0, 1.0, NULL, 'x')",
            ),
            {"digest": "0" * 64},
        )
    engine.dispose()
    engine = open_database(path, MIGRATIONS)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM labels_in_force")).scalar_one() == 1
        connection.execute(text("INSERT INTO revoked_images VALUES ('t', :d, 1, 2, '', '', '', 0)"), {"d": "0" * 64})
        assert connection.execute(text("SELECT COUNT(*) FROM labels_in_force")).scalar_one() == 0
        assert connection.execute(text("SELECT COUNT(*) FROM labels")).scalar_one() == 1
    engine.dispose()
