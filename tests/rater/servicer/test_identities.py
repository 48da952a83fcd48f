"""Who may say, take back and read what: two labellers, a tool and the owner at one rater, over two tastes."""

import uuid

import grpc
import pytest

from konomi.errors import from_rpc_error
from konomi.v1 import artifact_pb2, artifact_pb2_grpc, rater_pb2_grpc
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.auth.authentication import issue_token
from tests.rater.conftest import png


class Person:
    """A caller with a token of its own."""

    def __init__(self, rater, token):
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._channel = grpc.insecure_channel(rater.address)
        self._rater = rater_pb2_grpc.RaterServiceStub(self._channel)
        self._artifacts = artifact_pb2_grpc.ArtifactServiceStub(self._channel)

    def call(self, rpc, request):
        try:
            return getattr(self._rater, rpc)(request, timeout=60, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def refusal(self, rpc, request):
        """Status and reason of a call that has to fail."""
        with pytest.raises(Exception) as caught:
            self.call(rpc, request)
        return caught.value.code.name, caught.value.reason

    def reads(self, digest):
        """What a read of an artifact ends in: its bytes, or status, reason and sentence without the digest."""
        request = artifact_pb2.GetArtifactRequest(digest=digest)
        try:
            parts = list(self._artifacts.GetArtifact(request, timeout=60, metadata=self._metadata))
        except grpc.RpcError as error:
            failure = from_rpc_error(error)
            return failure.code.name, failure.reason, failure.message.replace(digest, "")
        return b"".join(part.chunk for part in parts)


@pytest.fixture
def world(rater):
    """Two tastes with three images each, and everybody who may call."""

    class World:
        def __init__(self):
            self.mine, self.other = rater.taste("mine"), rater.taste("other")
            self.images = {
                taste: [rater.put(png((20 * i, place, 0), seed=i)) for i in range(3)]
                for place, taste in enumerate((self.mine, self.other))
            }
            for taste, digests in self.images.items():
                images = [pb.Image(digest=digest, source=pb.SOURCE_SELF) for digest in digests]
                assert not any(answer.HasField("error") for answer in rater.add(taste, images))
            self.owner = Person(rater, rater.token)
            self.ann, self.bob = (Person(rater, issue_token(rater.home, n, "labeller", "mine")) for n in ("ann", "bob"))
            self.tool = Person(rater, issue_token(rater.home, "comfy", "tool", "mine"))
            self.night = Person(rater, issue_token(rater.home, "night", "service", "mine"))

        def labels(self):
            listed = self.owner.call("ListLabels", pb.ListLabelsRequest(taste=self.mine, page_size=100)).labels
            return [(label.labeller, label.grade, bool(label.undoes)) for label in listed]

    return World()


def grade(world, who, grade=pb.GRADE_SR, image=0, labeller=""):
    label = pb.Label(image_digest=world.images[world.mine][image], grade=grade, labeller=labeller)
    request = pb.RecordLabelsRequest(taste=world.mine, labels=[label], request_id=str(uuid.uuid4()))
    return who.call("RecordLabels", request).labels[0]


def undo(world, name=""):
    return pb.UndoLabelRequest(taste=world.mine, name=name, request_id=str(uuid.uuid4()))


def test_a_label_stands_under_who_gave_it(world):
    assert grade(world, world.ann).labeller == "ann"
    assert grade(world, world.owner).labeller == "owner"
    assert grade(world, world.owner, labeller="a guest").labeller == "a guest"
    label = pb.Label(image_digest=world.images[world.mine][0], grade=pb.GRADE_N, labeller="owner")
    request = pb.RecordLabelsRequest(taste=world.mine, labels=[label], request_id=str(uuid.uuid4()))
    assert world.ann.refusal("RecordLabels", request) == ("PERMISSION_DENIED", "LABELLER_DENIED")
    assert [who for who, _, _ in world.labels()] == ["ann", "owner", "a guest"]


def test_when_a_label_was_given_only_the_owner_says_and_never_later_than_now(world):
    label = pb.Label(image_digest=world.images[world.mine][0], grade=pb.GRADE_N)
    label.grade_time.FromSeconds(1_700_000_000)
    request = pb.RecordLabelsRequest(taste=world.mine, labels=[label], request_id=str(uuid.uuid4()))
    assert world.ann.refusal("RecordLabels", request) == ("PERMISSION_DENIED", "GRADE_TIME_DENIED")
    assert world.labels() == []
    (recorded,) = world.owner.call("RecordLabels", request).labels
    assert recorded.create_time.seconds == 1_700_000_000
    label.grade_time.FromSeconds(40_000_000_000)
    request = pb.RecordLabelsRequest(taste=world.mine, labels=[label], request_id=str(uuid.uuid4()))
    (recorded,) = world.owner.call("RecordLabels", request).labels
    assert recorded.create_time.seconds < 40_000_000_000


def test_only_ones_own_labels_are_undone_and_the_owner_undoes_all(world):
    owners, anns = grade(world, world.owner), grade(world, world.ann, image=1)
    before = world.labels()
    for who, label in ((world.ann, owners), (world.bob, owners), (world.bob, anns)):
        assert who.refusal("UndoLabel", undo(world, label.name)) == ("PERMISSION_DENIED", "LABEL_OF_ANOTHER")
    assert world.bob.refusal("UndoLabel", undo(world)) == ("FAILED_PRECONDITION", "NOTHING_TO_UNDO")
    assert world.labels() == before
    grade(world, world.owner, image=2)
    assert world.ann.call("UndoLabel", undo(world)).undoes == anns.name, "the last of one's own, not the last of all"
    assert world.owner.call("UndoLabel", undo(world, owners.name)).undoes == owners.name
    bobs = grade(world, world.bob, image=1)
    assert world.owner.call("UndoLabel", undo(world, bobs.name)).undoes == bobs.name


def test_clearing_is_undoing(world):
    grade(world, world.owner)
    before = world.labels()
    clear = pb.Label(image_digest=world.images[world.mine][0])
    other = pb.Label(image_digest=world.images[world.mine][1], grade=pb.GRADE_N)
    request = pb.RecordLabelsRequest(taste=world.mine, labels=[other, clear], request_id=str(uuid.uuid4()))
    assert world.ann.refusal("RecordLabels", request) == ("PERMISSION_DENIED", "LABEL_OF_ANOTHER")
    assert world.labels() == before, "nothing of the batch is written"
    grade(world, world.ann, image=1)
    assert not grade(world, world.ann, pb.GRADE_UNSPECIFIED, image=1).grade
    assert not grade(world, world.ann, pb.GRADE_UNSPECIFIED, image=2).grade, "there is nothing of anybody's to clear"
    assert not grade(world, world.owner, pb.GRADE_UNSPECIFIED).grade


def test_a_request_id_of_another_is_not_answered_as_ones_own(world):
    label = pb.Label(image_digest=world.images[world.mine][0], grade=pb.GRADE_SR)
    request = pb.RecordLabelsRequest(taste=world.mine, labels=[label], request_id=str(uuid.uuid4()))
    assert world.owner.call("RecordLabels", request).labels[0].labeller == "owner"
    assert world.ann.refusal("RecordLabels", request)[0] == "ALREADY_EXISTS"
    assert world.owner.call("RecordLabels", request).labels[0].labeller == "owner"
    assert len(world.labels()) == 1


def test_comparisons_likewise(world):
    one, two, _ = world.images[world.mine]

    def compare(who, labeller=""):
        comparison = pb.Comparison(winner_digest=one, loser_digest=two, labeller=labeller)
        return pb.RecordComparisonRequest(taste=world.mine, comparison=comparison, request_id=str(uuid.uuid4()))

    def take_back(name=""):
        return pb.UndoComparisonRequest(taste=world.mine, name=name, request_id=str(uuid.uuid4()))

    owners = world.owner.call("RecordComparison", compare(world.owner))
    anns = world.ann.call("RecordComparison", compare(world.ann))
    assert (owners.labeller, anns.labeller) == ("owner", "ann")
    assert world.ann.refusal("RecordComparison", compare(world.ann, "owner"))[1] == "LABELLER_DENIED"
    assert world.ann.refusal("UndoComparison", take_back(owners.name)) == ("PERMISSION_DENIED", "COMPARISON_OF_ANOTHER")
    assert world.bob.refusal("UndoComparison", take_back(anns.name))[1] == "COMPARISON_OF_ANOTHER"
    assert world.bob.refusal("UndoComparison", take_back())[1] == "NOTHING_TO_UNDO"
    assert world.ann.call("UndoComparison", take_back()).undoes == anns.name
    assert world.owner.call("UndoComparison", take_back()).undoes == owners.name


def test_answers_of_an_audit_are_their_givers(world):
    certify = pb.CertifySetRequest(
        taste=world.mine, digests=world.images[world.mine], request_id=str(uuid.uuid4()), alpha=0.5, delta=0.5
    )
    certificate = world.owner.call("CertifySet", certify)
    shown = certificate.shown[0]

    def answer(value, labeller=""):
        label = pb.Label(image_digest=shown, grade=value, labeller=labeller)
        return pb.RecordAuditRequest(name=certificate.name, labels=[label], request_id=str(uuid.uuid4()))

    assert world.ann.refusal("RecordAudit", answer(pb.GRADE_UR, "owner"))[1] == "LABELLER_DENIED"
    world.owner.call("RecordAudit", answer(pb.GRADE_UR))
    assert world.ann.refusal("RecordAudit", answer(pb.GRADE_N)) == ("PERMISSION_DENIED", "ANSWER_OF_ANOTHER")


def test_a_blind_audit_is_its_givers_and_about_images_it_may_see(world):
    def audit(unit, against, labeller=""):
        pair = pb.BlindPair(unit_digest=unit, against_digest=against, choice=pb.BLIND_CHOICE_UNIT)
        given = pb.BlindAudit(unit="unit-1", against="base", pairs=[pair], labeller=labeller)
        return pb.RecordBlindAuditRequest(taste=world.mine, audit=given, request_id=str(uuid.uuid4()))

    mine, others = world.images[world.mine], world.images[world.other]
    assert world.ann.call("RecordBlindAudit", audit(*mine[:2])).labeller == "ann"
    assert world.ann.refusal("RecordBlindAudit", audit(*mine[:2], "owner"))[1] == "LABELLER_DENIED"
    for digest in (others[0], "f" * 64):
        refused = world.ann.refusal("RecordBlindAudit", audit(mine[0], digest))
        assert refused == ("NOT_FOUND", "IMAGE_NOT_FOUND")


def test_a_digest_is_a_name_and_not_a_right(world, rater):
    mine, others, secret = world.images[world.mine][0], world.images[world.other][0], rater.put(b"a manifest")
    stored = {digest: rater.store.get(digest) for digest in (mine, others, secret)}
    for person in (world.owner, world.night):
        assert {digest: person.reads(digest) for digest in stored} == stored
    absent = world.ann.reads("f" * 64)
    assert absent[:2] == ("NOT_FOUND", "ARTIFACT_NOT_FOUND")
    assert world.ann.reads(mine) == stored[mine]
    assert world.ann.reads(others) == world.ann.reads(secret) == absent
    assert {world.tool.reads(digest)[1] for digest in (*stored, "f" * 64)} == {"SCOPE_DENIED"}


def test_what_is_revoked_is_read_no_more(world):
    mine = world.images[world.mine][0]
    revoke = pb.RevokeImagesRequest(taste=world.mine, digests=[mine], why="asked to", request_id=str(uuid.uuid4()))
    world.owner.call("RevokeImages", revoke)
    assert world.ann.reads(mine) == world.ann.reads("f" * 64)


def test_certificates_and_raters_of_ones_taste_are_read(world):
    certify = pb.CertifySetRequest(
        taste=world.mine, digests=world.images[world.mine], request_id=str(uuid.uuid4()), alpha=0.5, delta=0.5
    )
    certificate = world.owner.call("CertifySet", certify)
    assert isinstance(world.ann.reads(certificate.set_digest), bytes)


def test_images_of_others_are_neither_scored_nor_searched_by_digest(fitted, rater):
    other = rater.taste("other")
    digest = rater.put(png((9, 9, 9), seed=99))
    assert not any(answer.HasField("error") for answer in rater.add(other, [pb.Image(digest=digest, source=1)]))
    tool = Person(rater, issue_token(rater.home, "comfy", "tool", fitted.taste.removeprefix("tastes/")))

    def score(who, *digests):
        images = [pb.ImageInput(digest=digest) for digest in digests]
        return who.call("ScoreImages", pb.ScoreImagesRequest(taste=fitted.taste, images=images)).results

    owner = Person(rater, rater.token)
    assert score(owner, digest)[0].HasField("score"), "and so it is among the strangers kept in memory"
    known, others, absent = score(tool, fitted.digests[0], digest, "f" * 64)
    assert known.HasField("score")
    assert (others.error.code, others.error.reason) == (absent.error.code, absent.error.reason)
    assert others.error.message.replace(digest, "") == absent.error.message.replace("f" * 64, "")
    for name in (digest, "f" * 64):
        search = pb.SearchImagesRequest(taste=fitted.taste, image=pb.ImageInput(digest=name))
        assert tool.refusal("SearchImages", search) == ("NOT_FOUND", "ARTIFACT_NOT_FOUND")
    inline = pb.ImageInput(content=png((9, 9, 9), seed=99))
    reply = tool.call("ScoreImages", pb.ScoreImagesRequest(taste=fitted.taste, images=[inline]))
    assert reply.results[0].HasField("score"), "whoever has the bytes may have them scored"
