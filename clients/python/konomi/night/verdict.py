"""The owner's morning verdict on a night: twenty blind pairs, what they say, and whether its unit stays.

A pair is the same prompt and seed made by the unit the night serves and by the model served before it. Which side is
whose stays hidden until every pair is answered; from then on the answers stand. They are recorded in the rater as a
blind audit: no rater is fitted on them, no image of theirs is trained on, and the selection pressure starts anew.
"""

import hashlib
import random
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from konomi.client import Client, paging
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.files import derived_id
from konomi.i18n.catalogue import text
from konomi.night.metrics import Estimate, share
from konomi.night.records import sealed
from konomi.night.records.record import Record
from konomi.night.records.state import Audit, NightState, Served
from konomi.night.records.store import NightStore
from konomi.v1 import rater_pb2 as rater

PAIRS = 20
SHEET, SAMPLE = 64, 24
"""Images of each unit the report and the page show under its name, from the first; pairs are drawn from the others."""

ROWS = 8
"""Rows of the report's sheet of before and after, spread over all images; they are in no pair either."""

CHOICES = ("left", "right", "tie")
LETTERS = {"L": "left", "R": "right", "T": "tie", "-": ""}
KEEP, ROLL_BACK, OPEN, DAMAGED = "keep", "roll_back", "open", "damaged"


class Decision(Record):
    """One decision on a night's unit, and what is current since: "base" or a model id."""

    decision: str
    current: str
    time: float


class KeptVerdict(Record):
    """The file of a verdict: answers by number of the pair, name of the audit, the decision and all of them."""

    answers: dict[str, str] = Field(default_factory=dict)
    audit: str | None = None
    decision: str = OPEN
    decisions: tuple[Decision, ...] = ()


class Tally(Record):
    """What the pairs told."""

    wins: int
    losses: int
    ties: int
    win_rate: Estimate
    advice: str


class VerdictSummary(Record):
    """A verdict as `night status --json`, the report and the page have it; no tally until every pair is answered."""

    pairs: int
    answered: int
    unit: Served
    against: Served
    tally: Tally | None
    audit: str | None
    decision: str
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class BlindPair:
    """One pair of a night.

    Attributes:
        place: position among the evaluation images, which names prompt and seed.
        unit: digest of the served unit's image.
        against: digest of the image of the model served before.
        unit_left: the unit is on the left.
    """

    place: int
    unit: str
    against: str
    unit_left: bool

    @property
    def left(self) -> str:
        """Returns the digest on the left."""
        return self.unit if self.unit_left else self.against

    @property
    def right(self) -> str:
        """Returns the digest on the right."""
        return self.against if self.unit_left else self.unit

    def won(self, choice: str) -> float:
        """Returns 1 where the choice is the unit, 0 where it is the other model, 0.5 for a tie."""
        return 0.5 if choice == "tie" else float((choice == "left") == self.unit_left)


class BlindEvaluation:
    """The verdict on one night, kept beside its record."""

    def __init__(self, nights: NightStore, night: str) -> None:
        self.night = night
        self.taste = nights.request(night).taste
        self.state = nights.state(night)
        self.path: Path = nights.folder / night / "verdict.json"

    @property
    def kept(self) -> KeptVerdict:
        """Returns what is on record."""
        try:
            return KeptVerdict.model_validate(sealed.read(self.path))
        except (sealed.Damaged, ValidationError) as error:
            message = text(
                "The answers about the night {night} cannot be read: its verdict.json is damaged. Move that file away "
                "to answer anew; what the rater recorded stays.",
                night=self.night,
            )
            raise FailedPrecondition(message, reason="VERDICT_DAMAGED") from error

    @property
    def readable(self) -> bool:
        """Says whether its file can be read; an owner who never answered has none, which is no damage."""
        with suppress(FailedPrecondition):
            return self.kept is not None
        return False

    @property
    def unit(self) -> Served:
        """Returns what the night serves."""
        return self.state.served or Served(unit=0, model="base")

    @property
    def against(self) -> Served:
        """Returns what was served when the night began."""
        starts = [record for record in self.state.units if record.decision == "start"]
        return Served(unit=starts[-1].unit, model=starts[-1].model) if starts else Served(unit=0, model="base")

    @property
    def in_use(self) -> Served:
        """Returns what is in use after the night and its owner's decision."""
        return self.before if self.readable and self.kept.decision == ROLL_BACK else self.unit

    @property
    def before(self) -> Served:
        """Returns what was in use before: what its unit is judged against, or a unit of another base model."""
        return self.state.before or self.against

    @property
    def left_nothing(self) -> bool:
        """Says whether nothing the night made is in use: it serves what it began with, or was rolled back."""
        return self.unit.unit == self.against.unit or (self.readable and self.kept.decision == ROLL_BACK)

    def pairs(self) -> list[BlindPair]:
        """Returns the pairs, the same ones whenever they are asked for; none where the night changed nothing."""
        unit, against = self.unit.unit, self.against.unit
        made = {record.unit: record.evaluation for record in self.state.units}
        if not self.state.is_final or unit == against or not made.get(unit):
            return []
        both = list(zip(made[unit], made.get(against, ()), strict=False))
        free = [place for place in range(len(both)) if both[place][0] != both[place][1]]
        for named in (shown_by_name(len(both)), frozenset(range(SAMPLE)), frozenset()):
            unseen = [place for place in free if place not in named]
            if len(unseen) >= PAIRS:
                break
        draw = random.Random(hashlib.sha256(f"verdict {self.night}".encode()).digest())
        chosen = draw.sample(unseen, min(PAIRS, len(unseen)))
        lefts = [index % 2 == 0 for index in range(len(chosen))]
        draw.shuffle(lefts)
        return [BlindPair(place, *both[place], left) for place, left in zip(chosen, lefts, strict=True)]

    def answers(self) -> dict[int, str]:
        """Returns what was answered so far, by number of the pair."""
        return {int(pair): choice for pair, choice in self.kept.answers.items()}

    def answer(self, pair: int, choice: str) -> None:
        """Notes an answer durably; an empty choice takes it back.

        Raises:
            InvalidArgument: there is no such pair or choice.
            FailedPrecondition: there is nothing to judge, or all pairs were answered and the sides are known.
        """
        pairs = self.pairs()
        if not pairs:
            raise FailedPrecondition(text("this night changed nothing that could be judged"), reason="NOTHING_TO_JUDGE")
        if not 0 <= pair < len(pairs):
            raise InvalidArgument(text("expected a pair from 1 to {count}", count=len(pairs)), field="pair")
        if choice not in (*CHOICES, ""):
            raise InvalidArgument(text("expected one of {choices}", choices=", ".join(CHOICES)), field="choice")
        answers = self.answers()
        if answers.get(pair) == choice:
            return
        if len(answers) >= len(pairs):
            raise FailedPrecondition(
                text("every pair is answered and the sides are known: the answers stand"), reason="VERDICT_GIVEN"
            )
        answers[pair] = choice
        self._keep(answers={str(place): given for place, given in sorted(answers.items()) if given})

    def answer_all(self, letters: str) -> None:
        """Notes the answers of a sheet: one letter a pair, L, R, T for equal, or - for none.

        Raises:
            InvalidArgument: the letters do not fit the pairs.
            FailedPrecondition: as for `answer`.
        """
        pairs, given = self.pairs(), letters.strip().upper()
        if pairs and (len(given) != len(pairs) or set(given) - set(LETTERS)):
            message = "expected {count} letters L, R, T or -, one a pair; got {answers}"
            raise InvalidArgument(text(message, count=len(pairs), answers=letters[:80]), field="answers")
        for pair, letter in enumerate(given):
            if LETTERS.get(letter):
                self.answer(pair, LETTERS[letter])

    @property
    def done(self) -> bool:
        """Says whether every pair is answered, so that the sides may be told."""
        count = len(self.pairs())
        return 0 < count <= len(self.answers())

    def tally(self) -> Tally | None:
        """Returns what the pairs told; None until every pair is answered.

        A tie counts half.
        """
        if not self.done:
            return None
        pairs, answers = self.pairs(), self.answers()
        points = [pair.won(answers[place]) for place, pair in enumerate(pairs)]
        rate = share(sum(points), len(points))
        return Tally(
            wins=points.count(1.0),
            losses=points.count(0.0),
            ties=points.count(0.5),
            win_rate=rate,
            advice=advice(rate),
        )

    def note_audit(self, name: str) -> None:
        """Notes that the rater has the answers, under a name of its own."""
        self._keep(audit=name)

    def note_decision(self, decision: str, current: str, now: float) -> None:
        """Notes a decision and what is current since: "base" or a model id."""
        entry = Decision(decision=decision, current=current, time=round(now, 1))
        self._keep(decision=decision, decisions=(*self.kept.decisions, entry))

    def summary(self) -> VerdictSummary:
        """Returns what `night status --json` and the report say of it; decision "damaged" where it cannot be read."""
        if not self.readable:
            return VerdictSummary(
                pairs=len(self.pairs()), answered=0, unit=self.unit, against=self.against,
                tally=None, audit=None, decision=DAMAGED, decisions=(),
            )  # fmt: skip
        kept = self.kept
        return VerdictSummary(
            pairs=len(self.pairs()),
            answered=len(self.answers()),
            unit=self.unit,
            against=self.against,
            tally=self.tally(),
            audit=kept.audit,
            decision=kept.decision,
            decisions=kept.decisions,
        )

    def _keep(self, **changed: Any) -> None:
        sealed.write(self.path, self.kept.changed(**changed).plain())


def shown_by_name(count: int) -> frozenset[int]:
    """Returns the positions of the evaluation images that report and page show under their unit's name."""
    rows = {row * count // ROWS for row in range(ROWS)}
    return frozenset(range(min(SHEET, count))) | rows


def advice(rate: Estimate) -> str:
    """Returns "roll_back" where the unit surely loses, "keep" where it surely wins, "open" where pairs cannot tell."""
    if rate["high"] < 0.5:
        return ROLL_BACK
    return KEEP if rate["low"] > 0.5 else OPEN


def audits(nights: NightStore, taste: str, version: str) -> list[Audit]:
    """Returns the finished blind audits of nights a rater version chose in, oldest first.

    Args:
        nights: the nights of this home.
        taste: "tastes/{taste}".
        version: a rater version; what was said of another's choices says nothing of this one.
    """
    finished = []
    for night in nights.all():
        state = nights.state(night)
        if nights.request(night).taste != taste or state.rater_version != version:
            continue
        evaluation = BlindEvaluation(nights, night)
        if not evaluation.readable:
            continue
        unit = evaluation.unit.unit
        tally, rise = evaluation.tally(), _rise(state, unit, evaluation.against.unit)
        if tally is not None and rise is not None:
            rate = tally.win_rate
            finished.append(Audit(night=night, unit=unit, rise=rise, win_rate=rate["value"], pairs=rate["n"]))
    return finished


def _rise(state: NightState, unit: int, against: int) -> float | None:
    """Returns by how much the rater scored a unit above another, in unit 0's standard deviations; None if unknown."""
    scores = {record.unit: record.scores for record in state.units if record.scores is not None}
    if not {unit, against, 0} <= set(scores):
        return None
    gained = scores[unit].utility["value"] - scores[against].utility["value"]
    return gained / max(scores[0].spread, 1e-9)


BASE = "base"


def hand_over(client: Client, verdict: BlindEvaluation) -> bool:
    """Records a fully answered verdict in the rater, once; says whether the rater has it."""
    if not verdict.done:
        return False
    if verdict.kept.audit:
        return True
    answers = verdict.answers()
    pairs = [
        rater.BlindPair(unit_digest=pair.unit, against_digest=pair.against, choice=_choice(pair.won(answers[place])))
        for place, pair in enumerate(verdict.pairs())
    ]
    audit = client.rater.record_blind_audit(
        taste=verdict.taste,
        audit=rater.BlindAudit(
            night=verdict.night, unit=verdict.unit.model, against=verdict.against.model, pairs=pairs
        ),
        request_id=derived_id(verdict.night, "blind-audit"),
    )
    verdict.note_audit(audit.name)
    return True


def decide(client: Client, verdict: BlindEvaluation, decision: str, now: float) -> str:
    """Keeps the unit, or takes it back to what was served before the night; returns what is current since.

    Args:
        client: rater and trainer.
        verdict: of a night that has ended.
        decision: "keep" or "roll_back"; the same decision twice is one decision.
        now: Unix time.

    Returns:
        "base" or a model id.

    Raises:
        FailedPrecondition: the night changed nothing, or another model was made current since.
    """
    if not verdict.pairs():
        raise FailedPrecondition(text("this night changed nothing that could be judged"), reason="NOTHING_TO_JUDGE")
    hand_over(client, verdict)
    unit, before = verdict.unit.model, verdict.before.model
    current, wanted = _current(client, verdict.taste), unit if decision == KEEP else before
    if current == wanted and verdict.kept.decision == decision:
        return current
    if current not in (unit, wanted):
        raise FailedPrecondition(
            text(
                "expected {unit} to be in use, but another model was made current since; choose one under Lineage",
                unit=f"unit-{verdict.unit.unit}",
            ),
            reason="NOT_CURRENT",
        )
    if current != wanted:
        to = before if before == BASE else f"models/{before}"
        client.trainer.rollback_model(taste=verdict.taste, to=to, request_id=str(uuid.uuid4()))
        current = before
    verdict.note_decision(decision, current, now)
    return current


def newest(nights: NightStore) -> str | None:
    """Returns the newest night that left something to judge; the newest of all where none did, None without a night.

    A night that was not begun, because the one before is not judged yet, must not hide it.
    """
    made = nights.all()
    return next((night for night in reversed(made) if BlindEvaluation(nights, night).pairs()), nights.latest())


PURPOSES = 1000
"""Choices one call releases."""


def release_unused(client: Client, nights: NightStore, taste: str) -> int:
    """Takes back the selection pressure of nights that left nothing in use; returns how many choices it was of.

    What such a night chose is in no model that is served, and there are no pairs by which its owner could judge it: it
    would stand in the way of the next night for ever. A night counts where it serves what it began with, or was rolled
    back; those before the last one that was judged count no more anyway.
    """
    found = list[str]()
    for night in reversed(nights.all()):
        request, state = nights.request(night), nights.state(night)
        if request.taste != taste or not state.is_final:
            continue
        evaluation = BlindEvaluation(nights, night)
        if evaluation.readable and evaluation.kept.audit:
            break
        if evaluation.left_nothing:
            found += [request.purpose(record.unit) for record in state.units if record.selection is not None]
    parts = [found[at : at + PURPOSES] for at in range(0, len(found), PURPOSES)]
    return sum(client.rater.release_selections(taste=taste, purposes=part).released for part in parts)


def _choice(won: float) -> rater.BlindChoice.ValueType:
    return {1.0: rater.BLIND_CHOICE_UNIT, 0.0: rater.BLIND_CHOICE_AGAINST, 0.5: rater.BLIND_CHOICE_TIE}[won]


def _current(client: Client, taste: str) -> str:
    """Returns the id of a taste's current model, "base" where it is the base model itself."""
    current = (model.name.removeprefix("models/") for model in paging.models(client, taste) if model.current)
    return next(current, BASE)
