"""The morning's blind pairs: base model against what a night serves, sides hidden until every answer is given."""

import hashlib
import random
from typing import Any

from konomi import errors
from konomi.intervals import share as share_of
from konomi.lineage import read_json, write_json
from konomi.web.answers import number, text
from konomi.web.nights import SAMPLE, NightDesk

PAIRS = 12
CHOICES = ("left", "right", "tie")


class Verdicts:
    """Keeps the owner's answers beside the night; they train nothing."""

    def __init__(self, desk: NightDesk) -> None:
        self._desk = desk

    def pairs(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Endpoint: the pairs of a night, without a word about which side is which, and the tally once all are told."""
        night = text(asked, "night")
        pairs = self._pairs(night)
        answers = self._answers(night)
        shown = [
            {"left": left, "right": right, "answer": answers.get(str(i))} for i, (left, right, _) in enumerate(pairs)
        ]
        done = len(pairs) > 0 and len(answers) >= len(pairs)
        return {"pairs": shown, "tally": _tally(pairs, answers) if done else None}

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Endpoint: notes one answer durably; the same answer twice is one answer."""
        night, choice = text(asked, "night"), text(asked, "choice")
        pairs = self._pairs(night)
        if not pairs:
            raise errors.FailedPrecondition("this night serves the base model: there is nothing to compare")
        index = number(asked, "pair", -1, 0, len(pairs) - 1)
        if choice not in (*CHOICES, ""):
            raise errors.InvalidArgument(f"expected one of {', '.join(CHOICES)}", field="choice")
        answers = self._answers(night)
        answers.pop(str(index), None)
        if choice:
            answers[str(index)] = choice
        write_json(self._desk.folder(night) / "blind.json", {"answers": answers})
        return self.pairs({"night": night})

    def _answers(self, night: str) -> dict[str, str]:
        return dict(read_json(self._desk.folder(night) / "blind.json").get("answers", {}))

    def _pairs(self, night: str) -> list[tuple[str, str, str]]:
        """Returns (left, right, side of the served unit): the same prompt and seed from both models."""
        state = self._desk.state(night)
        made = {unit["unit"]: unit.get("evaluation", []) for unit in state["units"]}
        served = (state.get("served") or {}).get("unit", 0)
        if not served or not made.get(0) or not made.get(served):
            return []
        draw = random.Random(int(hashlib.sha256(f"blind {night}".encode()).hexdigest()[:16], 16))
        shown = SAMPLE if min(len(made[0]), len(made[served])) >= SAMPLE + PAIRS else 0
        both = [pair for pair in zip(made[0][shown:], made[served][shown:], strict=False) if pair[0] != pair[1]]
        chosen = draw.sample(both, min(PAIRS, len(both)))
        return [(new, old, "left") if draw.random() < 0.5 else (old, new, "right") for old, new in chosen]


def _tally(pairs: list[tuple[str, str, str]], answers: dict[str, str]) -> dict[str, Any]:
    told = [(side, answers.get(str(index))) for index, (_, _, side) in enumerate(pairs)]
    ties = sum(1 for _, choice in told if choice == "tie")
    wins = sum(1 for side, choice in told if choice == side)
    losses = len(told) - ties - wins
    share = share_of(wins, wins + losses) if wins + losses else None
    return {"wins": wins, "losses": losses, "ties": ties, "share": share, "sides": [side for side, _ in told]}
