"""The loop of a night: which step follows which; it decides, and does nothing itself."""

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from konomi.night import budgets, guards, metrics
from konomi.night.alarms import Alarm, Ended
from konomi.night.budgets import Envelope
from konomi.night.draws import UnitContext
from konomi.night.engine.steps import NightSteps, compare, vendi_at
from konomi.night.guards import rater_overrated
from konomi.night.records.fit import BASE, Model
from konomi.night.records.record import Record
from konomi.night.records.request import NightRequest
from konomi.night.records.state import (
    DraftRating,
    Images,
    Judgement,
    NightState,
    Plan,
    Reason,
    Scores,
    Selection,
    Served,
    StateName,
    UnitRecord,
)
from konomi.night.systems.base import Stage
from konomi.night.systems.registry import stages

R = TypeVar("R", bound=Record)
MOST_IMAGES = 10_000
"""Images of a request at the most."""


class Runner(Protocol):
    """Runs a step; a durable runner returns the recorded result of a finished one."""

    def __call__(self, name: str, body: Callable[..., object], *arguments: Any) -> Envelope:
        """Returns what the step of a name took and returned."""


def fresh(request: NightRequest) -> NightState:
    """Returns the record of a night that has done nothing yet."""
    return NightState(
        night=request.id,
        system=request.system,
        taste=request.taste,
        seed=request.seed,
        state=StateName.RUNNING,
        reason=None,
        served=Served(unit=0, model="base"),
        units=(),
        steps=(),
        ended=(),
        seconds=0.0,
        images=0,
        gpu_seconds=0.0,
        disk_bytes=0,
        nats=0.0,
    )


class NightLoop:
    """One night from plan to end; the same recorded results lead to the same next step."""

    def __init__(
        self, request: NightRequest, steps: NightSteps, do: Runner, publish: Callable[[NightState], None]
    ) -> None:
        """Takes what runs a step and what is told the state after each."""
        self.request = request
        self.steps = steps
        self.settings = steps.settings
        self.stages = stages(request.system, self.settings.units)
        self.do = do
        self.publish = publish
        self.drafts, self.chunk = False, self.settings.chunk
        self.served: Model = BASE
        self.state: NightState = fresh(request)

    def run(self) -> NightState:
        """Runs the night and returns its state."""
        try:
            self._run()
        except Ended as end:
            name = StateName.HALTED if end.halted else StateName.FINISHED
            self.state = self.state.changed(state=name, reason=Reason.of(end.alarm))
            self.publish(self.state)
        return self.state

    def _run(self) -> None:
        plan = self.step("plan", Plan, self.steps.plan)
        self.drafts, self.steps.places = plan.drafts, plan.places
        self.chunk = min(MOST_IMAGES, self.settings.chunk * plan.places)  # so that each place has as many to draw
        self.steps.keep_rater(plan.rater_version)
        self.state = self.state.changed(
            rater_version=plan.rater_version,
            rater=plan.rater,
            withdrawn=plan.withdrawn,
            audits=plan.audits,
            before=plan.before,
        )
        self._look_before_night(plan)
        for model in filter(None, (BASE, plan.start)):
            self._start(model)
        self._serving()
        position = 0
        for stage in self.stages:
            try:
                for _ in range(stage.units):
                    position += 1
                    stage.system.run_unit(self, plan.first + position - 1, position, stage)
                    self._lose_patience(stage)
            except Ended as end:
                if end.halted or end.night or stage is self.stages[-1]:
                    raise
                self.state = self.state.changed(ended=(*self.state.ended, Reason.of(end.alarm, system=stage.name)))
                self.publish(self.state)
        raise Ended(Alarm("units", {"units": sum(record.judged for record in self.state.units)}))

    def _look_before_night(self, plan: Plan) -> None:
        """Begins with the pressure already spent since a person last audited, and what the last audits said.

        A night that may spend no pressure, or whose rater people contradict, ends here.
        """
        self.state = self.state.changed(nats=plan.rater.nats if plan.rater else 0.0)
        alarm = guards.before_night(self.state.nats, self.steps.guards)
        alarm = alarm or rater_overrated(plan.audits, self.steps.guards)
        if alarm is not None and any(stage.system.rater_chooses for stage in self.stages):
            self.served = plan.start or BASE
            self._serving()
            raise Ended(alarm, halted=True)

    def _start(self, model: Model) -> None:
        """Evaluates a model that was there before the night, and serves it."""
        record = UnitRecord(
            unit=model.unit, model=model.model, adapter=model.adapter, tokens=model.tokens,
            decision="start", promoted=True, seconds=0.0, images=0,
        )  # fmt: skip
        self.state = self.state.with_unit(record)
        self.evaluate(model)
        record, base = self.state.unit(model.unit), self.state.units[0]
        numbers = compare(record, base, base if model.unit else None)
        self.note(model.unit, compared=numbers.model_copy(update={"promoted": True}))
        self.served = model

    def _lose_patience(self, stage: Stage) -> None:
        """Ends a stage whose last units all failed to beat their parent; the stage's last unit ends it anyway."""
        if stage.system.patient:
            return
        mine = [record for record in self.state.units if record.stage == stage.number and record.judged]
        tail = [record.decision for record in mine[-self.settings.patience :]]
        if len(tail) == self.settings.patience and "promote" not in tail and len(mine) < stage.units:
            raise Ended(Alarm("patience", {"runs": len(tail), "parent": self.served.unit}))

    def open(self, unit: int, stage: Stage) -> None:
        """Begins the record of a unit."""
        record = UnitRecord(
            unit=unit, system=stage.name, parent=self.served.unit, stage=stage.number, seconds=0.0, images=0, refused=0
        )
        self.state = self.state.with_unit(record)

    def note(self, unit: int, **fields: Any) -> UnitRecord:
        """Changes fields of a unit's record and returns it."""
        record = self.state.unit(unit).changed(**fields)
        self.state = self.state.with_unit(record)
        return record

    def make(self, context: UnitContext, maker: Model | None, count: int) -> list[str]:
        """Makes the images of a unit's pool, chunk by chunk, and returns their digests."""
        digests: list[str] = []
        for number, (first, last) in enumerate(_chunks(count, self.chunk)):
            name = f"unit-{context.unit}/generate-{number:03d}"
            made = self.step(name, Images, self.steps.generate, context, maker, first, last, images=last - first)
            self.note(context.unit, refused=self.state.unit(context.unit).refused + made.refused)
            digests += made.digests
        return digests

    def draft(self, context: UnitContext, maker: Model | None, count: int) -> float:
        """Makes drafts of a unit's pool, draws the best again in full, and returns the selection pressure of that."""
        unit, chunk, drafted = context.unit, self.chunk, list[str]()
        for number, (first, last) in enumerate(_chunks(count, chunk)):
            name = f"unit-{unit}/draft-{number:03d}"
            drafted += self.step(
                name, Images, self.steps.draft, context, maker, first, last, images=last - first
            ).digests
        rating = self.step(f"unit-{unit}/rate", DraftRating, self.steps.rate, context, maker, drafted)
        self.note(unit, drafts=len(drafted), draft_nats=rating.nats)
        for number, (first, last) in enumerate(_chunks(len(rating.places), chunk)):
            places = list(rating.places[first:last])
            again = (context, maker, places, [drafted[place] for place in places])
            name = f"unit-{unit}/generate-{number:03d}"
            made = self.step(name, Images, self.steps.redraw, *again, images=last - first)
            self.note(unit, refused=self.state.unit(unit).refused + made.refused)
        return rating.nats

    def make_base(self, context: UnitContext, made: int, count: int) -> None:
        """Makes so many images of the base model after those that were made, chunk by chunk."""
        for start, end in _chunks(count, self.chunk):
            first, last = made + start, made + end
            name = f"unit-{context.unit}/generate-base-{first:03d}"
            drawn = self.step(name, Images, self.steps.generate_base, context, first, last, images=last - first)
            self.note(context.unit, refused=self.state.unit(context.unit).refused + drawn.refused)

    def look_before_training(self, unit: int, chosen: Selection) -> None:
        """Lets the guards look at a selected training set; an alarm halts the night.

        Raises:
            Ended: a guard halted it.
        """
        spent = self.state.nats + chosen.nats
        scores = self.state.units[0].scores
        assert scores is not None, "unit 0 is evaluated before anything is chosen"
        figures = {
            "n": chosen.n,
            "base_share": chosen.base_share,
            "vendi": chosen.vendi,
            "largest_cell_share": chosen.largest_cell_share,
        }
        alarm, warnings = guards.before_training(spent, figures, unit, vendi_at(scores, chosen.n), self.steps.guards)
        self.note(unit, warnings=tuple(Reason.of(warning) for warning in warnings))
        if alarm is not None:
            raise Ended(alarm, halted=True)
        self.state = self.state.changed(nats=spent)

    def evaluate(self, model: Model) -> None:
        """Makes and scores the evaluation images of a unit that has a record."""
        unit, digests = model.unit, list[str]()
        for number, (first, last) in enumerate(_chunks(self.settings.evaluation_images, self.chunk)):
            maker = model if unit else None
            name = f"unit-{unit}/evaluate-{number:03d}"
            digests += self.step(name, Images, self.steps.evaluate, maker, first, last, images=last - first).digests
        base, record = self.state.units[0], self.state.unit(unit)
        reference = list(base.evaluation) if base.scores is not None else []
        manifest = record.selection.manifest if record.selection is not None else model.manifest
        scores = self.step(f"unit-{unit}/score", Scores, self.steps.score, digests, reference, manifest)
        kept = scores.model_fields_set - {"bounds", "p_ssrs"}
        self.note(
            unit,
            scores=Scores(**{name: getattr(scores, name) for name in kept}),
            evaluation=tuple(digests),
            bounds=scores.bounds,
            p_ssrs=scores.p_ssrs,
        )

    def judge(self, unit: int, stage: Stage, reached: Alarm | None = None) -> None:
        """Judges a unit and serves it where it is promoted; with `reached`, it is promoted unless a guard halts."""
        candidate, parent, base = self.state.unit(unit), self.state.unit(self.served.unit), self.state.units[0]
        history = [record.compared for record in self.state.units if record.compared is not None]
        compared = (history, self.served.unit, candidate, parent, base)
        verdict = self.step(f"unit-{unit}/judge", Judgement, self.steps.judge, *compared, list(stage.system.spared))
        if reached is not None and verdict.decision == "keep":
            numbers = verdict.numbers.model_copy(update={"promoted": True})
            verdict = verdict.changed(decision="promote", alarm=Reason.of(reached), served=unit, numbers=numbers)
        undone = sum(numbers.promoted and numbers.unit > verdict.served for numbers in history)
        candidate = self.note(
            unit,
            decision=verdict.decision,
            reason=Reason.of(verdict.alarm.alarm),
            wins=verdict.wins,
            warnings=(*candidate.warnings, *(Reason.of(warning.alarm) for warning in verdict.warnings)),
            wins_base=metrics.paired_wins(candidate.bounds, base.bounds),
            numbers=verdict.numbers,
            compared=verdict.numbers,
            promoted=verdict.decision == "promote",
        )
        if verdict.decision == "promote" or undone:
            self.step(f"unit-{unit}/serve", Record, self.steps.serve, verdict, candidate, undone)
        self.served = self.state.unit(verdict.served).made
        self._serving()
        if verdict.decision == "halt":
            raise Ended(verdict.alarm.alarm, halted=True)

    def _serving(self) -> None:
        self.state = self.state.changed(served=Served(unit=self.served.unit, model=self.served.model))
        self.publish(self.state)

    def step(self, name: str, result: type[R], body: Callable[..., object], *arguments: Any, images: int = 0) -> R:
        """Runs one step within the budgets, notes it, and returns what it recorded."""
        spent = budgets.exhausted(self.state, self.settings, images)
        if spent is not None:
            raise Ended(spent, night=True)
        envelope = self.do(name, body, *arguments)
        self.state = budgets.note(self.state, name, envelope, images)
        self.publish(self.state)
        return result.model_validate(envelope["value"])


def _chunks(count: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(count, first + size)) for first in range(0, count, size)]
