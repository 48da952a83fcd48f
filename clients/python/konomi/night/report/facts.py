"""What a report says, read from the records of the nights: the one place that knows their keys."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from konomi.night.budgets import GIB
from konomi.night.draws import evaluation_draws
from konomi.night.guards import GuardSettings
from konomi.night.metrics import Estimate
from konomi.night.records.state import ENDED, StateName
from konomi.night.records.store import NightStore
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
    *("scores", "selection", "seconds", "images", "loss"),
)
"""What the JSON of a report keeps of each unit."""

Recorded = Mapping[str, Any]
"""A part of a night's record, as JSON."""


@dataclass(frozen=True)
class Scores:
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
    measures: Mapping[str, Estimate | float]
    compared: int
    enough: bool


@dataclass(frozen=True)
class Rejection:
    """One reason why images were not selected: how many, and digests of some."""

    reason: str
    count: int
    examples: Sequence[str]


@dataclass(frozen=True)
class StrangeImage:
    """An image far from everything known: its distance, and what became of it."""

    digest: str
    novelty: float
    fate: str


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
class Selection:
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
    """

    considered: int
    count: int
    base_share: float
    selected: Sequence[str]
    rejections: Sequence[Rejection]
    nats: float
    strangest: Sequence[StrangeImage]
    islands: int | None
    unseen_likes: float | None
    growth: Growth | None
    manifest: str


@dataclass(frozen=True)
class Unit:
    """One unit of a night; number 0 is the base model.

    Attributes:
        number: its number.
        parent: number of its parent; None for the model the night began with.
        model: id of the model, "" where there is none.
        adapter: digest of the adapter, "" where there is none.
        decision: "start", "promote", "keep", "halt" or "unfinished".
        alarms: why, and every warning, as recorded.
        wins: share of pairs won against the parent.
        wins_base: share of pairs won against the base model.
        gap: the rater's gain beyond what supports it.
        images: images made.
        seconds: time it took.
        evaluation: digests of its evaluation images.
        scores: None until it was evaluated.
        selection: None where it learned nothing yet.
    """

    number: int
    parent: int | None
    model: str
    adapter: str
    decision: str
    alarms: Sequence[Recorded]
    wins: Estimate | None
    wins_base: Estimate | None
    gap: float
    images: int
    seconds: float
    evaluation: Sequence[str]
    scores: Scores | None
    selection: Selection | None


@dataclass(frozen=True)
class Summary:
    """What a night left behind: the served unit with its figures, what it spent, the owner's verdict."""

    system: str
    served: int
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
class Comparison:
    """The night before of the same taste beside this one."""

    night: str
    before: Summary
    now: Summary


@dataclass(frozen=True)
class Ancestor:
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
        served: number of the unit it serves.
        seconds: working time.
        units: the units, in order.
        reasons: alarms that tell what became of each unit, and how the night ended.
        rater_logs: what the rater said of itself at each choice, as recorded.
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
    seconds: float
    units: Sequence[Unit]
    reasons: Sequence[Recorded]
    rater_logs: Sequence[Recorded]
    work: Mapping[str, float]


def read_night(nights: NightStore, night: str) -> NightFacts:
    """Returns what is on record of a night."""
    request, state = nights.request(night), nights.read(night)
    began = date.fromtimestamp((nights.folder / night / "request.json").stat().st_mtime)
    settings = night_settings().recorded(request.settings)
    return NightFacts(
        night=night,
        taste=request.taste.removeprefix("tastes/"),
        system=request.system,
        seed=request.seed,
        began=began,
        prompts=[draw.prompt for draw in evaluation_draws(request.seed, request.evaluation_prompts, settings)],
        diversity_floor=GuardSettings.recorded(request.guards).diversity_floor,
        served=int((state.get("served") or {}).get("unit", 0)),
        seconds=state.get("seconds", 0.0),
        units=[_unit(unit) for unit in state["units"]],
        reasons=_reasons(state),
        rater_logs=rater_logs_of(state),
        work=_work(state),
    )


def _reasons(state: Recorded) -> list[Recorded]:
    reasons = [unit["reason"] for unit in state["units"] if unit.get("reason")]
    end = state.get("reason")
    if end and end["name"] not in (StateName.STOPPED, StateName.INTERRUPTED, *(reason["name"] for reason in reasons)):
        reasons.append(end)
    return reasons


def _work(state: Recorded) -> dict[str, float]:
    spent: dict[str, float] = {}
    for step in state["steps"]:
        kind = step["name"].rpartition("/")[2].split("-")[0]
        spent[kind] = spent.get(kind, 0.0) + step["seconds"]
    return spent


def _unit(unit: Recorded) -> Unit:
    reason = [unit["reason"]] if unit.get("reason") else []
    scores, selection = unit.get("scores"), unit.get("selection")
    return Unit(
        number=unit["unit"],
        parent=unit.get("parent"),
        model=unit.get("model") or "",
        adapter=unit.get("adapter") or "",
        decision=unit.get("decision") or "unfinished",
        alarms=[*reason, *unit.get("warnings", [])],
        wins=unit.get("wins") or None,
        wins_base=unit.get("wins_base") or None,
        gap=(unit.get("numbers") or {}).get("gap", 0.0),
        images=unit["images"],
        seconds=unit["seconds"],
        evaluation=unit.get("evaluation", []),
        scores=_scores(scores) if scores else None,
        selection=_selection(selection) if selection else None,
    )


def _scores(scores: Recorded) -> Scores:
    measures = scores.get("measures") or {}
    return Scores(
        p_ssr=scores["p_ssr"],
        p_ur=scores["p_ur"],
        vendi=scores["vendi"],
        utility=scores["utility"],
        spread=scores["spread"],
        doubt=scores["doubt"],
        untypical=1 - scores["typical_share"],
        novelty=scores.get("novelty"),
        measures={name: measures[name] for name in MEASURES if measures.get(name) is not None},
        compared=min(measures["n"], measures["reference_n"]) if measures else 0,
        enough=bool(measures.get("enough", True)),
    )


def _selection(selection: Recorded) -> Selection:
    rejections = [
        Rejection(reason, entry["count"], entry["examples"]) for reason, entry in selection["rejected"].items()
    ]
    islands = selection.get("islands")
    growth = None
    if "size" in selection:
        numbers = {name: selection[name] for name in ("passed", "size", "deepest")}
        growth = Growth(**numbers, copies=selection["near_copy_share"], cosine=selection["seed_similarity"])
    return Selection(
        considered=selection["considered"],
        count=selection["n"],
        base_share=selection["base_share"],
        selected=selection["selected"],
        rejections=sorted(rejections, key=lambda rejection: -rejection.count),
        nats=selection["nats"],
        strangest=[
            StrangeImage(image["digest"], image["novelty"], image["fate"]) for image in selection.get("strangest", [])
        ],
        islands=len(islands) if isinstance(islands, list | tuple | dict) else islands,
        unseen_likes=selection.get("unseen_likes"),
        growth=growth,
        manifest=selection.get("manifest", ""),
    )


def json_of(nights: NightStore, night: str) -> dict[str, Any]:
    """Returns the report of a night as plain JSON.

    Returns:
        "night", "taste", "system", "state", "reason", "served", "units", "verdict", "yesterday" (None in the first
        night), "alarms", "cost" and "lineage".
    """
    state, request = nights.read(night), nights.request(night)
    before = last_night(nights, night)
    return {
        "night": night,
        "taste": request.taste,
        "system": request.system,
        "seed": request.seed,
        "state": state["state"],
        "reason": state.get("reason"),
        "served": state.get("served"),
        "units": [{name: unit[name] for name in KEPT if name in unit} for unit in state["units"]],
        "verdict": BlindEvaluation(nights, night).summary(),
        "yesterday": asdict(before) if before else None,
        "alarms": alarms_of(state),
        "cost": asdict(cost_of(nights, night)),
        "lineage": [asdict(ancestor) for ancestor in lineage_of(nights, night)],
    }


def last_night(nights: NightStore, night: str) -> Comparison | None:
    """Returns what the night of the same taste before this one left, beside what this one leaves; None in the first."""
    taste, before = nights.request(night).taste, None
    for other in nights.all():
        if other == night:
            break
        if (
            nights.request(other).taste == taste
            and nights.read(other)["state"] in ENDED
            and nights.read(other)["units"]
        ):
            before = other
    return Comparison(before, _summary(nights, before), _summary(nights, night)) if before else None


def _summary(nights: NightStore, night: str) -> Summary:
    state = nights.read(night)
    served = (state.get("served") or {}).get("unit", 0)
    unit: Recorded = next((unit for unit in state["units"] if unit["unit"] == served), {})
    scores, verdict = unit.get("scores") or {}, BlindEvaluation(nights, night).summary()
    return Summary(
        system=state.get("system", ""),
        served=served,
        rater_version=str(state.get("rater_version", "")).rpartition("/")[2],
        p_ssr=scores.get("p_ssr"),
        p_ur=scores.get("p_ur"),
        vendi=scores.get("vendi"),
        novelty=scores.get("novelty"),
        units=sum("parent" in unit for unit in state["units"]),
        images=state.get("images", 0),
        nats=state.get("nats", 0.0),
        seconds=state.get("seconds", 0.0),
        win_rate=verdict["tally"]["win_rate"] if verdict["tally"] else None,
        decision=verdict["decision"],
    )


def rater_logs_of(state: Recorded) -> list[Recorded]:
    """Returns what the rater said of itself at the beginning of a night and at each of its choices."""
    return [state.get("rater") or {}, *((unit.get("selection") or {}).get("rater") or {} for unit in state["units"])]


def alarms_of(state: Recorded) -> list[str]:
    """Returns what the rater warned of during a night, in English, each sentence once."""
    return list(dict.fromkeys(alarm for log in rater_logs_of(state) for alarm in log.get("alarms", [])))


def cost_of(nights: NightStore, night: str) -> Cost:
    """Returns what a night took, as far as it is known."""
    state, recorded = nights.read(night), nights.request(night).settings
    settings = night_settings()(**{name: recorded[name] for name in ("hour_price", "watts") if name in recorded})
    hours = state.get("seconds", 0.0) / 3600
    return Cost(
        seconds=state.get("seconds", 0.0),
        gpu_hours=state["gpu_seconds"] / 3600 if "gpu_seconds" in state else None,
        images=state.get("images", 0),
        disk_gib=state["disk_bytes"] / GIB if "disk_bytes" in state else None,
        kwh=hours * settings.watts / 1000 if settings.watts else None,
        price=hours * settings.hour_price if settings.hour_price else None,
    )


def lineage_of(nights: NightStore, night: str) -> list[Ancestor]:
    """Returns every unit of the taste up to a night.

    A unit that met several nights is told by the one that made it.
    """
    request, served = nights.request(night), _served_now(nights, night)
    units = {0: Ancestor(0, None, "start", "", served == 0)}
    for other in nights.all():
        if nights.request(other).taste == request.taste:
            for unit in nights.read(other)["units"]:
                if "parent" in unit:
                    number, decision = unit["unit"], unit.get("decision") or "unfinished"
                    units[number] = Ancestor(number, unit["parent"], decision, other, number == served)
        if other == night:
            break
    return list(units.values())


def _served_now(nights: NightStore, night: str) -> int:
    """Returns the unit in use after a night and its verdict."""
    evaluation = BlindEvaluation(nights, night)
    rolled_back = evaluation.summary()["decision"] == "roll_back"
    return (evaluation.against if rolled_back else evaluation.unit).unit
