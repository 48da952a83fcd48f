"""What a verdict does: the answers become a blind audit of the rater, the decision keeps the unit or takes it back."""

import uuid

from konomi import paging
from konomi.client import Client
from konomi.errors import FailedPrecondition
from konomi.lineage import derived_id
from konomi.messages import text
from konomi.v1 import rater_pb2 as rater
from konomi.verdict import KEEP, Verdict

BASE = "base"


def hand_over(client: Client, verdict: Verdict) -> bool:
    """Records a fully answered verdict in the rater, once; says whether the rater has it."""
    if not verdict.done:
        return False
    if verdict.kept.get("audit"):
        return True
    answers = verdict.answers()
    pairs = [
        rater.BlindPair(unit_digest=pair.unit, against_digest=pair.against, choice=_choice(pair.won(answers[place])))
        for place, pair in enumerate(verdict.pairs())
    ]
    audit = client.rater.record_blind_audit(
        taste=verdict.taste,
        audit=rater.BlindAudit(
            night=verdict.night, unit=verdict.unit["model"], against=verdict.against["model"], pairs=pairs
        ),
        request_id=derived_id(verdict.night, "blind-audit"),
    )
    verdict.note_audit(audit.name)
    return True


def decide(client: Client, verdict: Verdict, decision: str, now: float) -> str:
    """Keeps the unit, or takes it back to what was served before the night; returns what is current since.

    Args:
        client: rater and trainer.
        verdict: of a night that has ended.
        decision: "keep" or "roll_back"; the same decision twice is one decision.
        now: Unix time.

    Returns:
        "base" or a model id.

    Raises:
        FailedPrecondition: the night changed nothing, or another model was made current since.
    """
    if not verdict.pairs():
        raise FailedPrecondition(text("this night changed nothing that could be judged"), reason="NOTHING_TO_JUDGE")
    hand_over(client, verdict)
    unit, before = verdict.unit["model"], verdict.against["model"]
    current, wanted = _current(client, verdict.taste), unit if decision == KEEP else before
    if current == wanted and verdict.kept.get("decision") == decision:
        return current
    if current not in (unit, wanted):
        raise FailedPrecondition(
            text(
                "expected {unit} to be in use, but another model was made current since; choose one under Lineage",
                unit=f"unit-{verdict.unit['unit']}",
            ),
            reason="NOT_CURRENT",
        )
    if current != wanted:
        to = before if before == BASE else f"models/{before}"
        client.trainer.rollback_model(taste=verdict.taste, to=to, request_id=str(uuid.uuid4()))
        current = before
    verdict.note_decision(decision, current, now)
    return current


def _choice(won: float) -> rater.BlindChoice.ValueType:
    return {1.0: rater.BLIND_CHOICE_UNIT, 0.0: rater.BLIND_CHOICE_AGAINST, 0.5: rater.BLIND_CHOICE_TIE}[won]


def _current(client: Client, taste: str) -> str:
    """Returns the id of a taste's current model, "base" where it is the base model itself."""
    current = (model.name.removeprefix("models/") for model in paging.models(client, taste) if model.current)
    return next(current, BASE)
