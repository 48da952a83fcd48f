"""A model of the taste, and how the training run that made it ended."""

from typing import Self

from pydantic import Field, model_validator

from konomi.night.metrics import Estimate
from konomi.night.records.record import Record


class Model(Record):
    """A model of the taste: its id ("base" for the base model), number of its unit, adapter, and words it knows."""

    model: str = ""
    unit: int = 0
    adapter: str = ""
    manifest: str = ""
    current: bool = False
    tokens: tuple[str, ...] = ()


BASE = Model(model="base", unit=0, adapter="")
"""The base model, unit 0."""


class TriedCheckpoint(Record):
    """What a checkpoint of a fit drew.

    Attributes:
        step: optimiser steps it has done.
        wins: how often its images are preferred to the base model's of the same prompts and seeds, 0..1.
        vendi: Vendi score of its images, as a share of the base model's.
    """

    step: int
    wins: Estimate
    vendi: float


class CheckpointChoice(Record):
    """Which checkpoint of a fit was kept, and what spoke for it.

    Attributes:
        kept: its step.
        steps: step of the last one.
        floor: least share of the base model's Vendi score that was asked for, 0..1.
        tried: those that drew, earliest first.
    """

    kept: int
    steps: int
    floor: float
    tried: tuple[TriedCheckpoint, ...]

    @model_validator(mode="after")
    def _is_of_those(self) -> Self:
        if not {self.kept, self.steps} <= {one.step for one in self.tried}:
            raise ValueError("expected the checkpoint that was kept, and the last one, among those that were tried")
        return self

    def at(self, step: int) -> TriedCheckpoint:
        """Returns what the checkpoint of a step drew."""
        return next(one for one in self.tried if one.step == step)


class Fit(Model):
    """How a training run ended: the model it made, or why it failed.

    Attributes:
        training: what the trainer settled where the night left it open, for example "precision" and "batch_size".
        checkpoints: which of its checkpoints was kept, where that was looked at.
    """

    run: str = ""
    loss: float = 0.0
    training: dict[str, float | str] = Field(default_factory=dict)
    checkpoints: CheckpointChoice | None = None
    failed: str = ""
    why: str = ""
