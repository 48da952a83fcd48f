"""What a report says, read from the records of the nights, of older versions too."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from konomi.night.budgets import GIB
from konomi.night.draws import evaluation_draws
from konomi.night.guards import GuardSettings
from konomi.night.metrics import Estimate
from konomi.night.records.fit import CheckpointChoice
from konomi.night.records.state import (
    ENDED,
    NightState,
    RaterReport,
    Reason,
    Scores,
    Selection,
    StateName,
    StrangeImage,
    UnitRecord,
)
from konomi.night.records.store import NightStore
from konomi.night.records.trial import Trial
from konomi.night.report.status import reasons_of
from konomi.night.systems.registry import night_settings
from konomi.night.verdict import BlindEvaluation

MEASURES = (
    "kid",
    "cmmd",
    "precision",
    "recall",
    "density",
    "coverage",
    "likes_covered",
    "near_copies",
    "largest_cell_share",
    "cell_entropy",
)
"""Measures of a unit beside its scores, in the order a report shows them."""

KEPT = (
    *("unit", "model", "system", "parent", "decision", "reason", "warnings", "wins", "wins_base", "numbers"),
    *("scores", "selection", "checkpoints", "seconds", "images", "loss"),
)
"""What the JSON of a report keeps of each unit."""


@dataclass(frozen=True)
class EvaluationFigures:
    """How a unit's evaluation images were scored by the rater.

    Attributes:
        p_ssr: share expected to be SSR or better.
        p_ur: share expected to be UR.
        vendi: Vendi score, the effective number of different images.
        utility: mean predicted utility, and `spread`, the standard deviation of it over the images.
        spread: see `utility`.
        doubt: mean standard deviation of the predictions.
        untypical: share of images beyond the 95th percentile of known distances.
        novelty: mean distance to the nearest known images; None in a record of an older version.
        copies_by_chance: share of the base model's images that nearly repeat what the unit learnt from, by chance.
        measures: distances to the base model by name of `MEASURES`; empty in a record of an older version.
        compared: images a side the measures rest on.
        enough: that many images are enough for KID and CMMD to be a claim.
    """

    p_ssr: Estimate
    p_ur: Estimate
    vendi: Estimate
    utility: Estimate
    spread: float
    doubt: float
    untypical: float
    novelty: Estimate | None
    copies_by_chance: float
    measures: Mapping[str, Estimate | float]
    compared: int
    enough: bool


@dataclass(frozen=True)
class RejectedImages:
    """One reason why images were not selected: how many, and digests of some."""

    reason: str
    count: int
    examples: Sequence[str]


@dataclass(frozen=True)
class Growth:
    """What became of a set that grows.

    Attributes:
        passed: candidates that passed the gate.
        size: images of the set.
        deepest: generations between an image and its original, at most.
        copies: share of the candidates that were copies of an original.
        cosine: mean cosine between what the set grew and its originals.
    """

    passed: int
    size: int
    deepest: int
    copies: float
    cosine: float


@dataclass(frozen=True)
class UnitSelection:
    """What a unit learned from.

    Attributes:
        considered: images looked at.
        count: images selected.
        base_share: share of base images in the training set.
        selected: digests of the selected images.
        rejections: why others were not, the most frequent reason first.
        nats: selection pressure spent, ln(1 / kept share).
        strangest: the most novel images considered.
        islands: liked regions found so far; None where the system does not look for them.
        unseen_likes: chance that the next liked image is of a region not liked before.
        growth: what the gate of a growing set said.
        manifest: digest of the training set.
        avoided: what it turns away from, by reason; empty where it does not.
    """

    considered: int
    count: int
    base_share: float
    selected: Sequence[str]
    rejections: Sequence[RejectedImages]
    nats: float
    strangest: Sequence[StrangeImage]
    islands: float | None
    unseen_likes: float | None
    growth: Growth | None
    manifest: str
    avoided: Sequence[RejectedImages] = ()


@dataclass(frozen=True)
class Unit:
    """One unit of a night; number 0 is the base model.

    Attributes:
        number: its number.
        parent: number of its parent; None for the model the night began with.
        model: id of the model, "" where there is none.
        adapter: digest of the adapter, "" where there is none.
        decision: "start", "promote", "keep", "halt" or "unfinished".
        reasons: why, and every warning.
        wins: share of pairs won against the parent.
        wins_base: share of pairs won against the base model.
        gap: the rater's gain beyond what supports it.
        images: images made.
        seconds: time it took.
        evaluation: digests of its evaluation images.
        scores: None until it was evaluated.
        selection: None where it learned nothing yet.
        checkpoints: which checkpoint of its fit was kept; None where nobody chose.
    """

    number: int
    parent: int | None
    model: str
    adapter: str
    decision: str
    reasons: Sequence[Reason]
    wins: Estimate | None
    wins_base: Estimate | None
    gap: float
    images: int
    seconds: float
    evaluation: Sequence[str]
    scores: EvaluationFigures | None
    selection: UnitSelection | None
    checkpoints: CheckpointChoice | None = None


@dataclass(frozen=True)
class NightOutcome:
    """What a night left behind: the unit it promoted, the one in use since, its figures, its cost, the verdict."""

    system: str
    served: int
    in_use: int
    rater_version: str
    p_ssr: Estimate | None
    p_ur: Estimate | None
    vendi: Estimate | None
    novelty: Estimate | None
    units: int
    images: int
    nats: float
    seconds: float
    win_rate: Estimate | None
    decision: str


@dataclass(frozen=True)
class NightComparison:
    """The night before of the same taste beside this one."""

    night: str
    before: NightOutcome
    now: NightOutcome


@dataclass(frozen=True)
class LineageUnit:
    """One unit of a taste's lineage: the night that made it, and whether it is served. Unit 0 is the base model."""

    unit: int
    parent: int | None
    decision: str
    night: str
    served: bool


@dataclass(frozen=True)
class Cost:
    """What a night took; None where it is not known."""

    seconds: float
    gpu_hours: float | None
    images: int
    disk_gib: float | None
    collected: int
    kwh: float | None
    price: float | None


@dataclass(frozen=True)
class NightFacts:
    """Everything the report of a night says of it.

    Attributes:
        night: id.
        taste: name of the taste.
        system: name of the system.
        seed: seed everything was derived from.
        began: day it began.
        prompts: prompt of each evaluation image.
        diversity_floor: share of the base model's Vendi score below which a night is halted.
        served: number of the unit it promoted last; 0, the base model, where it promoted none.
        in_use: number of the unit in use after it and its owner's decision.
        seconds: working time.
        units: the units, in order.
        reasons: what became of each unit, and how the night ended.
        rater_reports: what the rater said of itself at each choice.
        work: seconds by kind of step.
    """

    night: str
    taste: str
    system: str
    seed: int
    began: date
    prompts: Sequence[str]
    diversity_floor: float
    served: int
    in_use: int
    seconds: float
    units: Sequence[Unit]
    reasons: Sequence[Reason]
    rater_reports: Sequence[RaterReport]
    work: Mapping[str, float]


def read_night(nights: NightStore, night: str) -> NightFacts:
    """Returns what is on record of a night."""
    request, state = nights.request(night), nights.state(night)
    began = date.fromtimestamp(nights.began(night))
    settings = night_settings().recorded(request.settings)
    return NightFacts(
        night=night,
        taste=request.taste.removeprefix("tastes/"),
        system=request.system,
        seed=request.seed,
        began=began,
        prompts=[draw.prompt for draw in evaluation_draws(request.seed, request.evaluation_prompts, settings)],
        diversity_floor=GuardSettings.recorded(request.guards).diversity_floor,
        served=_served(state),
        in_use=BlindEvaluation(nights, night).in_use.unit,
        seconds=state.seconds,
        units=[_unit(unit) for unit in state.units],
        reasons=_reasons(state, nights.trial(night)),
        rater_reports=rater_reports_of(state),
        work=_work(state),
    )


def _served(state: NightState) -> int:
    """Returns the unit a night serves; 0, the base model, where it never served one."""
    return state.served.unit if state.served is not None else 0


def _reasons(state: NightState, tried: Trial | None) -> list[Reason]:
    interruptions = (StateName.STOPPED, StateName.INTERRUPTED)
    return [reason for reason in reasons_of(state, tried) if reason.name not in interruptions]


def _work(state: NightState) -> dict[str, float]:
    spent: dict[str, float] = {}
    for step in state.steps:
        kind = step.name.rpartition("/")[2].split("-")[0]
        spent[kind] = spent.get(kind, 0.0) + step.seconds
    return spent


def _unit(unit: UnitRecord) -> Unit:
    return Unit(
        number=unit.unit,
        parent=unit.parent,
        model=unit.model,
        adapter=unit.adapter,
        decision=unit.decision or "unfinished",
        reasons=[*filter(None, (unit.reason,)), *unit.warnings],
        wins=unit.wins or None,
        wins_base=unit.wins_base or None,
        gap=unit.numbers.gap if unit.numbers is not None else 0.0,
        images=unit.images,
        seconds=unit.seconds,
        evaluation=unit.evaluation,
        scores=_figures(unit.scores) if unit.scores is not None else None,
        selection=_training_set(unit.selection) if unit.selection is not None else None,
        checkpoints=unit.checkpoints,
    )


def _figures(scores: Scores) -> EvaluationFigures:
    measures = scores.measures
    measured = {name: getattr(measures, name) for name in MEASURES if measures.has(name)}
    return EvaluationFigures(
        p_ssr=scores.p_ssr,
        p_ur=scores.p_ur,
        vendi=scores.vendi,
        utility=scores.utility,
        spread=scores.spread,
        doubt=scores.doubt,
        untypical=1 - scores.typical_share,
        novelty=scores.novelty,
        copies_by_chance=measures.near_copies_reference,
        measures={name: figure for name, figure in measured.items() if figure is not None},
        compared=min(measures.n, measures.reference_n),
        enough=measures.enough,
    )


def _training_set(selection: Selection) -> UnitSelection:
    rejections = [RejectedImages(reason, met.count, met.examples) for reason, met in selection.rejected.items()]
    growth = None
    if selection.has("size"):
        growth = Growth(
            passed=selection.passed,
            size=selection.size,
            deepest=selection.deepest,
            copies=selection.near_copy_share,
            cosine=selection.seed_similarity,
        )
    islands = selection.islands
    return UnitSelection(
        considered=selection.considered,
        count=selection.n,
        base_share=selection.base_share,
        selected=selection.selected,
        rejections=sorted(rejections, key=lambda rejection: -rejection.count),
        avoided=[RejectedImages(reason, met.count, met.examples) for reason, met in selection.avoided.items()],
        nats=selection.nats,
        strangest=selection.strangest,
        islands=len(islands) if isinstance(islands, list | dict) else islands,
        unseen_likes=selection.unseen_likes,
        growth=growth,
        manifest=selection.manifest,
    )


def json_of(nights: NightStore, night: str) -> dict[str, Any]:
    """Returns the report of a night as plain JSON.

    Returns:
        "night", "taste", "system", "state", "reason", "served", "units", "verdict", "yesterday" (None in the first
        night), "alarms", "cost" and "lineage".
    """
    state, request = nights.state(night), nights.request(night)
    recorded, before, evaluation = state.plain(), last_night(nights, night), BlindEvaluation(nights, night)
    return {
        "night": night,
        "taste": request.taste,
        "system": request.system,
        "seed": request.seed,
        "state": state.state,
        "reason": recorded.get("reason"),
        "served": recorded.get("served"),
        "in_use": evaluation.in_use.plain() if state.served is not None else None,
        "units": [{name: unit[name] for name in KEPT if name in unit} for unit in recorded.get("units", [])],
        "verdict": evaluation.summary().plain(),
        "yesterday": asdict(before) if before else None,
        "alarms": alarms_of(state),
        "cost": asdict(cost_of(nights, night)),
        "lineage": [asdict(unit) for unit in lineage_of(nights, night)],
    }


def last_night(nights: NightStore, night: str) -> NightComparison | None:
    """Returns what the night of the same taste before this one left, beside what this one leaves; None in the first."""
    taste, before = nights.request(night).taste, None
    for other in nights.all():
        if other == night:
            break
        if nights.request(other).taste == taste:
            state = nights.state(other)
            before = other if state.state in ENDED and state.units else before
    return NightComparison(before, _outcome(nights, before), _outcome(nights, night)) if before else None


def _outcome(nights: NightStore, night: str) -> NightOutcome:
    state, evaluation = nights.state(night), BlindEvaluation(nights, night)
    verdict, in_use = evaluation.summary(), evaluation.in_use.unit
    scores = next((unit.scores for unit in state.units if unit.unit == in_use), None) or Scores()
    return NightOutcome(
        system=state.system,
        served=_served(state),
        in_use=in_use,
        rater_version=state.rater_version.rpartition("/")[2],
        p_ssr=scores.p_ssr or None,
        p_ur=scores.p_ur or None,
        vendi=scores.vendi or None,
        novelty=scores.novelty,
        units=sum(unit.has("parent") for unit in state.units),
        images=state.images,
        nats=state.nats,
        seconds=state.seconds,
        win_rate=verdict.tally.win_rate if verdict.tally is not None else None,
        decision=verdict.decision,
    )


def rater_reports_of(state: NightState) -> list[RaterReport]:
    """Returns what the rater said of itself at the beginning of a night and at each of its choices."""
    chosen = [unit.selection.rater for unit in state.units if unit.selection is not None]
    return [report for report in (state.rater, *chosen) if report is not None]


def alarms_of(state: NightState) -> list[str]:
    """Returns what the rater warned of during a night, in English, each sentence once."""
    return list(dict.fromkeys(alarm for report in rater_reports_of(state) for alarm in report.alarms))


def cost_of(nights: NightStore, night: str) -> Cost:
    """Returns what a night took, as far as it is known."""
    state, recorded = nights.state(night), nights.request(night).settings
    settings = night_settings()(**{name: recorded[name] for name in ("hour_price", "watts") if name in recorded})
    hours = state.seconds / 3600
    return Cost(
        seconds=state.seconds,
        gpu_hours=state.gpu_seconds / 3600 if state.has("gpu_seconds") else None,
        images=state.images,
        disk_gib=state.disk_bytes / GIB if state.has("disk_bytes") else None,
        collected=state.collected,
        kwh=hours * settings.watts / 1000 if settings.watts else None,
        price=hours * settings.hour_price if settings.hour_price else None,
    )


def lineage_of(nights: NightStore, night: str) -> list[LineageUnit]:
    """Returns every unit of the taste up to a night.

    A unit that met several nights is told by the one that made it.
    """
    request, served = nights.request(night), BlindEvaluation(nights, night).in_use.unit
    units = {0: LineageUnit(0, None, "start", "", served == 0)}
    for other in nights.all():
        if nights.request(other).taste == request.taste:
            for unit in nights.state(other).units:
                if unit.has("parent"):
                    decision = unit.decision or "unfinished"
                    units[unit.unit] = LineageUnit(unit.unit, unit.parent, decision, other, unit.unit == served)
        if other == night:
            break
    return list(units.values())
