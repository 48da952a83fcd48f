"""The check of requests by field rules, and the rules of the one service every server has: ArtifactService."""

from collections.abc import Iterator, Sequence
from typing import Any

from konomi.errors import InvalidArgument
from konomi_chassis.rpc.field_rules import DIGEST, UUID_OR_NONE, RequestRules


class InvalidFields(InvalidArgument):
    """One or more fields break their rules; `violations` holds (path, sentence) of each."""

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        path, text = violations[0]
        super().__init__(f"{path}: {text}", reason="FIELD_INVALID", field=path)
        self.violations = tuple(violations)


ARTIFACT_RULES: RequestRules = {
    "PutArtifactRequest": {"header.digest": DIGEST, "header.request_id": UUID_OR_NONE},
    "GetArtifactRequest": {"digest": DIGEST},
}


def check(request: Any, rules: RequestRules) -> None:
    """Raises InvalidFields, with every violation, unless the request keeps its rules.

    A field with explicit presence, or inside a message, is checked only when it was set.

    Args:
        request: a message.
        rules: of the requests of its service; a start of the server has checked that this one is among them.
    """
    violations = []
    for path, rule in rules[request.DESCRIPTOR.name].items():
        for where, value in _values(request, path.split("."), ""):
            wrong = rule(value)
            if wrong is not None:
                violations.append((where, wrong))
    if violations:
        raise InvalidFields(violations[:32])


def _values(message: Any, parts: list[str], where: str) -> Iterator[tuple[str, Any]]:
    name, rest = parts[0].removesuffix("[]"), parts[1:]
    place = f"{where}.{name}" if where else name
    if parts[0].endswith("[]"):
        items = [(f"{place}[{index}]", item) for index, item in enumerate(getattr(message, name))]
    elif message.DESCRIPTOR.fields_by_name[name].has_presence and not message.HasField(name):
        return
    else:
        items = [(place, getattr(message, name))]
    for path, value in items:
        if rest:
            yield from _values(value, rest, path)
        else:
            yield path, value
