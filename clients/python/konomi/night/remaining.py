"""What a night has yet to do, by what it was asked for and the steps it has finished, and how long that takes.

Drafts, what is drawn again in full, and the base model's images for its share are counted apart: a draft is cheap, the
others are not. What a finished phase of a unit was expected to make and did not is no longer waited for, so that the
time left neither falls to nothing before the end nor grows there.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from konomi.errors import InvalidArgument
from konomi.night.budgets import fit_steps, measured, rates_so_far, redrawn
from konomi.night.records.request import NightRequest
from konomi.night.records.state import ENDED, NightState, UnitRecord
from konomi.night.records.store import NightStore
from konomi.night.settings import NightSettings
from konomi.night.systems.base import Stage
from konomi.night.systems.registry import night_settings, stages

PHASES = ("draft", "rate", "generate", "select", "base", "train", "evaluate", "score", "judge", "serve")
"""What a unit goes through, in its order; other steps of a system belong to none."""
DRAFT_SHARE = 0.25
"""Time of a draft against an image in full, where neither was measured: 4 to 8 steps against 20 to 30."""
STEP_SHARE = 2.0
"""Time of a training step against an image, likewise."""
KNOWN_SHARE = 0.02
"""Share of a night that has to be done before what it took says anything."""


@dataclass(frozen=True)
class Work:
    """An amount of work.

    Attributes:
        draft: drafts.
        generate: images of a pool drawn in full.
        base: images of the base model for its share of a training set, drawn in full.
        evaluate: evaluation images.
        train: training steps.
        rest: units, for what each takes besides.
    """

    draft: float = 0.0
    generate: float = 0.0
    base: float = 0.0
    evaluate: float = 0.0
    train: float = 0.0
    rest: float = 0.0

    def seconds(self, rates: Mapping[str, float]) -> float:
        """Returns how long it takes by rates as `budgets.measured` has them; a draft like an image where unknown."""
        drafts = self.draft * rates.get("draft", rates["generate"])
        drawn = (self.generate + self.base) * rates["generate"] + self.evaluate * rates["evaluate"]
        return drafts + drawn + self.train * rates["train"] + self.rest * rates["rest"]

    @property
    def weight(self) -> float:
        """How much it is in images, where nothing was measured."""
        return self.draft * DRAFT_SHARE + self.generate + self.base + self.evaluate + self.train * STEP_SHARE


@dataclass(frozen=True)
class UnderWay:
    """The step under way: its name, "" for none, and how much of it is done."""

    name: str = ""
    done: int = 0


def share_done(request: NightRequest, state: NightState, step: UnderWay = UnderWay()) -> float:
    """Returns how much of a night is done, 0 to 1; below 1 until it has ended, 0 where its system is not known here."""
    if state.state in ENDED:
        return 1.0
    if not _is_known(request.system):
        return 0.0
    settings = _settings(request)
    left, done = work_left(settings, request.system, state, step).weight, _done(state, settings, step).weight
    return min(0.99, done / (done + left)) if done + left else 0.99


def seconds_left(
    nights: NightStore, request: NightRequest, state: NightState, step: UnderWay = UnderWay()
) -> float | None:
    """Returns the seconds a night still takes; None where nothing says it yet.

    What this night's own steps took counts first, then what the newest measured night on the base model took.

    Args:
        nights: the nights of the home.
        request: what the night was asked for.
        state: its record.
        step: the step under way.
    """
    if state.state in ENDED:
        return 0.0
    if not _is_known(request.system):
        return None
    settings = _settings(request)
    rates = measured(nights, request.settings.get("base_model", ""))
    if rates:
        rates = rates | rates_so_far(state, settings)
        return work_left(settings, request.system, state, step, rates.get("base", 0.0)).seconds(rates)
    share = share_done(request, state, step)
    return state.seconds * (1 - share) / share if share > KNOWN_SHARE else None


def work_left(
    settings: NightSettings, system: str, state: NightState, step: UnderWay = UnderWay(), base: float = 0.0
) -> Work:
    """Returns what a night has yet to do.

    Args:
        settings: its settings.
        system: its system, or chain of systems.
        state: its record.
        step: the step under way.
        base: images of the base model a unit is expected to need where none of this night has come so far.
    """
    ledger = _Ledger(settings, state, step)
    own = ledger.base_images()
    base = base if own is None else own
    parts = [ledger.start()]
    for stage in stages(system, settings.units):
        expected = _expected(stage, settings, ledger.drafts(stage), base)
        opened = [record for record in state.units if record.parent is not None and record.stage == stage.number]
        parts += [ledger.unit(record, expected) for record in opened]
        parts += [expected] * (0 if ledger.is_past(stage) else max(0, stage.units - len(opened)))
    return Work(*(sum(getattr(part, name) for part in parts) for name in Work.__dataclass_fields__))


def _is_known(system: str) -> bool:
    """Says whether this version runs a system or chain: a paused night may be another version's."""
    try:
        return bool(stages(system, 1))
    except InvalidArgument:
        return False


def _settings(request: NightRequest) -> NightSettings:
    kind = night_settings()
    return kind.recorded(kind.completed(request.settings))


def _expected(stage: Stage, settings: NightSettings, drafts: bool, base: float) -> Work:
    """Returns what one unit of a stage takes from its beginning."""
    images, steps = (number / stage.units for number in stage.system.cost(settings, stage.units))
    drawn = redrawn(round(images), settings) if drafts else images
    return Work(images if drafts else 0.0, drawn, base, float(settings.evaluation_images), steps, 1.0)


def _done(state: NightState, settings: NightSettings, step: UnderWay) -> Work:
    """Returns what a night has done, the step under way included."""
    done = Work()
    over = {past.name for past in state.steps}
    running = [] if step.name in over else [(step.name, step.done, step.done)]  # the last heartbeat outlives its step
    finished = [(past.name, past.images, fit_steps(state, past.name, settings)) for past in state.steps]
    for name, images, steps in [*finished, *running]:
        kind = _phase(name)
        if kind in ("draft", "generate", "base", "evaluate"):
            done = replace(done, **{kind: getattr(done, kind) + images})
        elif kind == "train":
            done = replace(done, train=done.train + steps)
    return done


def _phase(name: str) -> str:
    """Returns the phase a step belongs to; "" for none."""
    kind = name.rpartition("/")[2]
    if kind.startswith(("generate-base", "select-again")):
        return "base"
    kind = kind.split("-")[0]
    return kind if kind in PHASES else ""


class _Ledger:
    """What a night has made so far, by unit and phase."""

    def __init__(self, settings: NightSettings, state: NightState, step: UnderWay) -> None:
        self._settings, self._state = settings, state
        self._made: Counter[tuple[str, str]] = Counter()
        self._reached: dict[str, int] = {}
        finished = [(past.name, past.images, True) for past in state.steps]
        running = [] if any(step.name == past.name for past in state.steps) else [(step.name, step.done, False)]
        for name, images, over in [*finished, *running]:
            unit, phase = name.partition("/")[0], _phase(name)
            if phase:
                self._made[unit, phase] += images
                place = PHASES.index(phase) + (phase == "train" and over)
                self._reached[unit] = max(place, self._reached.get(unit, 0))

    def drafts(self, stage: Stage) -> bool:
        """Says whether the pools of a stage are drawn as drafts first."""
        drafted = self._settings.draft == "on" or any(phase == "draft" for _, phase in self._made)
        return stage.system.drafted and drafted

    def base_images(self) -> float | None:
        """Returns the images of the base model a unit of this night needed; None where none has come so far."""
        past = [unit for unit, place in self._reached.items() if place >= PHASES.index("train")]
        past = [unit for unit in past if self._made[unit, "generate"] or self._made[unit, "draft"]]
        return sum(self._made[unit, "base"] for unit in past) / len(past) if past else None

    def is_past(self, stage: Stage) -> bool:
        """Says whether a later stage has begun."""
        return any((record.stage or 0) > stage.number for record in self._state.units if record.parent is not None)

    def start(self) -> Work:
        """Returns what is left of looking at the models that were there before the night."""
        units = self._state.units
        if any(record.parent is not None for record in units):
            return Work()
        names = [f"unit-{record.unit}" for record in units] or ["unit-0"]
        return Work(evaluate=sum(self._evaluations(name) for name in names))

    def unit(self, record: UnitRecord, expected: Work) -> Work:
        """Returns what is left of a unit that was begun."""
        later = any(other.parent is not None and other.unit > record.unit for other in self._state.units)
        if record.judged or later:
            return Work()
        name = f"unit-{record.unit}"
        reached = self._reached.get(name, 0)
        train = PHASES.index("train")
        return Work(
            draft=self._lacking(name, "draft", expected.draft),
            generate=self._lacking(name, "generate", expected.generate),
            base=self._lacking(name, "base", expected.base),
            evaluate=self._evaluations(name),
            train=0.0 if reached > train else max(0.0, expected.train - self._made[name, "train"]),
            rest=expected.rest * (1 - reached / len(PHASES)),
        )

    def _evaluations(self, name: str) -> float:
        return self._lacking(name, "evaluate", float(self._settings.evaluation_images))

    def _lacking(self, name: str, phase: str, expected: float) -> float:
        """Returns what is lacking of an expected amount; nothing once a later phase has begun."""
        if self._reached.get(name, 0) > PHASES.index(phase):
            return 0.0
        return max(0.0, expected - self._made[name, phase])
