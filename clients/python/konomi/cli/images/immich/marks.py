"""Predictions written into Immich: stars or tags, never over what its owner wrote, and remembered as konomi's.

Stars go where nobody gave any, or where those that stand there are konomi's own. A tag is one of "konomi/N" to
"konomi/UR"; a picture has one of them, and other tags are never looked at. What was written is noted in the home once
Immich has answered, so that an import never takes konomi's stars for the owner's.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from konomi.cli.images.immich.assets import Asset
from konomi.cli.images.immich.server import ImmichServer
from konomi.client.messages import GRADES
from konomi.errors import DataLoss
from konomi.i18n.catalogue import text
from konomi.taste.scoring import Scored

AT_ONCE = 500
"""Pictures of one call."""
TAG = "konomi/{grade}"
Kind = Literal["rating", "tag"]


@dataclass(frozen=True)
class MarkPlan:
    """What would be written.

    Attributes:
        kind: stars or tags.
        by_grade: grade → ids of the pictures that get it, in their order.
        passed_over: why a picture gets nothing to how many; see `_reason`.
    """

    kind: Kind
    by_grade: Mapping[str, Sequence[str]]
    passed_over: Counter[str] = field(default_factory=Counter)

    @property
    def count(self) -> int:
        """How many pictures would be written to."""
        return sum(map(len, self.by_grade.values()))


class WrittenMarks:
    """What konomi wrote to a server: one append-only file of the home; a line that a kill cut off is dropped.

    A mark is noted before Immich is asked and again once it has answered: whatever stands there after a kill between
    the two is known to be konomi's.
    """

    def __init__(self, folder: Path, address: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{hashlib.sha256(address.encode()).hexdigest()[:24]}.jsonl"
        self._asked: dict[str, dict[str, str]] = {"rating": {}, "tag": {}}
        self._written: dict[str, dict[str, str]] = {"rating": {}, "tag": {}}
        for line in self._path.read_text("utf-8").splitlines() if self._path.exists() else ():
            try:
                entry = json.loads(line)
                self._take(entry["kind"], entry["grade"], entry["ids"], bool(entry["written"]))
            except (ValueError, KeyError, TypeError):
                continue

    def grade(self, kind: Kind, identity: str) -> str:
        """Returns the grade konomi wrote to a picture; empty where it wrote none."""
        return self._written[kind].get(identity, "")

    def asked(self, kind: Kind, identity: str) -> str:
        """Returns the grade konomi last set about to write; it may stand there or not."""
        return self._asked[kind].get(identity, "")

    def ratings(self) -> dict[str, int]:
        """Returns id → the stars konomi gave, or set about to give."""
        return {identity: stars(grade) for identity, grade in self._asked["rating"].items()}

    def note(self, kind: Kind, grade: str, identities: Sequence[str], *, written: bool) -> None:
        """Notes what Immich is about to be asked, or has taken; it outlives a loss of power from then on."""
        line = json.dumps({"kind": kind, "grade": grade, "ids": list(identities), "written": written})
        before = self._path.read_bytes()[-1:] if self._path.exists() else b""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(("\n" if before not in (b"", b"\n") else "") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._take(kind, grade, identities, written)

    def _take(self, kind: Kind, grade: str, identities: Sequence[str], written: bool) -> None:
        stars(grade)  # a grade there is none of is no entry
        marks = dict.fromkeys(identities, grade)
        self._asked[kind].update(marks)
        if written:
            self._written[kind].update(marks)


def stars(grade: str) -> int:
    """Returns a grade as stars: 1 for N to 5 for UR."""
    return GRADES.index(grade) + 1


def planned(kind: Kind, scored: Sequence[Scored], assets: Mapping[str, Asset], written: WrittenMarks) -> MarkPlan:
    """Returns what would be written of some scores, whose paths are the ids of pictures."""
    plan: dict[str, list[str]] = {grade: [] for grade in GRADES}
    passed_over: Counter[str] = Counter()
    for one in scored:
        reason = _reason(kind, one, assets[one.path], written)
        if reason:
            passed_over[reason] += 1
        else:
            plan[one.grade].append(one.path)
    return MarkPlan(kind, {grade: ids for grade, ids in plan.items() if ids}, passed_over)


def _reason(kind: Kind, one: Scored, asset: Asset, written: WrittenMarks) -> str:
    """Returns why a picture gets no mark; empty where it gets one."""
    mine, asked = written.grade(kind, asset.id), written.asked(kind, asset.id)
    if one.score is None or not one.grade:
        return "not scored"
    if one.score.unknown:
        return "guess"
    if kind == "tag":
        return "already" if mine == one.grade else ""
    if asset.rating is None:
        return "taken off" if mine else ""
    if not asked or asset.rating != stars(asked):
        return "own rating"
    return "already" if asset.rating == stars(one.grade) else ""


def write(server: ImmichServer, plan: MarkPlan, written: WrittenMarks) -> Iterator[int]:
    """Writes a plan, some hundred pictures a call, and yields how many are written by now.

    Raises:
        KonomiError: the server cannot be reached, or refused; what was written before stays and is noted.
    """
    tags = _tag_ids(server) if plan.kind == "tag" and plan.count else {}
    done = 0
    for grade, ids in plan.by_grade.items():
        for start in range(0, len(ids), AT_ONCE):
            some = list(ids[start : start + AT_ONCE])
            earlier = {identity: written.asked(plan.kind, identity) for identity in some}
            written.note(plan.kind, grade, some, written=False)
            if plan.kind == "rating":
                server.ask("PUT", "/assets", {"ids": some, "rating": stars(grade)})
            else:
                _untag(server, tags, earlier)
                server.ask("PUT", "/tags/assets", {"assetIds": some, "tagIds": [tags[grade]]})
            written.note(plan.kind, grade, some, written=True)
            done += len(some)
            yield done


def _untag(server: ImmichServer, tags: Mapping[str, str], earlier: Mapping[str, str]) -> None:
    """Takes konomi's earlier tags off pictures that get another."""
    for grade, tag in tags.items():
        ids = [identity for identity, had in earlier.items() if had == grade]
        if ids:
            server.ask("DELETE", f"/tags/{tag}/assets", {"ids": ids})


def _tag_ids(server: ImmichServer) -> dict[str, str]:
    """Returns grade → id of its tag; Immich makes those that are missing."""
    wanted = {TAG.format(grade=grade): grade for grade in GRADES}
    said: Any = server.ask("PUT", "/tags", {"tags": list(wanted)})
    try:
        found = {wanted[one["value"]]: str(one["id"]) for one in said if one["value"] in wanted}
    except (KeyError, TypeError) as error:
        raise _odd(server) from error
    if set(found) != set(GRADES):
        raise _odd(server)
    return found


def _odd(server: ImmichServer) -> DataLoss:
    line = text(
        "what answers at {address} is no Immich: its answer is not the JSON that was expected", address=server.address
    )
    return DataLoss(line, reason="IMMICH_ANSWER")
