"""What each scope may call: the one table over all rpcs, default deny, and the check that a call stays in its taste."""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

from konomi.errors import PermissionDenied, Unauthenticated
from konomi_chassis.auth.authentication import Principal
from konomi_chassis.auth.tokens import OWNERS_NAME

ANYONE = "anyone"
OWNER = frozenset({"owner"})
LOOP = frozenset({"owner", "service"})
PERSON = frozenset({"owner", "labeller"})
READ = frozenset({"owner", "labeller", "service"})
SCORE = frozenset({"owner", "labeller", "tool", "service"})

REFLECTION = "/grpc.reflection."
LABELLER = "labeller"

_RATER, _TRAINER = "/konomi.v1.RaterService/", "/konomi.v1.TrainerService/"
_GENERATOR, _ARTIFACT = "/konomi.v1.GeneratorService/", "/konomi.v1.ArtifactService/"

POLICY: Mapping[str, frozenset[str]] = {
    "/grpc.health.v1.Health/Check": frozenset({ANYONE}),
    "/grpc.health.v1.Health/Watch": frozenset({ANYONE}),
    "/grpc.health.v1.Health/List": frozenset({ANYONE}),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": OWNER,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": OWNER,
    _ARTIFACT + "PutArtifact": LOOP,
    _ARTIFACT + "GetArtifact": READ,
    _RATER + "CreateTaste": OWNER,
    _RATER + "GetTaste": SCORE,
    _RATER + "ListTastes": OWNER,
    _RATER + "AddImages": LOOP,
    _RATER + "ListImages": READ,
    _RATER + "GetImage": READ,
    _RATER + "RecordLabels": PERSON,
    _RATER + "UndoLabel": PERSON,
    _RATER + "ListLabels": READ,
    _RATER + "RecordComparison": PERSON,
    _RATER + "UndoComparison": PERSON,
    _RATER + "FitRater": LOOP,
    _RATER + "GetRaterVersion": SCORE,
    _RATER + "ListRaterVersions": READ,
    _RATER + "ActivateRaterVersion": OWNER,
    _RATER + "FitPopulation": OWNER,
    _RATER + "ListPopulations": OWNER,
    _RATER + "RemovePopulation": OWNER,
    _RATER + "ScoreImages": SCORE,
    _RATER + "ScoreImageStream": SCORE,
    _RATER + "SuggestImages": READ,
    _RATER + "SelectImages": LOOP,
    _RATER + "ReleaseSelections": LOOP,
    _RATER + "SearchImages": SCORE,
    _RATER + "ExploreNovelty": SCORE,
    _RATER + "AdviseEmbedder": READ,
    _RATER + "ChangeEmbedder": OWNER,
    _RATER + "CertifySet": OWNER,
    _RATER + "RecordAudit": PERSON,
    _RATER + "MeasureImages": LOOP,
    _RATER + "MapImages": READ,
    _RATER + "SetFavourites": OWNER,
    _RATER + "ListFavourites": READ,
    _RATER + "RecordConsent": OWNER,
    _RATER + "ListConsents": OWNER,
    _RATER + "RevokeImages": OWNER,
    _RATER + "ListRevocations": LOOP,
    _RATER + "RecordBlindAudit": PERSON,
    _RATER + "CollectImages": OWNER,
    _RATER + "ExportTaste": OWNER,
    _RATER + "ImportTaste": OWNER,
    _GENERATOR + "ListBaseModels": LOOP,
    _GENERATOR + "InspectModel": LOOP,
    _GENERATOR + "GenerateImages": LOOP,
    _GENERATOR + "ReleaseMemory": LOOP,
    _TRAINER + "CreateTrainingRun": LOOP,
    _TRAINER + "WatchTrainingRun": LOOP,
    _TRAINER + "GetTrainingRun": LOOP,
    _TRAINER + "ListTrainingRuns": OWNER,
    _TRAINER + "CancelTrainingRun": LOOP,
    _TRAINER + "FinishTrainingRun": LOOP,
    _TRAINER + "RetrieveImages": LOOP,
    _TRAINER + "ListModels": LOOP,
    _TRAINER + "GetModel": LOOP,
    _TRAINER + "MergeModels": LOOP,
    _TRAINER + "ExportModel": LOOP,
    _TRAINER + "PromoteModel": LOOP,
    _TRAINER + "RollbackModel": LOOP,
    _TRAINER + "CollectCheckpoints": OWNER,
    _TRAINER + "ExportLineage": OWNER,
    _TRAINER + "ImportLineage": OWNER,
}
"""The one table: full rpc name to the scopes that may call it; what is not here is denied to everybody."""

LABELLING = frozenset(
    _RATER + name
    for name in (
        "RecordLabels",
        "UndoLabel",
        "RecordComparison",
        "UndoComparison",
        "RecordAudit",
        "RecordBlindAudit",
        "RecordConsent",
    )
)
"""Rpcs that record what a person says: no other call may keep them waiting."""

READING = frozenset(
    service + name
    for service, names in (
        (_ARTIFACT, ("GetArtifact",)),
        (
            _RATER,
            (
                "GetTaste",
                "ListTastes",
                "ListImages",
                "GetImage",
                "ListLabels",
                "ListFavourites",
                "GetRaterVersion",
                "ListRaterVersions",
                "ListConsents",
                "ListRevocations",
                "ListPopulations",
            ),
        ),
        (_GENERATOR, ("ListBaseModels",)),
        (_TRAINER, ("GetTrainingRun", "ListTrainingRuns", "ListModels", "GetModel")),
    )
    for name in names
)
"""Rpcs that only look something up, and that a page asks for while a person waits."""

WATCHES = frozenset({_TRAINER + "WatchTrainingRun", _RATER + "ChangeEmbedder"})
"""Streams that only watch and may last for hours: a draining server ends them instead of waiting."""

TasteOf = Callable[[str], str | None]
"""Returns the taste ("tastes/default") of a resource whose name does not say it; None when there is none."""


def authorize(rpc: str, caller: Principal, open_reflection: bool) -> None:
    """Raises unless the table lets this caller call this rpc.

    Args:
        rpc: full name, "/konomi.v1.RaterService/ScoreImages".
        caller: who calls.
        open_reflection: True on loopback, where reflection needs no token.

    Raises:
        Unauthenticated: a token is needed and none came.
        PermissionDenied: the caller's scope may not.
    """
    allowed = POLICY.get(rpc, frozenset())
    if ANYONE in allowed or (open_reflection and rpc.startswith(REFLECTION)):
        return
    if caller.scope is None:
        raise Unauthenticated(
            'This call needs a token: metadata "authorization: Bearer <token>". '
            "The owner's token is in tokens/owner.token of the home folder.",
            reason="TOKEN_MISSING",
        )
    if caller.scope not in allowed:
        raise PermissionDenied(f"A {caller.scope} token may not call {rpc.rpartition('/')[2]}.", reason="SCOPE_DENIED")


def confine(request: Any, caller: Principal, taste_of: TasteOf | None = None) -> None:
    """Keeps a caller that is bound to a taste within it, and lets it speak for nobody else.

    An empty taste becomes the caller's own, and every `labeller` in the request the caller: only the owner may record
    what another person said.

    Args:
        request: any konomi.v1 request message; its `taste`, `name`, `names` and all `labeller` fields are looked at.
        caller: who calls.
        taste_of: finds the taste of a resource such as "models/{model}"; without it such names are denied.

    Raises:
        PermissionDenied: another taste; the same answer whether or not the target exists. Or another labeller.
    """
    if caller.scope in (None, "owner"):
        return
    for path in _labeller_paths(request.DESCRIPTOR):
        _attribute(request, path, caller)
    fields = request.DESCRIPTOR.fields_by_name
    if "taste" in fields and fields["taste"].message_type is None:
        if not request.taste and caller.taste is not None:
            request.taste = f"tastes/{caller.taste}"
        _check(request.taste, caller)
    for name in _names(request, fields):
        kind, _, rest = name.partition("/")
        _check(rest.partition("/")[0] if kind == "tastes" else (taste_of(name) if taste_of else None), caller)


@cache
def _labeller_paths(kind: Any) -> tuple[tuple[str, ...], ...]:
    """Returns where a message says who labelled: the names of the fields down to every `labeller` in it."""
    paths: list[tuple[str, ...]] = [(LABELLER,)] if LABELLER in kind.fields_by_name else []
    for field in kind.fields:
        inner = field.message_type
        if inner is not None and inner.file.package == kind.file.package and inner is not kind:
            paths.extend((field.name, *path) for path in _labeller_paths(inner))
    return tuple(paths)


def _attribute(message: Any, path: tuple[str, ...], caller: Principal) -> None:
    name, rest = path[0], path[1:]
    if rest:
        value = getattr(message, name)
        repeated = message.DESCRIPTOR.fields_by_name[name].is_repeated
        for item in value if repeated else [value] if message.HasField(name) else []:
            _attribute(item, rest, caller)
        return
    if message.labeller not in ("", caller.name):
        raise PermissionDenied(
            f"A {caller.scope} token records what {caller.name} says; leave labeller empty. "
            "Only the owner may name another.",
            reason="LABELLER_DENIED",
        )
    if caller.name.casefold() == OWNERS_NAME:
        raise PermissionDenied(
            f'Only the owner labels as "{OWNERS_NAME}"; issue this token for another principal.',
            reason="LABELLER_DENIED",
        )
    message.labeller = caller.name


def _names(request: Any, fields: Mapping[str, Any]) -> Iterable[str]:
    if "name" in fields and request.name:
        yield request.name
    if "names" in fields:
        yield from request.names


def _check(taste: str | None, caller: Principal) -> None:
    if taste is None or not caller.may_touch(taste):
        raise PermissionDenied("Your token is not for this taste.", reason="TASTE_DENIED")
