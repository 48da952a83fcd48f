"""The order of steps of systems that do not draw, choose and fit: a set that grows, and words that are taught first."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Protocol

from konomi.night.alarms import Alarm, Ended, sentence
from konomi.night.engine.steps import NightSteps
from konomi.night.systems.concepts.steps import ConceptSteps
from konomi.night.systems.propagate import policy
from konomi.night.systems.propagate.steps import GrowthSteps
from konomi.night.systems.registry import Stage


class Night(Protocol):
    """What a course needs of the recipe that runs it."""

    steps: NightSteps
    served: dict[str, Any]
    state: dict[str, Any]

    def step(self, name: str, body: Callable[..., dict[str, Any]], *arguments: Any, images: int = 0) -> dict[str, Any]:
        """Runs one step within the budgets and notes it."""

    def open(self, unit: int, stage: Stage) -> dict[str, Any]:
        """Begins the entry of a unit."""

    def make(self, drawn: dict[str, Any], maker: dict[str, Any] | None, count: int) -> list[str]:
        """Makes images of a unit's pool and returns their digests."""

    def look_before_training(self, unit: int, chosen: dict[str, Any], entry: dict[str, Any]) -> None:
        """Lets the guards look at a selected training set."""

    def evaluate(self, model: dict[str, Any], entry: dict[str, Any]) -> None:
        """Makes and scores a unit's evaluation images."""

    def judge(self, unit: int, entry: dict[str, Any], stage: Stage, wanted: Alarm | None = None) -> None:
        """Judges a unit and serves it where it is promoted; a wanted one is promoted unless a guard halts."""


def grow(night: Night, unit: int, position: int, stage: Stage) -> None:
    """One turn of self-propagation: fit on the set, candidates by the fitted unit, what the gate lets in."""
    steps, entry = GrowthSteps(night.steps), night.open(unit, stage)
    parent = None if night.served["unit"] == 0 else night.served
    earlier = [one["selection"]["set"] for one in night.state["units"] if one.get("selection", {}).get("set")]
    kept = earlier[-1] if earlier else night.steps.settings.propagate_set
    seen = night.step(f"unit-{unit}/observe", steps.begin, kept)
    drawn = {"unit": unit, "position": position, "system": stage.name, "seen": seen, "spent": night.state["nats"]}
    frozen = night.step(f"unit-{unit}/select", steps.freeze, seen)
    entry["selection"] = _empty(frozen, seen)
    model = _fitted(night, unit, night.step(f"unit-{unit}/train", steps.fit, drawn, parent, frozen), entry)
    night.evaluate(model, entry)
    night.judge(unit, entry, stage)
    made = night.make(drawn, model, policy.candidates(night.steps.settings, len(seen["members"])))
    found = night.step(f"unit-{unit}/grow", steps.take_in, drawn, made, seen)
    entry["selection"] |= {name: value for name, value in found.items() if name != "end"}
    warnings = []
    if found["confirm"]:
        warnings.append(Alarm("confirm", {"count": len(found["confirm"]), "size": found["size"]}))
    if seen["removed"]:
        warnings.append(Alarm("removed", {"count": len(seen["removed"])}))
    entry["warnings"] = entry.get("warnings", []) + [asdict(one) | {"sentence": sentence(one)} for one in warnings]
    if found["end"]:
        raise Ended(Alarm(**found["end"]))


def teach(night: Night, unit: int, position: int, stage: Stage) -> None:
    """One unit of concepts: the first of a stage teaches the words, every later one converges within them."""
    steps, entry = ConceptSteps(night.steps), night.open(unit, stage)
    parent = None if night.served["unit"] == 0 else night.served
    drawn = {"unit": unit, "position": position, "system": stage.name, "seen": {}, "spent": night.state["nats"]}
    before = [one for one in night.state["units"][:-1] if one.get("stage") == stage.number and "decision" in one]
    if not before:
        frozen = night.step(f"unit-{unit}/select", steps.freeze)
        entry["selection"] = _empty(frozen, {})
        model = _fitted(night, unit, night.step(f"unit-{unit}/train", steps.teach, drawn, parent, frozen), entry)
        night.evaluate(model, entry)
        words = ", ".join(night.steps.settings.concept_words)
        return night.judge(unit, entry, stage, Alarm("taught", {"unit": unit, "words": words}))
    night.make(drawn, parent, stage.system.pool_size(night.steps.settings))
    chosen = night.step(f"unit-{unit}/select", steps.choose, drawn)
    entry["selection"] = chosen
    night.look_before_training(unit, chosen, entry)
    model = _fitted(night, unit, night.step(f"unit-{unit}/train", steps.fit, drawn, parent, chosen), entry)
    night.evaluate(model, entry)
    return night.judge(unit, entry, stage)


COURSES: dict[str, Callable[[Night, int, int, Stage], None]] = {"grow": grow, "teach": teach}
"""Name of a course to what runs one unit of it."""


def _fitted(night: Night, unit: int, model: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """Notes a fitted model in the unit's entry and returns it under the unit's number."""
    if model["failed"]:
        raise Ended(Alarm("training_failed", {"unit": unit, "why": model["failed"]}), "halted")
    model = model | {"unit": unit}
    entry.update({name: model[name] for name in ("model", "adapter", "loss", "tokens")})
    return model


def _empty(frozen: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """Returns the figures of a choice that was not made: all were wanted."""
    nothing = {"considered": 0, "kept_share": 1.0, "nats": 0.0, "best_of_n_nats": 0.0, "vendi": 0.0}
    chosen = [one["digest"] for one in seen.get("members", [])]
    return {**nothing, "largest_cell_share": 0.0, "selected": chosen[:24], "rejected": {}, **frozen}
