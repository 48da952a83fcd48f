"""What a night was asked to do; its id follows from the request."""

import hashlib
from dataclasses import asdict
from typing import Any

from pydantic import ConfigDict
from pydantic.dataclasses import dataclass

from konomi.files import canonical


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class NightRequest:
    """What a night was asked to do; frozen at its start.

    Attributes:
        id: UUID; the same request of the same home has the same id until it has ended.
        asked: sha256 of what the owner typed: the same words again go on with an unfinished night.
        taste: "tastes/{taste}".
        system: name of the system.
        seed: seed everything is derived from.
        prompts: open prompts of the pool.
        evaluation_prompts: fixed prompts of every evaluation.
        settings: night settings as plain JSON.
        guards: guard settings as plain JSON.
    """

    id: str
    asked: str
    taste: str
    system: str
    seed: int
    prompts: list[str]
    evaluation_prompts: list[str]
    settings: dict[str, Any]
    guards: dict[str, Any]

    def digest(self) -> str:
        """Returns the sha256 of the request without its id."""
        fields = {key: value for key, value in asdict(self).items() if key != "id"}
        return hashlib.sha256(canonical(fields)).hexdigest()

    def purpose(self, unit: int) -> str:
        """Returns what a choice of training images is for, in the rater's words."""
        return f"{self.id}/unit-{unit}"
