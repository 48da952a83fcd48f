"""The pipelines of the generator: loaded as every service loads them, with a scheduler by name."""

from typing import Any

import diffusers

from konomi.errors import InvalidArgument
from konomi_chassis.pipelines import load_pipeline
from konomi_generator.metadata import SAMPLERS

__all__ = ["load_pipeline", "make_scheduler"]


def make_scheduler(pipe: Any, name: str) -> Any:
    """Returns a fresh scheduler: the model's own kind, or the named one with the model's noise schedule.

    Raises:
        InvalidArgument: no such scheduler.
    """
    kind = type(pipe.scheduler)
    if name:
        if name not in SAMPLERS:
            raise InvalidArgument(
                f"One of {', '.join(sorted(SAMPLERS))} was expected; {name[:64]!r} came.",
                reason="SCHEDULER",
                field="scheduler",
            )
        kind = getattr(diffusers, name)
    return kind.from_config(pipe.scheduler.config)
