"""The morning's verdict on the page: blind pairs one after the other, what they say, keep or roll back."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from konomi import judging
from konomi.client import Client
from konomi.errors import InvalidArgument, KonomiError
from konomi.lineage import Nights
from konomi.verdict import KEEP, ROLL_BACK, Verdict
from konomi.web.answers import number, text
from konomi.web.nights import NightDesk


class Verdicts:
    """Keeps the owner's answers beside the night, and hands them to the rater once all are given."""

    def __init__(self, desk: NightDesk, client: Callable[[], Client]) -> None:
        self._desk, self._client = desk, client

    def pairs(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Endpoint: the pairs of a night, without a word about which side is which, and the tally once all are told."""
        return self._told(self._verdict(asked))

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Endpoint: notes one answer durably; the same answer twice is one answer."""
        found = self._verdict(asked)
        found.answer(number(asked, "pair", -1, -1, 10_000), text(asked, "choice"))
        return self._told(found)

    def decide(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Endpoint: keeps the unit, or returns to what was served before the night in one transaction."""
        decision = text(asked, "decision")
        if decision not in (KEEP, ROLL_BACK):
            raise InvalidArgument(f"expected {KEEP} or {ROLL_BACK}", field="decision")
        found = self._verdict(asked)
        judging.decide(self._client(), found, decision, time.time())
        return self._told(found)

    def _verdict(self, asked: dict[str, Any]) -> Verdict:
        folder = self._desk.folder(text(asked, "night"))
        return Verdict(Nights(folder.parent.parent), folder.name)

    def _told(self, found: Verdict) -> dict[str, Any]:
        answers = found.answers()
        shown = [
            {"left": pair.left, "right": pair.right, "answer": answers.get(place)}
            for place, pair in enumerate(found.pairs())
        ]
        if found.done and not found.kept.get("audit"):
            with suppress(KonomiError):  # the answers are safe in their file; the next look hands them over
                judging.hand_over(self._client(), found)
        summary = found.summary()
        sides = [("left" if pair.unit_left else "right") for pair in found.pairs()] if found.done else None
        return {key: value for key, value in summary.items() if key != "pairs"} | {"pairs": shown, "sides": sides}
