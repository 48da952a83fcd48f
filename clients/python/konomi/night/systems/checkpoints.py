"""Which checkpoint of a fit is kept: the one whose draws win most often while they stay different enough.

A fit on few images goes on learning them by heart after it has stopped getting better, and its loss does not say when
(Dai et al. 2309.15807, who stop Emu by eye). So up to four checkpoints draw the same prompts and seeds as the base
model, seeds no evaluation uses, and the rater says how often each is preferred. One rater chooses among four, so what
it says of the chosen one is a little too good; the evaluation after it is of other images.
"""

import math
from collections.abc import Sequence

from konomi import files
from konomi.night import metrics
from konomi.night.alarms import Alarm
from konomi.night.draws import Draw, image_seed, shuffled
from konomi.night.records.fit import CheckpointChoice, Fit, Model, TriedCheckpoint
from konomi.night.records.record import Record
from konomi.night.records.state import Images
from konomi.night.settings import NightSettings
from konomi.night.systems.base import Night, Steps

MOST = 4
"""Checkpoints that draw, the last among them."""


class RunCheckpoints(Record):
    """Checkpoints a run published: step and adapter of each, earliest first."""

    steps: tuple[int, ...] = ()
    adapters: tuple[str, ...] = ()


def every(settings: NightSettings) -> int:
    """Returns the steps between two checkpoints of a fit."""
    return math.ceil(settings.steps / MOST)


def spread(published: RunCheckpoints) -> RunCheckpoints:
    """Returns at most MOST of the checkpoints, evenly spread, the last among them."""
    count = len(published.steps)
    kept = sorted({math.ceil(count * part / MOST) - 1 for part in range(1, MOST + 1)}) if count else []
    return RunCheckpoints(
        steps=tuple(published.steps[at] for at in kept), adapters=tuple(published.adapters[at] for at in kept)
    )


def chosen(tried: Sequence[TriedCheckpoint], floor: float) -> TriedCheckpoint:
    """Returns the checkpoint to keep: the most wins among those diverse enough, of equal ones the earliest.

    Args:
        tried: what each drew, earliest first; one at least.
        floor: least share of the base model's Vendi score. Where none has it, the most diverse is kept, and the guard
            of the night has the last word.
    """
    enough = [one for one in tried if one.vendi >= floor]
    if not enough:
        return max(tried, key=lambda one: one.vendi)
    return max(enough, key=lambda one: (one.wins["value"], -one.step))


def why(unit: int, choice: CheckpointChoice) -> Alarm:
    """Returns why a unit was kept at the step it was kept at.

    Args:
        unit: its number.
        choice: the choice among its checkpoints.
    """
    kept, last = choice.at(choice.kept), choice.at(choice.steps)
    numbers: dict[str, float | str] = {"unit": unit, "kept": kept.step, "steps": last.step}
    won: dict[str, float | str] = {"win_rate": kept.wins["value"], "last_win_rate": last.wins["value"]}
    if kept.vendi < choice.floor:
        return Alarm("checkpoint_alike", numbers | {"vendi": kept.vendi, "floor": choice.floor})
    if kept is last:
        return Alarm("checkpoint_last", numbers | {"count": len(choice.tried), "win_rate": won["win_rate"]})
    if last.vendi < choice.floor:
        held: dict[str, float | str] = {"win_rate": won["win_rate"], "vendi": last.vendi, "floor": choice.floor}
        return Alarm("checkpoint_diverse", numbers | held)
    if won["win_rate"] == won["last_win_rate"]:
        return Alarm("checkpoint_no_better", numbers | {"win_rate": won["win_rate"]})
    return Alarm("checkpoint_wins", numbers | won)


def settle(night: Night, unit: int, fit: Fit, images: int, floor: float) -> Fit:
    """Returns a fit at the checkpoint that is kept; unchanged where it published fewer than two.

    Args:
        night: the loop.
        unit: number of the unit.
        fit: how the training run ended.
        images: images every checkpoint draws.
        floor: see `chosen`.
    """
    if fit.failed or images < 1:
        return fit
    steps = CheckpointSteps(night.steps, images)
    published = night.step(f"unit-{unit}/checkpoints", RunCheckpoints, steps.published, fit)
    if len(published.steps) < 2:
        return fit
    drawn = [night.step(f"unit-{unit}/probe-base", Images, steps.draw, None, images=images)]
    for step, adapter in zip(published.steps, published.adapters, strict=True):
        model = fit.changed(adapter=adapter)
        drawn.append(night.step(f"unit-{unit}/probe-{step:05d}", Images, steps.draw, model, images=images))
    digests = [list(made.digests) for made in drawn]
    return night.step(f"unit-{unit}/stop", Fit, steps.stop, fit, published.steps, digests, floor)


class CheckpointSteps:
    """What a night does to choose a checkpoint, one method a step."""

    def __init__(self, steps: Steps, images: int) -> None:
        self.steps, self.gateway, self.images = steps, steps.gateway, images

    def published(self, fit: Fit) -> RunCheckpoints:
        """Looks at what the run published."""
        found = self.gateway.checkpoints(fit.run)
        return spread(RunCheckpoints(steps=tuple(step for step, _ in found), adapters=tuple(one for _, one in found)))

    def draw(self, model: Model | None) -> Images:
        """Draws the images of one checkpoint, or the base model's."""
        request = self.steps.request
        order = shuffled(request.prompts, f"{request.seed}/probe")
        draws = [
            Draw(order[at % len(order)], image_seed(request.seed, "probe", at), "served") for at in range(self.images)
        ]
        digests = self.gateway.generate(draws, model, self.steps.settings, self.steps.beat)
        return Images(digests=tuple(digests), images=len(digests))

    def stop(self, fit: Fit, steps: Sequence[int], digests: Sequence[Sequence[str]], floor: float) -> Fit:
        """Lets the rater look, and ends the run at the checkpoint that is kept.

        Args:
            fit: how the run ended.
            steps: step of every checkpoint.
            digests: images of the base model, then of every checkpoint.
            floor: see `chosen`.
        """
        bounds = [[score.lower_bound for score in self.gateway.score(one)] for one in digests]
        vendi = [self.gateway.diversity(one).vendi for one in digests]
        tried = [
            TriedCheckpoint(step=step, wins=metrics.paired_wins(own, bounds[0]), vendi=mine / max(vendi[0], 1e-9))
            for step, own, mine in zip(steps, bounds[1:], vendi[1:], strict=True)
        ]
        kept = chosen(tried, floor)
        choice = CheckpointChoice(kept=kept.step, steps=steps[-1], floor=floor, tried=tuple(tried))
        told = {"stopped_at": float(kept.step), "stopped_wins": kept.wins["value"]}
        fit = fit.changed(training=fit.training | told, checkpoints=choice)
        if kept.step == steps[-1]:
            return fit
        request = files.derived_id(fit.run, kept.step)
        model = self.gateway.finish(fit.run, kept.step, {"win_rate": kept.wins["value"]}, request)
        return fit.changed(adapter=model.adapter)
