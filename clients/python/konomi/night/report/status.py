"""A night in figures: the JSON of `konomi night status` and of the page."""

import time
from collections.abc import Callable, Mapping

from konomi.night.alarms import Alarm
from konomi.night.records.fit import CheckpointChoice
from konomi.night.records.record import Record
from konomi.night.records.state import ENDED, AnyState, NightState, Reason, Served, StateName, UnitRecord
from konomi.night.records.store import Heartbeat, NightStore
from konomi.night.records.trial import Trial
from konomi.night.remaining import UnderWay, seconds_left
from konomi.night.systems.checkpoints import why
from konomi.night.verdict import BlindEvaluation, VerdictSummary


class UnitLine(Record):
    """One unit of a summary; None for what is not known yet, and for checkpoints nobody chose among."""

    unit: int
    model: str | None
    decision: str | None
    promoted: bool | None
    win_rate: float | None
    vendi: float | None
    seconds: float | None
    checkpoints: CheckpointChoice | None


class NightSummary(Record):
    """What `night status --json` prints; `reason` and `served` as the night recorded them.

    Attributes:
        night: its id.
        system: its system, or chain of systems.
        state: how far it is; "interrupted" where it says that it runs and no process runs it.
        running: a process runs it.
        step: the step under way, `done` of `total`, said `heartbeat_age` seconds ago; None where none is.
        done: see `step`.
        total: see `step`.
        heartbeat_age: see `step`.
        steps: finished steps.
        units: the units met so far.
        served: what it promoted last, as it recorded it.
        in_use: what is in use after it: the same, or what was there before where its owner rolled it back.
        images: images made.
        seconds: working time.
        eta_seconds: working time it still takes, by what its steps and the last night's took; None where it does not
            run or nothing says it.
        reason: why it ended, where it has.
        way_on: what helps where it was halted or serves nothing; None otherwise.
        verdict: what the owner says of it.
    """

    night: str
    system: str | None
    state: AnyState
    running: bool
    step: str | None
    done: int | None
    total: int | None
    heartbeat_age: float | None
    steps: int
    units: tuple[UnitLine, ...]
    served: Served | None
    in_use: Served | None
    images: int
    seconds: float
    eta_seconds: float | None
    reason: Reason | None
    way_on: Reason | None
    verdict: VerdictSummary


def summary_of(
    nights: NightStore,
    night: str,
    clock: Callable[[], float] = time.time,
    up: Callable[[], float] = time.monotonic,
) -> NightSummary:
    """Returns what `status --json` prints.

    Args:
        nights: the nights of a home.
        night: id of the night.
        clock: seconds since 1970.
        up: seconds this machine runs, which nobody sets.
    """
    state, progress = nights.state(night), nights.progress(night)
    evaluation = BlindEvaluation(nights, night)
    running = nights.runner() is not None and nights.unfinished() == night
    step = UnderWay(progress.get("step", ""), progress.get("done", 0))
    left = seconds_left(nights, nights.request(night), state, step) if running else None
    return NightSummary(
        night=night,
        system=state.system if state.has("system") else None,
        state=StateName.INTERRUPTED if state.state == StateName.RUNNING and not running else state.state,
        running=running,
        step=progress.get("step") if running else None,
        done=progress.get("done") if running else None,
        total=progress.get("total") if running else None,
        heartbeat_age=_age(progress, clock(), up()) if running and progress else None,
        steps=len(state.steps),
        units=tuple(_line(unit) for unit in state.units),
        served=state.served,
        in_use=evaluation.in_use if state.served is not None else None,
        images=state.images,
        seconds=round(state.seconds, 1),
        eta_seconds=None if left is None else round(left, 1),
        reason=state.reason,
        way_on=way_on(state, nights.trial(night)),
        verdict=evaluation.summary(),
    )


def _age(progress: Heartbeat, now: float, up: float) -> float:
    """Returns how long ago a heartbeat was; a clock that was set since then says nothing of it."""
    age = up - progress["up"] if "up" in progress else now - progress.get("time", now)
    return round(max(0.0, age), 1)


WAYS_ON: Mapping[str, str] = {
    "diversity": "way_on_kinds",
    "coverage": "way_on_kinds",
    "exceedance": "way_on_grades",
    "realism": "way_on_kinds",
    "doubt": "way_on_grades",
    "gap": "way_on_grades",
    "pressure": "way_on_grades",
    "nothing_selected": "way_on_grades",
    "base_share": "way_on_grades",
}
"""Guard that halted a night to what helps, where its base model can draw the taste."""

NOT_SERVED = ("far_from_liked", "not_surely_better", "not_better")
"""Why a unit is not served: what a base model that cannot draw the taste comes to as well."""


def way_on(state: NightState, tried: Trial | None) -> Reason | None:
    """Returns what helps after a night that was halted or serves nothing; None where it serves or nothing is known.

    Args:
        state: what the night has done.
        tried: what its base model drew before it; None where nobody looked.
    """
    ended = state.reason.name if state.state in ENDED and state.reason is not None else ""
    nothing = state.state in ENDED and (state.served is None or state.served.unit == 0)
    refused = nothing and any(unit.reason is not None and unit.reason.name in NOT_SERVED for unit in state.units)
    if tried is not None and tried.far and (ended in WAYS_ON or refused):
        return Reason.of(Alarm("way_on_base", {"base": tried.base}))
    return Reason.of(Alarm(WAYS_ON[ended])) if ended in WAYS_ON else None


def reasons_of(state: NightState, tried: Trial | None = None) -> list[Reason]:
    """Returns what tells a night's story: why each unit was decided as it was, how the night ended, and what helps.

    Where one of several checkpoints of a unit was kept, that stands before what was decided about it.

    Args:
        state: what the night has done.
        tried: what its base model drew before it; None where nobody looked.
    """
    reasons = []
    for unit in state.units:
        kept = (Reason.of(why(unit.unit, unit.checkpoints)),) if unit.checkpoints is not None else ()
        reasons += [*kept, *filter(None, (unit.reason,))]
    if newer_rater(state):
        reasons.append(Reason.of(Alarm("newer_rater")))
    if state.reason is not None and state.reason.name not in {reason.name for reason in reasons}:
        reasons.append(state.reason)
    helps = way_on(state, tried)
    return [*reasons, helps] if helps is not None else reasons


def newer_rater(state: NightState) -> bool:
    """Says whether another rater version was active when the night chose than the one it began with and keeps."""
    chosen = [unit.selection.rater for unit in state.units if unit.selection is not None]
    return any(rater is not None and rater.version not in ("", state.rater_version) for rater in chosen)


def _line(unit: UnitRecord) -> UnitLine:
    scores = unit.scores
    return UnitLine(
        unit=unit.unit,
        model=unit.model if unit.has("model") else None,
        decision=unit.decision if unit.has("decision") else None,
        promoted=unit.promoted if unit.has("promoted") else None,
        win_rate=unit.wins.get("value"),
        vendi=scores.vendi.get("value") if scores is not None else None,
        seconds=unit.seconds if unit.has("seconds") else None,
        checkpoints=unit.checkpoints,
    )
