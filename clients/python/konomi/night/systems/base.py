"""What a system is: what it draws, what it chooses from, what it asks of the choice, how it fits, when it ends.

A system is one module or folder that makes a `System`, and one entry in the registry. Most systems leave the order of
their steps to `draw_choose_fit`; one that works in another order brings a function of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from konomi.night.alarms import Alarm, Ended
from konomi.night.draws import Draw, Turn, UnitContext
from konomi.night.gateway.drawing import Beat
from konomi.night.gateway.services import Elites, NightServices, TrainingRun
from konomi.night.records.fit import Fit, Model
from konomi.night.records.record import Record
from konomi.night.records.request import NightRequest
from konomi.night.records.state import NightState, Observation, Selection, UnitRecord
from konomi.night.records.store import NightStore
from konomi.night.settings import NightSettings

StopRule = Callable[[Turn, Selection, Sequence[Selection]], Alarm | None]
"""(turn, the chosen set, those of this system's units before) → why it ends before this fit, or None."""

FitNumbers = dict[str, Any]
"""Numbers of a fit, as fields of the contract's HyperParameters."""

R = TypeVar("R", bound=Record)


class Steps(Protocol):
    """The steps every night has; those of a system stand on them."""

    gateway: NightServices
    request: NightRequest
    settings: NightSettings
    beat: Beat

    def observe(self, cells: int) -> Elites:
        """Looks at the best image known of every one of so many regions."""

    def select(self, context: UnitContext, earlier: Sequence[Selection]) -> Selection:
        """Selects a training set from the pool and freezes its manifest."""

    def lacking(self, chosen: Selection) -> int:
        """Returns how many images of the base model a training set lacks for its share."""

    def train(self, context: UnitContext, parent: Model | None, chosen: Selection) -> Fit:
        """Fits an adapter from the base model on a frozen manifest."""

    def training(self, unit: int, parent: Model | None, chosen: Selection) -> TrainingRun:
        """Returns what a training run of a unit is asked for, less its method and numbers."""

    def turn(self, context: UnitContext, **fields: Any) -> Turn:
        """Returns the turn of the loop as a system sees it, with more of its fields where they are at hand."""


class Night(Protocol):
    """What the unit of a system needs of the loop that runs it."""

    served: Model
    state: NightState
    drafts: bool

    @property
    def steps(self) -> Steps:
        """The steps of this night."""

    def step(self, name: str, result: type[R], body: Callable[..., object], *arguments: Any, images: int = 0) -> R:
        """Runs one step within the budgets, notes it, and returns what it recorded."""

    def open(self, unit: int, stage: "Stage") -> None:
        """Begins the record of a unit."""

    def note(self, unit: int, **fields: Any) -> UnitRecord:
        """Changes fields of a unit's record and returns it."""

    def make(self, context: UnitContext, maker: Model | None, count: int) -> list[str]:
        """Makes images of a unit's pool and returns their digests."""

    def draft(self, context: UnitContext, maker: Model | None, count: int) -> float:
        """Makes drafts of a unit's pool, draws the best again in full, and returns the selection pressure of that."""

    def make_base(self, context: UnitContext, made: int, count: int) -> None:
        """Makes so many images of the base model after those that were made, for its share of a training set."""

    def look_before_training(self, unit: int, chosen: Selection) -> None:
        """Lets the guards look at a selected training set."""

    def evaluate(self, model: Model) -> None:
        """Makes and scores a unit's evaluation images."""

    def judge(self, unit: int, stage: "Stage", reached: Alarm | None = None) -> None:
        """Judges a unit and serves it where it is promoted; with `reached`, it is promoted unless a guard halts.

        Args:
            unit: number of the unit.
            stage: its stage.
            reached: why a unit is promoted that did what it was made for, whether or not it wins.
        """


def hyper_parameters(settings: NightSettings) -> FitNumbers:
    """Returns the numbers of a LoRA fit, which always starts from the base model; a number of 0 is the base's own."""
    return {
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "rank": settings.rank,
        "caption_dropout": settings.caption_dropout,
        "precision": "" if settings.precision == "auto" else settings.precision,
    }


def avoids_as_asked(settings: NightSettings) -> bool:
    """Says whether the owner asked for units that also turn away from the worst."""
    return settings.contrast_beta > 0


def avoids_nothing(settings: NightSettings) -> bool:
    """Says no: the system never turns away from anything."""
    return False


def never(turn: Turn, chosen: Selection, earlier: Sequence[Selection]) -> Alarm | None:
    """Returns no reason to end: units, patience, budgets and guards end such a system."""
    return None


def no_certificates(settings: NightSettings) -> tuple[int, ...]:
    """Returns no certified set: only what is graded or scored can be selected."""
    return ()


def no_probes(settings: NightSettings) -> int:
    """Returns no images: the end of a fit is what is kept."""
    return 0


SELECTED_AGAIN = ("select-again", "select-again-2", "select-again-3")
"""Names of the choices after images of the base model were made for its share; some of those may be chosen themselves,
or not pass for ordinary, so that one round may leave the share short."""


def draw_choose_fit(night: Night, unit: int, position: int, stage: "Stage") -> None:
    """Runs one unit in the usual order: draw a pool, choose from it, fit, evaluate, judge."""
    system, steps = stage.system, night.steps
    before = [record for record in night.state.units if record.system == system.name]
    earlier = [record.selection for record in before if record.selection is not None]
    night.open(unit, stage)
    parent = served_unit(night)
    seen: dict[str, Any] = {}
    if system.observed_cells is not None:
        cells = system.observed_cells(steps.settings)
        seen = night.step(f"unit-{unit}/observe", Observation, steps.observe, cells).plain()
    context = UnitContext(unit, position, system.name, night.state.nats, seen)
    size, drafted = system.pool_size(steps.settings), 0.0
    if night.drafts and system.drafted:
        drafted = night.draft(context, parent, size)
        context = replace(context, spent=context.spent + drafted)
    else:
        night.make(context, parent, size)
    chosen = night.step(f"unit-{unit}/select", Selection, steps.select, context, earlier)
    made = 0
    for name in SELECTED_AGAIN:
        if lacking := steps.lacking(chosen):
            night.make_base(context, made, lacking)
            made += lacking
            chosen = night.step(f"unit-{unit}/{name}", Selection, steps.select, context, earlier, made)
    if drafted:
        chosen = chosen.changed(nats=chosen.nats + drafted)
    night.note(unit, selection=chosen)
    if chosen.end is not None:
        raise Ended(chosen.end.alarm)
    night.look_before_training(unit, chosen)
    fit = night.step(f"unit-{unit}/train", Fit, steps.train, context, parent, chosen)
    model = note_fit(night, unit, system.settle(night, unit, fit) if system.settle is not None else fit)
    night.evaluate(model)
    night.judge(unit, stage)


def served_unit(night: Night) -> Model | None:
    """Returns the unit that is served, None where it is the base model."""
    return night.served if night.served.unit else None


def note_fit(night: Night, unit: int, fit: Fit) -> Fit:
    """Notes a fitted model in the unit's record and returns it under the unit's number.

    Raises:
        Ended: the training failed.
    """
    if fit.failed:
        raise Ended(Alarm("training_failed", {"unit": unit, "why": fit.failed}), halted=True)
    night.note(unit, model=fit.model, adapter=fit.adapter, loss=fit.loss, tokens=fit.tokens, training=fit.training)
    if fit.checkpoints is not None:
        night.note(unit, checkpoints=fit.checkpoints)
    return fit.changed(unit=unit)


def unchosen(frozen: Selection, members: Sequence[str] = ()) -> Selection:
    """Returns the figures of a choice that was not made: every image of a frozen training set was wanted.

    Args:
        frozen: the set, its manifest frozen.
        members: digests of its images, of which the first are kept as examples.
    """
    nothing = Selection(
        considered=0, kept_share=1.0, nats=0.0, best_of_n_nats=0.0, vendi=0.0, largest_cell_share=0.0,
        selected=tuple(members[:24]), rejected={},
    )  # fmt: skip
    return nothing.merged(frozen)


@dataclass(frozen=True)
class System:
    """One way to make the next unit; the parts a night asks before it acts are pure functions.

    Attributes:
        name: its name in commands, plans and records, lower-case letters.
        title: its name for people, in English; marked with `N_`, since the page translates it.
        note: what it does, in one English line, marked likewise.
        draws: what a unit adds to the pool.
        pool_size: how many images that is.
        selection: what is asked of SelectImages, and "sources" and "source_weights" for the services.
        verdict: why the system ends before a fit.
        settings: its own settings, added to those all systems share.
        hyper_parameters: numbers of the fit, which always starts from the base model.
        fit_steps: the setting that holds the optimiser steps of a fit.
        grades: grades an image must have to be chosen from; none means every image.
        sources: where an image may come from to be chosen from, by the contract's names in small letters.
        certificates: certified sets whose members can be selected too, by the number of their certificate.
        observed_cells: regions whose best images are observed before it draws; None observes nothing.
        rater_chooses: the rater's opinion decides what is trained on, so a choice spends selection pressure.
        settle: which checkpoint of a fit is kept: (night, number of the unit, the fit at its end) → the fit as it is
            kept; None keeps its end. `probes` are the images that takes, a unit.
        run_unit: runs one unit: (night, number of the unit, place in the night from 1, stage).
        prepare: gives a request what the system needs before its night begins: (services, request, nights of the
            home) → the request with more settings and other prompts. Systems of one chain prepare in the order of
            their names.
        patient: units that fail to beat their parent do not end it.
        spared: guards that compare with the base model and are left out, because the owner asked for something narrow.
        drafted: its pool may be drawn as drafts first, of which the best by the rater's lower bound are drawn again;
            not where what is unlike the best is looked for.
        avoids: whether its units also turn away from the worst of the same prompts, by the owner's settings.
        planned: images and training steps of so many units; pool and fit of each where it says nothing.
    """

    name: str
    title: str
    note: str
    draws: Callable[[Turn], list[Draw]]
    pool_size: Callable[[NightSettings], int]
    selection: Callable[[Turn], dict[str, object]]
    verdict: StopRule = never
    settings: type[NightSettings] = NightSettings
    hyper_parameters: Callable[[NightSettings], FitNumbers] = hyper_parameters
    fit_steps: str = "steps"
    grades: tuple[str, ...] = ()
    sources: tuple[str, ...] = ("self",)
    certificates: Callable[[NightSettings], tuple[int, ...]] = no_certificates
    observed_cells: Callable[[NightSettings], int] | None = None
    rater_chooses: bool = True
    settle: Callable[[Night, int, Fit], Fit] | None = None
    probes: Callable[[NightSettings], int] = no_probes
    run_unit: Callable[[Night, int, int, "Stage"], None] = draw_choose_fit
    prepare: Callable[[NightServices, NightRequest, NightStore], NightRequest] | None = None
    patient: bool = False
    spared: tuple[str, ...] = ()
    drafted: bool = False
    avoids: Callable[[NightSettings], bool] = avoids_nothing
    planned: Callable[[NightSettings, int], tuple[int, int]] | None = None

    def cost(self, settings: NightSettings, units: int) -> tuple[int, int]:
        """Returns how many pool images and training steps so many units take."""
        if self.planned is not None:
            return self.planned(settings, units)
        return units * self.pool_size(settings), units * self.steps_of_fit(settings)

    def steps_of_fit(self, settings: NightSettings) -> int:
        """Returns the optimiser steps of one of its fits."""
        return int(getattr(settings, self.fit_steps))


@dataclass(frozen=True)
class Stage:
    """One part of a night.

    Attributes:
        system: the system it runs.
        units: units it makes, 1 or more.
        number: place in the night, from 0.
    """

    system: System
    units: int
    number: int = 0

    @property
    def name(self) -> str:
        """The name of its system."""
        return self.system.name
