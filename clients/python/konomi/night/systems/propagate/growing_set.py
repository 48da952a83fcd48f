"""A set that grows by itself, as it is kept: an artifact that names every member, its depth and its parents."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from konomi import files
from konomi.night.draws import ConceptToken, named
from konomi.night.gateway.services import ImageFacts, NightServices
from konomi.night.records.state import Selection
from konomi.night.systems.propagate.policy import Round

SCHEMA = "konomi.growth/1"
SSR = 4
MOST_BAD = 2
"""Members of one turn graded below SSR at which those of it that nobody looked at leave too."""


class KeptMember(TypedDict):
    """One image of a set; an original has no parents and no unit."""

    digest: str
    prompt: str
    depth: int
    parents: NotRequired[list[str]]
    unit: NotRequired[str]
    cosine: float


class GrowingSet(TypedDict):
    """The document of a set, as it is stored; `graded_down` counts the members of a unit that left by their grade."""

    schema: str
    originals: list[str]
    members: list[KeptMember]
    rounds: list[Round]
    graded_down: NotRequired[dict[str, int]]


def token_of(originals: Sequence[str]) -> str:
    """Returns the word V* of a set, the same for the same originals."""
    return f"<seed-{hashlib.sha256(''.join(sorted(originals)).encode()).hexdigest()[:8]}>"


def first(originals: Sequence[str], facts: Mapping[str, ImageFacts], word: ConceptToken) -> GrowingSet:
    """Returns the set as it begins: the originals, at depth 0, each with its caption and the word in it."""
    prompts = {digest: facts[digest].prompt if digest in facts else "" for digest in originals}
    members: list[KeptMember] = [
        {"digest": digest, "prompt": named(prompt, word), "depth": 0, "cosine": 1.0}
        for digest, prompt in prompts.items()
    ]
    return {"schema": SCHEMA, "originals": list(originals), "members": members, "rounds": []}


def confirmed(grown: GrowingSet, facts: Mapping[str, ImageFacts]) -> tuple[GrowingSet, list[str], list[str]]:
    """Returns a set without the members the owner graded below SSR since, the digests of those, and of who left too.

    What a turn let in stands or falls with the sample its owner looked at (acceptance sampling; Dodge and Romig 1929):
    where MOST_BAD of that were below SSR, its members nobody looked at leave as well. Originals stay.
    """
    new = [member for member in grown["members"] if member["digest"] not in grown["originals"]]
    grades = {member["digest"]: facts[member["digest"]].grade for member in new if member["digest"] in facts}
    gone = [member["digest"] for member in new if 0 < grades.get(member["digest"], 0) < SSR]
    bad = Counter(grown.get("graded_down", {}))
    bad.update(member.get("unit", "") for member in new if member["digest"] in gone)
    doubted = [
        member["digest"]
        for member in new
        if not grades.get(member["digest"], 0) and bad[member.get("unit", "")] >= MOST_BAD
    ]
    left = {*gone, *doubted}
    kept = [member for member in grown["members"] if member["digest"] not in left]
    changed = grown | {"members": kept}
    return changed | {"graded_down": dict(sorted(bad.items()))} if gone else changed, gone, doubted


def extended(grown: GrowingSet, gate: Selection, facts: Mapping[str, ImageFacts]) -> GrowingSet:
    """Returns a set with what a gate let in, and the turn's figures added to its rounds."""
    new: list[KeptMember] = [
        {
            "digest": digest,
            "prompt": facts[digest].prompt,
            "depth": facts[digest].depth,
            "parents": list(facts[digest].parents),
            "unit": facts[digest].unit,
            "cosine": cosine,
        }
        for digest, cosine in zip(gate.taken, gate.cosines, strict=True)
    ]
    turn: Round = {
        "considered": gate.considered,
        "passed": gate.passed,
        "mean_cosine": gate.mean_cosine,
        "standard_error": gate.standard_error,
        "taken": len(new),
        "size": len(grown["members"]) + len(new),
    }
    return grown | {"members": [*grown["members"], *new], "rounds": [*grown["rounds"], turn]}


def read(gateway: NightServices, digest: str) -> GrowingSet:
    """Returns a set that was kept."""
    grown: GrowingSet = json.loads(gateway.client.artifacts.get(digest))
    return grown


def keep(gateway: NightServices, grown: GrowingSet) -> str:
    """Keeps a set and returns its digest."""
    return gateway.client.artifacts.put(files.canonical(grown), "application/json").digest
