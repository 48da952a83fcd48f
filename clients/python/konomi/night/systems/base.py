"""What a system is: what it draws, what it chooses from, what it asks of the choice, how it fits, when it ends."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from konomi.night.alarms import Alarm
from konomi.night.draws import Draw, Turn
from konomi.night.settings import NightSettings

StopRule = Callable[[Turn, dict[str, Any], list[dict[str, Any]]], Alarm | None]
"""(turn, figures of the chosen set, those of this system's sets before) → why it ends before this fit, or None."""


def hyper_parameters(settings: NightSettings) -> dict[str, float]:
    """Returns the numbers of a LoRA fit, which always starts from the base model."""
    return {
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "rank": settings.rank,
        "caption_dropout": settings.caption_dropout,
    }


def never(turn: Turn, chosen: dict[str, Any], earlier: list[dict[str, Any]]) -> Alarm | None:
    """Returns no reason to end: units, patience, budgets and guards end such a system."""
    return None


@dataclass(frozen=True)
class System:
    """One way to make the next unit; every part is a pure function.

    Attributes:
        draws: what a unit adds to the pool.
        pool_size: how many images that is.
        selection: what is asked of SelectImages, and "sources" and "source_weights" for the studio.
        verdict: why the system ends before a fit.
        hyper_parameters: numbers of the fit, which always starts from the base model.
        grades: grades an image must have to be chosen from; none means every image.
        observes: the best image of every region is observed before it draws.
        rater_chooses: the rater's opinion decides what is trained on, so a choice spends selection pressure.
        course: the order of its steps: "" draws, chooses and fits; "grow" fits, draws and takes in; "teach" begins with
            a unit that teaches words (courses.py).
        patient: units that fail to beat their parent do not end it.
        spared: guards that compare with the base model and are left out, because the owner asked for something narrow.
        planned: images and training steps of so many units; pool and fit of each where it says nothing.
    """

    draws: Callable[[Turn], list[Draw]]
    pool_size: Callable[[NightSettings], int]
    selection: Callable[[Turn], dict[str, Any]]
    verdict: StopRule = never
    hyper_parameters: Callable[[NightSettings], dict[str, float]] = hyper_parameters
    grades: tuple[str, ...] = ()
    observes: bool = False
    rater_chooses: bool = True
    course: str = ""
    patient: bool = False
    spared: tuple[str, ...] = ()
    planned: Callable[[NightSettings, int], tuple[int, int]] | None = None

    def cost(self, settings: NightSettings, units: int) -> tuple[int, int]:
        """Returns how many pool images and training steps so many units take."""
        if self.planned is not None:
            return self.planned(settings, units)
        return units * self.pool_size(settings), units * settings.steps
