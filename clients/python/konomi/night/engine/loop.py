"""The recipe of a night: which step follows which; it decides, and does nothing itself."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from konomi.night import budgets, guards, metrics
from konomi.night.alarms import Alarm, Ended, sentence
from konomi.night.engine.steps import NightSteps, compare, vendi_at
from konomi.night.guards import fooled
from konomi.night.records.request import NightRequest
from konomi.night.systems.base import Stage
from konomi.night.systems.registry import stages

Runner = Callable[..., dict[str, Any]]
"""(name, body, *arguments) → {"seconds", "value"}; a durable runner returns the recorded result of a finished step."""

BASE: dict[str, Any] = {"unit": 0, "model": "base", "adapter": ""}


def fresh(request: NightRequest) -> dict[str, Any]:
    """Returns the record of a night that has done nothing yet."""
    return {
        "night": request.id,
        "system": request.system,
        "taste": request.taste,
        "seed": request.seed,
        "state": "running",
        "reason": None,
        "served": {"unit": 0, "model": "base"},
        "units": [],
        "steps": [],
        "ended": [],
        "seconds": 0.0,
        "images": 0,
        "gpu_seconds": 0.0,
        "disk_bytes": 0,
        "nats": 0.0,
    }


class Recipe:
    """One night from plan to end; the same recorded results lead to the same next step."""

    def __init__(
        self, request: NightRequest, steps: NightSteps, do: Runner, publish: Callable[[dict[str, Any]], None]
    ) -> None:
        """Takes what runs a step and what is told the state after each."""
        self.request = request
        self.steps = steps
        self.settings = steps.settings
        self.stages = stages(request.system, self.settings.units)
        self.do = do
        self.publish = publish
        self.served: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []
        self.evaluated: dict[int, dict[str, Any]] = {}
        self.state: dict[str, Any] = fresh(request)

    def run(self) -> dict[str, Any]:
        """Runs the night and returns its state."""
        try:
            self._run()
        except Ended as end:
            self.state["state"] = end.state
            self.state["reason"] = asdict(end.alarm) | {"sentence": sentence(end.alarm)}
            self.publish(self.state)
        return self.state

    def _run(self) -> None:
        plan = self.step("plan", self.steps.plan)
        self.state["rater_version"], self.state["rater"] = plan["rater_version"], plan.get("rater")
        self.state["withdrawn"] = plan.get("withdrawn", [])
        self._look_before_night(plan)
        self.evaluate(BASE, None)
        self.served = BASE
        if plan["start"]:
            self.evaluate(plan["start"], None)
            self.served = plan["start"]
        self._serving()
        position = 0
        for stage in self.stages:
            try:
                for _ in range(stage.units):
                    position += 1
                    stage.system.run_unit(self, plan["first"] + position - 1, position, stage)
                    self._lose_patience(stage)
            except Ended as end:
                if end.state != "finished" or end.night or stage is self.stages[-1]:
                    raise
                self._note(end.alarm, stage)
        made = sum("decision" in one and "stage" in one for one in self.state["units"])
        raise Ended(Alarm("units", {"units": made}))

    def _look_before_night(self, plan: dict[str, Any]) -> None:
        """Begins with the pressure already spent since a person last audited, and what the last audits said.

        A night that may spend no pressure, or whose rater people contradict, ends here.
        """
        self.state["nats"] = (plan.get("rater") or {}).get("nats", 0.0)
        self.state["audits"] = plan.get("audits", [])
        alarm = guards.before_night(self.state["nats"], self.steps.guards)
        alarm = alarm or fooled(self.state["audits"], self.steps.guards)
        if alarm is not None and any(stage.system.rater_chooses for stage in self.stages):
            self.served = plan["start"] or BASE
            self._serving()
            raise Ended(alarm, "halted")

    def _lose_patience(self, stage: Stage) -> None:
        """Ends a stage whose last units all failed to beat their parent; the stage's last unit ends it anyway."""
        if stage.system.patient:
            return
        mine = [one for one in self.state["units"] if one.get("stage") == stage.number and "decision" in one]
        tail = [one["decision"] for one in mine[-self.settings.patience :]]
        if len(tail) == self.settings.patience and "promote" not in tail and len(mine) < stage.units:
            raise Ended(Alarm("patience", {"runs": len(tail), "parent": self.served["unit"]}))

    def _note(self, alarm: Alarm, stage: Stage) -> None:
        """Notes why a stage ended, where another follows it."""
        self.state["ended"].append({"system": stage.name, **asdict(alarm), "sentence": sentence(alarm)})
        self.publish(self.state)

    def open(self, unit: int, stage: Stage) -> dict[str, Any]:
        """Begins the entry of a unit."""
        entry: dict[str, Any] = {"unit": unit, "system": stage.name, "parent": self.served["unit"]}
        entry |= {"stage": stage.number, "seconds": 0.0, "images": 0, "refused": 0}
        self.state["units"].append(entry)
        return entry

    def make(self, drawn: dict[str, Any], maker: dict[str, Any] | None, count: int) -> list[str]:
        """Makes the images of a unit's pool, chunk by chunk, and returns their digests."""
        digests: list[str] = []
        for number, (first, last) in enumerate(_chunks(count, self.settings.chunk)):
            name = f"unit-{drawn['unit']}/generate-{number:03d}"
            made = self.step(name, self.steps.generate, drawn, maker, first, last, images=last - first)
            self.state["units"][-1]["refused"] += made["refused"]
            digests += made["digests"]
        return digests

    def look_before_training(self, unit: int, chosen: dict[str, Any], entry: dict[str, Any]) -> None:
        """Lets the guards look at a selected training set; an alarm halts the night.

        Raises:
            Ended: a guard halted it.
        """
        spent = self.state["nats"] + chosen["nats"]
        base_vendi = vendi_at(self.evaluated[0]["scores"], chosen["n"])
        alarm, warnings = guards.before_training(spent, chosen, unit, base_vendi, self.steps.guards)
        entry["warnings"] = [asdict(warning) | {"sentence": sentence(warning)} for warning in warnings]
        if alarm is not None:
            raise Ended(alarm, "halted")
        self.state["nats"] = spent

    def evaluate(self, model: dict[str, Any], entry: dict[str, Any] | None) -> None:
        """Makes and scores a unit's evaluation images; unit 0 and the unit served at the start become entries here."""
        unit = model["unit"]
        if entry is None:
            entry = {"unit": unit, "model": model["model"], "adapter": model["adapter"], "seconds": 0.0, "images": 0}
            entry["tokens"] = model.get("tokens", [])
            entry["decision"], entry["promoted"] = "start", True
            self.state["units"].append(entry)
        digests: list[str] = []
        for number, (first, last) in enumerate(_chunks(self.settings.evaluation_images, self.settings.chunk)):
            maker = model if unit else None
            name = f"unit-{unit}/evaluate-{number:03d}"
            digests += self.step(name, self.steps.evaluate, maker, first, last, images=last - first)["digests"]
        reference = self.evaluated[0]["digests"] if self.evaluated else []
        manifest = entry.get("selection", model).get("manifest", "")
        scores = self.step(f"unit-{unit}/score", self.steps.score, digests, reference, manifest)
        known = {"unit": unit, "model": model["model"], "digests": digests, "scores": scores}
        known["base_spread"] = self.evaluated[0]["scores"]["spread"] if self.evaluated else scores["spread"]
        self.evaluated[unit] = known
        entry["scores"] = {name: value for name, value in scores.items() if name != "bounds"}
        entry["evaluation"] = digests
        if entry.get("decision") == "start":
            zero = self.history[0] if self.history else None
            self.history.append(compare(known, self.evaluated[0], zero) | {"promoted": True})

    def judge(self, unit: int, entry: dict[str, Any], stage: Stage, wanted: Alarm | None = None) -> None:
        """Judges a unit and serves it where it is promoted; a wanted one is promoted unless a guard halts."""
        candidate, parent = self.evaluated[unit], self.evaluated[self.served["unit"]]
        known = (list(self.history), self.served["unit"], candidate, parent)
        verdict = self.step(f"unit-{unit}/judge", self.steps.judge, *known, list(stage.system.spared))
        if wanted is not None and verdict["decision"] == "keep":
            numbers = verdict["numbers"] | {"promoted": True}
            verdict |= {"decision": "promote", "alarm": asdict(wanted), "served": unit, "numbers": numbers}
        self.history.append(verdict["numbers"])
        undone = sum(one["promoted"] and one["unit"] > verdict["served"] for one in self.history[:-1])
        reason = verdict["alarm"] | {"sentence": sentence(verdict["alarm"])}
        entry.update({"decision": verdict["decision"], "reason": reason, "wins": verdict["wins"]})
        entry["warnings"] = entry.get("warnings", []) + [
            warning | {"sentence": sentence(warning)} for warning in verdict["warnings"]
        ]
        base = self.evaluated[0]["scores"]["bounds"]
        entry["wins_base"] = metrics.paired_wins(candidate["scores"]["bounds"], base)
        entry["numbers"], entry["promoted"] = verdict["numbers"], verdict["decision"] == "promote"
        if verdict["decision"] == "promote" or undone:
            self.step(f"unit-{unit}/serve", self.steps.serve, verdict, candidate, undone)
        back = self.evaluated[verdict["served"]]
        served = next(one for one in self.state["units"] if one["unit"] == verdict["served"])
        self.served = {"unit": verdict["served"], "model": back["model"]}
        self.served |= {"adapter": served["adapter"], "tokens": served.get("tokens", [])}
        self._serving()
        if verdict["decision"] == "halt":
            raise Ended(Alarm(verdict["alarm"]["name"], verdict["alarm"]["numbers"]), "halted")

    def _serving(self) -> None:
        self.state["served"] = {"unit": self.served["unit"], "model": self.served["model"]}
        self.publish(self.state)

    def step(self, name: str, body: Callable[..., dict[str, Any]], *arguments: Any, images: int = 0) -> dict[str, Any]:
        """Runs one step within the budgets and notes it."""
        spent = budgets.exhausted(self.state, self.settings, images)
        if spent is not None:
            raise Ended(spent, night=True)
        envelope = self.do(name, body, *arguments)
        value: dict[str, Any] = envelope["value"]
        budgets.note(self.state, name, envelope, images)
        self.publish(self.state)
        return value


def _chunks(count: int, size: int) -> list[tuple[int, int]]:
    return [(first, min(count, first + size)) for first in range(0, count, size)]
