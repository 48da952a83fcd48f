"""What the owner's blind audits of earlier nights say of the rater that chose: the human half of the gap alarm.

A rater that is being fooled rises while people do not (Gao et al. 2210.10760). Within a night nobody looks, so the gap
is watched by the rater's own doubt; a night's hidden pairs, once answered, are the person's word on the unit it served.
"""

from collections.abc import Sequence
from typing import Any

from konomi.guards import Alarm, GuardSettings
from konomi.lineage import Nights
from konomi.verdict import Verdict


def audits(nights: Nights, taste: str, version: str) -> list[dict[str, Any]]:
    """Returns the finished blind audits of nights a rater version chose in, oldest first.

    Args:
        nights: the nights of this home.
        taste: "tastes/{taste}".
        version: a rater version; what was said of another's choices says nothing of this one.

    Returns:
        Of each: "night", "unit", "rise": how much higher the rater scored the unit than what was served before, in
        unit 0's standard deviations; "win_rate": the share of "pairs" in which the person chose it, a tie half.
    """
    found = []
    for night in nights.all():
        state = nights.read(night)
        if nights.request(night).taste != taste or state.get("rater_version") != version:
            continue
        told = Verdict(nights, night)
        tally, rise = told.tally(), _rise(state, told.unit["unit"], told.against["unit"])
        if tally is not None and rise is not None:
            rate = tally["win_rate"]
            about = {"night": night, "unit": told.unit["unit"], "rise": rise}
            found.append({**about, "win_rate": rate["value"], "pairs": rate["n"]})
    return found


def fooled(found: Sequence[dict[str, Any]], settings: GuardSettings) -> Alarm | None:
    """Looks at the audits of the rater that would choose, before a night: it rose and the person did not, every time.

    Args:
        found: as `audits` returns them.
        settings: limits of the guards; `gap_growth` and `gap_runs` hold here as within a night.
    """
    last = found[-settings.gap_runs :]
    if len(last) < settings.gap_runs or "gap" in settings.off:
        return None
    if not all(one["rise"] > settings.gap_growth and one["win_rate"] <= 0.5 for one in last):
        return None
    mean = sum(one["win_rate"] * one["pairs"] for one in last) / sum(one["pairs"] for one in last)
    return Alarm("audit_gap", {"runs": len(last), "win_rate": mean, "pairs": sum(one["pairs"] for one in last)})


def _rise(state: dict[str, Any], unit: int, against: int) -> float | None:
    """Returns by how much the rater scored a unit above another, in unit 0's standard deviations; None if unknown."""
    scores = {one["unit"]: one["scores"] for one in state["units"] if "scores" in one}
    if not {unit, against, 0} <= set(scores):
        return None
    gained = scores[unit]["utility"]["value"] - scores[against]["utility"]["value"]
    return float(gained / max(scores[0]["spread"], 1e-9))
