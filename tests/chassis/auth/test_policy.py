"""The policy table covers every rpc, and the server keeps to it for every kind of caller."""

import time

import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from konomi.errors import Internal, InvalidArgument, KonomiError, NotFound
from konomi.v1 import artifact_pb2, generator_pb2, rater_pb2, trainer_pb2
from konomi_chassis import server
from konomi_chassis.auth import policy
from konomi_chassis.auth.authentication import Principal, issue_token, revoke_tokens
from konomi_chassis.auth.policy import ANYONE, POLICY, authorize, confine
from tests.chassis.conftest import ADDERS, Caller, Recorder

GET_ARTIFACT = "/konomi.v1.ArtifactService/GetArtifact"
FILES = (artifact_pb2, generator_pb2, rater_pb2, trainer_pb2, health_pb2, reflection_pb2)
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for module in FILES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
KONOMI = sorted(rpc for rpc in METHODS if rpc.startswith("/konomi."))
RESOURCES = {
    "GetRaterVersion": "tastes/{}/raterVersions/v",
    "ActivateRaterVersion": "tastes/{}/raterVersions/v",
    "GetTaste": "tastes/{}",
    "RecordAudit": "tastes/{}/certificates/c",
    "UndoLabel": "tastes/{}/labels/l",
    "UndoComparison": "tastes/{}/comparisons/c",
}


def request_for(rpc, taste):
    """An otherwise empty request that names the taste wherever this rpc can; None when it cannot."""
    message = message_factory.GetMessageClass(METHODS[rpc].input_type)()
    fields, method = METHODS[rpc].input_type.fields_by_name, rpc.rpartition("/")[2]
    named = False
    if "taste" in fields and fields["taste"].message_type is None:
        message.taste, named = f"tastes/{taste}", True
    if method in RESOURCES:
        message.name, named = RESOURCES[method].format(taste), True
    return message if named else None


@pytest.fixture
def everything(serve):
    recorder = Recorder()
    return serve(recorder, *ADDERS, host="127.0.0.1", auth_failures_per_minute=1000), recorder


def test_every_rpc_is_in_the_table_and_the_table_names_no_other():
    served = set(METHODS) | {rpc for rpc in POLICY if rpc.startswith("/grpc.reflection.v1.")}
    assert set(POLICY) == served
    assert all(scopes for scopes in POLICY.values())


def test_an_rpc_without_a_policy_keeps_the_server_from_starting(monkeypatch, serve):
    monkeypatch.setattr(
        server, "POLICY", {rpc: scopes for rpc, scopes in POLICY.items() if not rpc.endswith("/ScoreImages")}
    )
    with pytest.raises(Internal, match="ScoreImages"):
        serve(Recorder())


def test_an_rpc_that_is_not_in_the_table_is_denied_to_the_owner_too():
    with pytest.raises(policy.PermissionDenied):
        authorize("/konomi.v1.RaterService/New", Principal("owner", "owner"), open_reflection=True)


@pytest.mark.slow
@pytest.mark.parametrize("credentials", ["none", "garbage", "empty", "basic", "expired", "revoked"])
def test_without_a_good_token_no_rpc_reaches_a_handler(everything, home, credentials):
    running, recorder = everything
    expired = issue_token(home, "late", "owner", expires=time.time() - 1)
    revoked = issue_token(home, "gone", "owner")
    assert revoke_tokens(home, "gone") == 1
    headers = {
        "none": (),
        "garbage": (("authorization", "Bearer konomi_guess"),),
        "empty": (("authorization", ""),),
        "basic": (("authorization", f"Basic {expired}"),),
        "expired": (("authorization", f"Bearer {expired}"),),
        "revoked": (("authorization", f"Bearer {revoked}"),),
    }
    caller = Caller(running.address)
    caller.metadata = headers[credentials]
    outcomes = {rpc: caller.outcome(rpc, b"") for rpc in KONOMI}
    reason = "TOKEN_MISSING" if credentials == "none" else "TOKEN_UNKNOWN"
    assert set(outcomes.values()) == {("UNAUTHENTICATED", reason)}, outcomes
    assert recorder.reached == []


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["owner", "labeller", "tool", "service"])
def test_every_scope_reaches_what_the_table_allows_and_nothing_else(everything, holder, scope):
    running, recorder = everything
    caller = holder(running, scope, None if scope == "owner" else "mine")
    for rpc in KONOMI:
        recorder.reached.clear()
        request = request_for(rpc, "mine") or message_factory.GetMessageClass(METHODS[rpc].input_type)()
        code, reason = caller.outcome(rpc, request)
        if scope in POLICY[rpc]:
            assert reason not in ("SCOPE_DENIED", "TOKEN_UNKNOWN", "TOKEN_MISSING"), (rpc, code, reason)
        else:
            assert (code, reason, recorder.reached) == ("PERMISSION_DENIED", "SCOPE_DENIED", []), rpc


@pytest.mark.parametrize("scope", ["labeller", "tool", "service"])
def test_a_caller_bound_to_a_taste_cannot_leave_it(everything, holder, scope):
    running, recorder = everything
    caller = holder(running, scope, "mine")
    tried = 0
    for rpc in KONOMI:
        request = request_for(rpc, "other")
        if request is None or scope not in POLICY[rpc]:
            continue
        tried += 1
        assert caller.outcome(rpc, request) == ("PERMISSION_DENIED", "TASTE_DENIED"), rpc
    assert tried >= {"labeller": 12, "tool": 5, "service": 12}[scope]
    assert recorder.reached == []


def test_a_service_without_a_taste_touches_none(everything, holder):
    running, recorder = everything
    caller = holder(running, "service")
    listing = rater_pb2.ListImagesRequest(taste="tastes/mine")
    assert caller.outcome("/konomi.v1.RaterService/ListImages", listing)[1] == "TASTE_DENIED"
    scoring = rater_pb2.ScoreImagesRequest(images=[rater_pb2.ImageInput(content=b"x")])
    assert caller.outcome("/konomi.v1.RaterService/ScoreImages", scoring)[1] == "TASTE_DENIED"
    making = generator_pb2.GenerateImagesRequest(images=[generator_pb2.ImageRequest(prompt="a")])
    assert caller.outcome("/konomi.v1.GeneratorService/GenerateImages", making)[1] == "REACHED"
    assert recorder.reached == ["GenerateImages"]


def test_an_empty_taste_becomes_the_callers_own(everything, holder):
    running, recorder = everything
    scoring = rater_pb2.ScoreImagesRequest(images=[rater_pb2.ImageInput(content=b"x")])
    assert holder(running, "tool", "mine").outcome("/konomi.v1.RaterService/ScoreImages", scoring)[1] == "REACHED"
    assert recorder.requests[-1].taste == "tastes/mine"


def test_every_message_of_a_stream_is_confined(everything, holder):
    running, recorder = everything
    caller = holder(running, "tool", "mine")
    inside, outside = (rater_pb2.ScoreImageStreamRequest(taste=f"tastes/{taste}") for taste in ("mine", "other"))
    assert caller.outcome("/konomi.v1.RaterService/ScoreImageStream", inside)[1] == "REACHED"
    assert caller.outcome("/konomi.v1.RaterService/ScoreImageStream", inside, outside)[1] == "TASTE_DENIED"
    assert len(recorder.reached) == 1


def test_resources_that_do_not_say_their_taste_are_looked_up_or_denied():
    caller = Principal("night", "service", "mine")
    request = trainer_pb2.PromoteModelRequest(name="models/m")
    confine(request, caller, {"models/m": "tastes/mine"}.get)
    for taste_of in (None, {}.get, {"models/m": "tastes/other"}.get):
        with pytest.raises(policy.PermissionDenied):
            confine(request, caller, taste_of)
    merge = trainer_pb2.MergeModelsRequest(names=["models/m", "models/n"])
    with pytest.raises(policy.PermissionDenied):
        confine(merge, caller, {"models/m": "mine", "models/n": "other"}.get)


def test_health_needs_no_token_and_reflection_none_on_loopback(everything):
    running, _ = everything
    anonymous = Caller(running.address)
    answer = anonymous.call("/grpc.health.v1.Health/Check", health_pb2.HealthCheckRequest())
    assert health_pb2.HealthCheckResponse.FromString(answer[0]).status == health_pb2.HealthCheckResponse.SERVING
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    listed = anonymous.call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", asked)
    names = {
        service.name
        for service in reflection_pb2.ServerReflectionResponse.FromString(listed[0]).list_services_response.service
    }
    assert {"konomi.v1.RaterService", "konomi.v1.ArtifactService", "grpc.health.v1.Health"} <= names


def test_reflection_off_loopback_is_the_owners():
    rpc = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    for caller in (Principal("anonymous", None), Principal("comfy", "tool", "mine"), Principal("n", "service", "mine")):
        with pytest.raises((policy.PermissionDenied, policy.Unauthenticated)):
            authorize(rpc, caller, open_reflection=False)
    authorize(rpc, Principal("owner", "owner"), open_reflection=False)


def test_a_denial_says_the_same_whether_or_not_the_target_exists(everything, holder):
    running, _ = everything
    caller = holder(running, "labeller", "mine")
    messages = set()
    for digest in ("0" * 64, "f" * 64):
        request = rater_pb2.GetImageRequest(taste="tastes/other", digest=digest)
        with pytest.raises(policy.PermissionDenied) as caught:
            caller.call("/konomi.v1.RaterService/GetImage", request)
        messages.add(caught.value.message)
    assert len(messages) == 1


def test_unknown_rpcs_ask_for_a_token_first(everything, owner):
    running, _ = everything
    assert Caller(running.address).outcome("/konomi.v1.Nothing/AtAll", b"")[0] == "UNAUTHENTICATED"
    assert owner(running).outcome("/konomi.v1.Nothing/AtAll", b"") == ("UNIMPLEMENTED", "NOT_SERVED")


def test_the_table_is_over_descriptors_in_the_pool():
    pool = descriptor_pool.Default()
    assert {f"konomi.v1.{name}Service" for name in ("Artifact", "Rater", "Generator", "Trainer")} == {
        rpc.split("/")[1] for rpc in KONOMI if pool.FindServiceByName(rpc.split("/")[1])
    }
    assert all(ANYONE not in POLICY[rpc] for rpc in KONOMI)


def test_recorder_counts_as_a_handler(everything, owner):
    running, recorder = everything
    with pytest.raises(NotFound):
        owner(running).call("/konomi.v1.RaterService/ListTastes", rater_pb2.ListTastesRequest())
    assert recorder.reached == ["ListTastes"]


def labelled(rpc, names, taste="mine"):
    """A request of an rpc with one entry a name in every place that says who labelled; None where it has no such."""
    kind = METHODS[rpc].input_type
    paths = policy._labeller_paths(kind)
    if not paths:
        return None
    message = request_for(rpc, taste) or message_factory.GetMessageClass(kind)()
    for name in names:
        for path in paths:
            inner = message
            for step in path[:-1]:
                field = inner.DESCRIPTOR.fields_by_name[step]
                inner = getattr(inner, step).add() if field.is_repeated else getattr(inner, step)
            inner.labeller = name
    return message


LABELLED = [rpc for rpc in KONOMI if labelled(rpc, [""]) is not None]


def labellers_in(message):
    """Every value of a `labeller` field in a message."""
    for field, value in message.ListFields():
        if field.name == "labeller":
            yield value
        elif field.message_type is not None and field.is_repeated:
            yield from (name for item in value for name in labellers_in(item))
        elif field.message_type is not None:
            yield from labellers_in(value)


def test_every_rpc_that_records_who_is_known():
    assert {rpc.rpartition("/")[2] for rpc in LABELLED} == {
        "RecordLabels",
        "RecordComparison",
        "RecordAudit",
        "RecordBlindAudit",
    }


@pytest.mark.parametrize("scope", ["labeller", "tool", "service"])
@pytest.mark.parametrize("name", ["owner", "Owner", "another", "tastes/mine/raterVersions/1"])
def test_nobody_but_the_owner_speaks_for_another(everything, holder, scope, name):
    running, recorder = everything
    caller = holder(running, scope, "mine", name="ann")
    for rpc in LABELLED:
        outcome = caller.outcome(rpc, labelled(rpc, [name]))
        allowed = scope in POLICY[rpc]
        assert outcome == ("PERMISSION_DENIED", "LABELLER_DENIED" if allowed else "SCOPE_DENIED"), rpc
        assert caller.outcome(rpc, labelled(rpc, ["", "ann", name]))[0] == "PERMISSION_DENIED"
    assert recorder.reached == []


def test_what_a_labeller_says_stands_under_its_own_name():
    for request in (labelled(rpc, names) for rpc in LABELLED for names in ([""], ["ann"])):
        confine(request, Principal("ann", "labeller", "mine"), lambda _: "mine")
        assert set(labellers_in(request)) == {"ann"}


def test_the_owner_may_name_another():
    for request in (labelled(rpc, ["another"]) for rpc in LABELLED):
        confine(request, Principal("studio", "owner"))
        assert set(labellers_in(request)) == {"another"}


def test_a_token_of_old_that_has_the_owners_name_labels_nothing():
    for request in (labelled(rpc, [""]) for rpc in LABELLED):
        with pytest.raises(policy.PermissionDenied) as caught:
            confine(request, Principal("owner", "labeller", "mine"))
        assert caught.value.reason == "LABELLER_DENIED"


@pytest.mark.parametrize("scope", ["labeller", "tool", "service"])
@pytest.mark.parametrize("name", ["owner", "Owner", "OWNER"])
def test_no_other_token_is_issued_in_the_owners_name(home, scope, name):
    with pytest.raises(InvalidArgument, match="owner's name"):
        issue_token(home, name, scope, "mine")
    assert not (home / "tokens" / "tokens.json").exists()


@pytest.mark.parametrize(
    ("scope", "taste", "reads"),
    [
        ("owner", None, {"mine", "other", "nobody's"}),
        ("service", "mine", {"mine", "other", "nobody's"}),
        ("service", None, {"mine", "other", "nobody's"}),
        ("labeller", "mine", {"mine"}),
        ("tool", "mine", set()),
    ],
)
def test_artifacts_by_digest_are_those_of_ones_taste(serve, holder, store, scope, taste, reads):
    digests = {owner: store.put(owner.encode(), "image/png").digest for owner in ("mine", "other", "nobody's")}
    owns = lambda digest, taste: digests.get(taste) == digest  # noqa: E731
    caller = holder(serve(Recorder(), owns_artifact=owns), scope, taste)
    absent = refusal(caller, "0" * 64)
    for owner, digest in digests.items():
        if owner in reads:
            assert caller.call(GET_ARTIFACT, artifact_pb2.GetArtifactRequest(digest=digest))
        else:
            assert refusal(caller, digest) == absent, "the same answer whether or not it is there"


def test_where_no_service_says_whose_artifacts_are_a_labeller_reads_none(serve, holder, store):
    digest = store.put(b"mine", "image/png").digest
    caller = holder(serve(Recorder()), "labeller", "mine")
    assert refusal(caller, digest) == refusal(caller, "0" * 64)
    assert refusal(caller, digest)[:2] == ("NOT_FOUND", "ARTIFACT_NOT_FOUND")


def refusal(caller, digest):
    """Status, reason and sentence of an artifact that is not given out, the digest left out of it."""
    with pytest.raises(KonomiError) as caught:
        caller.call(GET_ARTIFACT, artifact_pb2.GetArtifactRequest(digest=digest))
    return caught.value.code.name, caught.value.reason, caught.value.message.replace(digest, "")
