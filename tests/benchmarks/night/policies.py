"""The policies the proof compares: the default, each guard taken away from it, and two naive loops."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OFF = 1e9


@dataclass(frozen=True)
class Policy:
    """What differs from the default settings.

    Attributes:
        name: its name.
        night: night settings.
        guards: guard settings.
        naive: "" or how a naive loop keeps data, "replace" or "accumulate".
        data: "accumulate", or "replace" where each unit sees the last unit's images alone.
        fresh_fit: every fit starts from the base model; else from the last unit.
        weighted: temperature of reward weights exp(z / T) over all own images within prompts; 0 selects.
        reader: whether the night has a reader of intact images at hand, for its guard.
        rater: "honest", "adversarial", or "spurious" where the grades follow a factor the taste does not care for.
    """

    name: str
    night: Mapping[str, Any] = field(default_factory=dict)
    guards: Mapping[str, Any] = field(default_factory=dict)
    naive: str = ""
    data: str = "accumulate"
    fresh_fit: bool = True
    weighted: float = 0.0
    reader: bool = False
    rater: str = "honest"


NO_ALARMS = {
    "diversity_floor": 0.0,
    "exceedance_ratio": OFF,
    "doubt_ratio": OFF,
    "gap_growth": OFF,
    "pressure_nats": OFF,
    "base_share": 0.0,
}
_LOOSE = {"served_share": 1.0, "promote_win_rate": 0.0, "patience": 10, "base_share": 0.0}
DEFAULT = Policy("default")
NAIVE = (
    Policy("naive replace", _LOOSE, NO_ALARMS, "replace", "replace"),
    Policy("naive accumulate", _LOOSE, NO_ALARMS, "accumulate"),
)
SPURIOUS = Policy("default, spurious factor", rater="spurious")
ADVERSARY = (
    Policy("default, adversarial rater", rater="adversarial"),
    Policy("naive replace, adversarial rater", _LOOSE, NO_ALARMS, "replace", "replace", rater="adversarial"),
)
_NO_COVERAGE = {"off": ("coverage",)}
EVEN = Policy("even pressure", {"pressure_units": 10})
"""As it was: the pressure budget spread over all units of the night."""
ABLATIONS = (
    EVEN,
    Policy("without accumulation", data="replace"),
    Policy("without a fresh fit", fresh_fit=False),
    Policy("without base share", {"base_share": 0.0}, {"base_share": 0.0}),
    Policy("without lower bound", {"kappa": 0.0}),
    Policy("without cell quota", {"quota": 0.0}),
    Policy("without typicality gate", {"typicality_percentile": 100.0}),
    Policy("without near-copy gate", {"near_copy_cosine": 1.0}),
    Policy("without pressure budget", {"kept_share": 0.05}, {"pressure_nats": 40.0}),
    Policy("without diversity floor", {}, {"off": ("diversity",)}),
    Policy("without coverage alarm", {}, _NO_COVERAGE),
    Policy("without gap alarm", {}, {"off": ("gap",)}),
    Policy("without doubt alarm", {}, {"off": ("doubt",)}),
    Policy("without exceedance alarm", {}, {"off": ("exceedance",)}),
    Policy("without promotion test", {"promote_win_rate": 0.0, "patience": 10}),
    Policy("without any alarm", {"promote_win_rate": 0.0, "patience": 10}, NO_ALARMS | _NO_COVERAGE),
)
SIGNED = tuple(
    Policy(f"signed {beta:g}", {"contrast_beta": beta}, reader=True) for beta in (0.5, 0.35, 1.0)
)  # fmt: skip
_WIDE = {"pressure_nats": 38 / 3}
WIDE = tuple(
    Policy(f"signed {beta:g} wide", {"contrast_beta": beta}, _WIDE, reader=True) for beta in (0.5, 0.6, 0.7)
)  # fmt: skip
"""The tails of the trial: each as strong as today's selection, so that the budget holds twice what it does."""
WEIGHTED = Policy("reward weights 0.6", guards={"base_share": 0.0, "pressure_nats": OFF}, weighted=0.6, reader=True)
WAYS = (DEFAULT, *SIGNED, *WIDE, WEIGHTED)
"""What units can learn from, for M2; the rule of the default was written down before: win >= .82, Vendi >= .76, intact
>= the base model's - .02 over 20 persons."""
ALL = (DEFAULT, *NAIVE, *ADVERSARY, SPURIOUS, *ABLATIONS)
