"""The guardrails of a night: logged numbers in, promote, keep or halt out.

Each guard is a small pure function over the history of the night; every alarm carries the numbers it was raised on, so
that log and report can say it in one plain sentence.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from konomi.night.alarms import Alarm
from konomi.night.metrics import UnitNumbers as UnitNumbers
from konomi.settings import KonomiSettings


class GuardSettings(KonomiSettings):
    """Limits of the guards; the defaults are those of the design, each with its evidence there."""

    model_config = SettingsConfigDict(
        env_prefix="KONOMI_GUARD_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )
    toml_table: ClassVar[str] = "guards"

    units_per_night: int = Field(5, ge=1)
    """Most units one night may make without a person looking."""
    pressure_nats: float = Field(6.0, gt=0)
    """Largest sum of ln(1 / kept share) between two human audits."""
    diversity_floor: float = Field(0.65, ge=0, le=1)
    """Halt below this share of unit 0's Vendi score: the design's 0.6 and a margin, since the score of other images of
    the same unit strays by some .03."""
    diversity_warning: float = Field(0.9, ge=0, le=1)
    """Warn when the golden set's Vendi score is below this share of unit 0's."""
    largest_cell: float = Field(0.2, gt=0, le=1)
    """Warn when one cell holds more than this share of the golden set."""
    exceedance_ratio: float = Field(2.0, ge=1)
    """Halt when surely more are untypical than this many times unit 0's share: all of its 95 % interval is above,
    since of as few as a night looks at, a tenth is untypical by chance too often."""
    exceedance_tolerance: float = Field(0.05, ge=0, le=1)
    """Smallest share of untypical images that counts as unit 0's: the gate's own 5 %."""
    doubt_ratio: float = Field(2.0, ge=1)
    """Halt when the rater's mean deviation exceeds this many times unit 0's."""
    gap_growth: float = Field(0.15, ge=0)
    """Growth of the gap, in unit 0's standard deviations, that counts as growing."""
    gap_runs: int = Field(2, ge=1)
    """Halt when the gap grows this many units in a row."""
    base_share: float = Field(0.25, ge=0, le=0.9)
    """Smallest share of base images a fit may have."""
    coverage_floor: float = Field(0.8, ge=0, le=1)
    """Halt when a unit reaches less than this share of the liked cells unit 0 reaches."""
    least_liked_cells: int = Field(5, ge=1)
    """Liked cells below which that share is not looked at: of fewer, one alone would be more than a fifth."""
    near_copy_rate: float = Field(0.05, ge=0, le=1)
    """Warn when more of a unit's images than this, beside chance, are near-copies of what it was trained on."""
    off: tuple[str, ...] = ()
    """Guards left out, by name: for measuring what each is worth, not for a night that matters."""

    @field_validator("off")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = sorted(set(names) - set(NAMES))
        if unknown:
            raise ValueError(f"expected names among {', '.join(NAMES)}, got {', '.join(unknown)}")
        return names


@dataclass(frozen=True)
class GuardDecision:
    """What happens to a unit.

    Attributes:
        decision: "promote", "keep" (the parent stays) or "halt" (the night ends on `served`).
        alarm: why.
        served: unit served from now on.
        warnings: what did not decide but should be read.
    """

    decision: str
    alarm: Alarm
    served: int
    warnings: tuple[Alarm, ...] = ()


def not_finite(history: Sequence[UnitNumbers], _settings: GuardSettings) -> Alarm | None:
    """A score that is not a number: the adapter is broken."""
    return None if history[-1].finite else Alarm("not_finite", {"unit": history[-1].unit})


def other_rater(history: Sequence[UnitNumbers], _settings: GuardSettings) -> Alarm | None:
    """Another rater version scored than scored unit 0: nothing can be compared."""
    first, last = history[0], history[-1]
    if first.rater_version == last.rater_version:
        return None
    return Alarm("other_rater", {"unit": last.unit})


def diversity(history: Sequence[UnitNumbers], settings: GuardSettings) -> Alarm | None:
    """Mode collapse: the Vendi score fell below the floor."""
    ratio = history[-1].vendi / max(history[0].vendi, 1e-9)
    if ratio >= settings.diversity_floor:
        return None
    return Alarm("diversity", {"unit": history[-1].unit, "ratio": ratio, "floor": settings.diversity_floor})


def exceedance(history: Sequence[UnitNumbers], settings: GuardSettings) -> Alarm | None:
    """Images leave what is known: broken, or made for the rater."""
    last = history[-1]
    limit = settings.exceedance_ratio * max(history[0].exceedance, settings.exceedance_tolerance)
    if (last.exceedance if last.exceedance_low is None else last.exceedance_low) <= limit:
        return None
    return Alarm("exceedance", {"unit": last.unit, "share": last.exceedance, "limit": limit})


INTACT_DROP = 0.03
"""How far below unit 0's the share of intact images may lie; in trials signed targets cost .007 +- .004 of it."""


def realism(history: Sequence[UnitNumbers], _settings: GuardSettings) -> Alarm | None:
    """Surely fewer images are intact than of unit 0; where nothing reads that, `exceedance` is what is left to tell.

    "Surely" is by the 95 % interval of the difference of two shares (Newcombe 1998, Statistics in Medicine 17:873,
    method 10): unit 0's share is measured on as few images as the unit's. That both drew the same prompts and seeds
    makes the interval wider than it need be, never narrower.
    """
    first, last = history[0], history[-1]
    if first.intact is None or last.intact is None or last.intact_high is None:
        return None
    low = first.intact if first.intact_low is None else first.intact_low
    doubt_of_both = math.hypot(last.intact_high - last.intact, first.intact - low)
    if first.intact - last.intact <= max(INTACT_DROP, doubt_of_both):
        return None
    floor = first.intact - INTACT_DROP
    return Alarm("realism", {"unit": last.unit, "share": last.intact, "floor": floor})


def doubt(history: Sequence[UnitNumbers], settings: GuardSettings) -> Alarm | None:
    """The rater no longer knows what it looks at."""
    ratio = history[-1].doubt / max(history[0].doubt, 1e-9)
    if ratio <= settings.doubt_ratio:
        return None
    return Alarm("doubt", {"unit": history[-1].unit, "ratio": ratio, "limit": settings.doubt_ratio})


def coverage(history: Sequence[UnitNumbers], settings: GuardSettings) -> Alarm | None:
    """Known likes were lost: whole liked regions are made no more."""
    last = history[-1]
    if last.liked_cells < settings.least_liked_cells or last.likes_kept >= settings.coverage_floor - 1e-9:
        return None
    return Alarm("coverage", {"unit": last.unit, "share": last.likes_kept, "floor": settings.coverage_floor})


def gap(history: Sequence[UnitNumbers], settings: GuardSettings) -> Alarm | None:
    """The rater's own score rises while the independent measure does not, several units running."""
    runs = settings.gap_runs
    if len(history) <= runs:
        return None
    recent = [unit.gap for unit in history[-runs - 1 :]]
    if all(after - before > settings.gap_growth for before, after in itertools.pairwise(recent)):
        return Alarm("gap", {"unit": history[-1].unit, "gap": recent[-1], "runs": runs})
    return None


HALTS: tuple[Callable[[Sequence[UnitNumbers], GuardSettings], Alarm | None], ...] = (
    not_finite,
    other_rater,
    exceedance,
    realism,
    doubt,
    diversity,
    coverage,
    gap,
)
"""The guards that halt a night, most alarming first."""


def near_copies(history: Sequence[UnitNumbers], settings: GuardSettings) -> Alarm | None:
    """The unit repeats what it was trained on."""
    last = history[-1]
    if last.near_copies - last.near_copies_by_chance <= settings.near_copy_rate:
        return None
    numbers: dict[str, float | str] = {"unit": last.unit, "share": last.near_copies}
    return Alarm("near_copies", numbers | {"chance": last.near_copies_by_chance})


WARNINGS = (near_copies,)
"""The guards that warn of a unit."""

LIKE = 0.5
"""Share of a set as near to the graded images, or to a liked one, as is usual, surely below which the set is unlike
them: of images like those it is 0.95."""


def far_from_liked(history: Sequence[UnitNumbers], _settings: GuardSettings) -> Alarm | None:
    """What it makes is unlike anything the owner liked, whatever the rater expects of it."""
    last = history[-1]
    if last.near_liked is None or last.near_liked_high is None or last.near_liked_high >= LIKE:
        return None
    return Alarm("far_from_liked", {"unit": last.unit, "share": last.near_liked})


def surely_better(history: Sequence[UnitNumbers], _settings: GuardSettings) -> Alarm | None:
    """The share expected to be SSR or better is not surely above the base model's."""
    last = history[-1]
    if last.ssr_gain_low is None or last.ssr_gain_low > 0:
        return None
    return Alarm("not_surely_better", {"unit": last.unit})


KEEPS = (far_from_liked, surely_better)
"""The guards that leave the parent served where a unit wins; the night goes on."""

NAMES = (
    *(guard.__name__ for guard in HALTS),
    *("pressure", "base_share", "golden_diversity", "largest_cell"),
    *(guard.__name__ for guard in (*WARNINGS, *KEEPS)),
)
"""Every guard that can be left out."""


def judge(
    history: Sequence[UnitNumbers], served: int, promote_win_rate: float, settings: GuardSettings
) -> GuardDecision:
    """Decides about the last unit of the history.

    Args:
        history: unit 0, then every unit of the night in order; the last one is the candidate.
        served: number of the unit served now.
        promote_win_rate: share of pairs against the parent the candidate must exceed.
        settings: limits of the guards.
    """
    candidate = history[-1]
    on = [guard for guard in HALTS if guard.__name__ not in settings.off]
    halt = next((alarm for guard in on if (alarm := guard(history, settings))), None)
    watching = [guard for guard in WARNINGS if guard.__name__ not in settings.off]
    warnings = tuple(alarm for guard in watching if (alarm := guard(history, settings)))
    if halt is not None:
        return GuardDecision("halt", halt, _last_good(history, halt, settings, served), warnings)
    if candidate.changed == 0:
        return GuardDecision("keep", Alarm("unchanged", {"unit": candidate.unit}), served, warnings)
    numbers: dict[str, float | str] = {"unit": candidate.unit, "win_rate": candidate.win_rate, "parent": served}
    if candidate.win_rate <= promote_win_rate:
        return GuardDecision("keep", Alarm("not_better", numbers), served, warnings)
    keeping = [guard for guard in KEEPS if guard.__name__ not in settings.off]
    keep = next((alarm for guard in keeping if (alarm := guard(history, settings))), None)
    if keep is not None:
        return GuardDecision("keep", keep, served, warnings)
    return GuardDecision("promote", Alarm("better", numbers), candidate.unit, warnings)


def _last_good(history: Sequence[UnitNumbers], alarm: Alarm, settings: GuardSettings, served: int) -> int:
    """The unit to return to: the served one, or for a growing gap the last one promoted before it began to grow."""
    if alarm.name != "gap":
        return served
    before = history[: len(history) - settings.gap_runs]
    return max((unit.unit for unit in before if unit.promoted), default=0)


PRESSURE_MARGIN = 0.95
"""Share of the pressure budget a plan aims at: quota and gate keep fewer images than asked for."""


WHOLE_IMAGES = 0.02
"""How far below its floor the base model's share of a training set may lie, since its images are whole ones."""


def before_night(spent_nats: float, settings: GuardSettings) -> Alarm | None:
    """Looks at the pressure spent since a person last audited, before a night in which the rater chooses begins."""
    if spent_nats < PRESSURE_MARGIN * settings.pressure_nats or "pressure" in settings.off:
        return None
    return Alarm("pressure_spent", {"nats": spent_nats, "limit": settings.pressure_nats})


def before_training(
    spent_nats: float, golden: Mapping[str, float], unit: int, base_vendi: float, settings: GuardSettings
) -> tuple[Alarm | None, tuple[Alarm, ...]]:
    """Looks at a selected training set before the fit.

    Args:
        spent_nats: pressure of the night with this selection.
        golden: "vendi", "largest_cell_share", "base_share" and "n" of the training set.
        unit: number of the unit.
        base_vendi: Vendi score of as many images of unit 0.
        settings: limits of the guards.

    Returns:
        The alarm that halts the night, if any, and the warnings.
    """
    if spent_nats > settings.pressure_nats + 1e-9 and "pressure" not in settings.off:
        return Alarm("pressure", {"unit": unit, "nats": spent_nats, "limit": settings.pressure_nats}), ()
    if golden["n"] < 1:
        return Alarm("nothing_selected", {"unit": unit}), ()
    if golden["base_share"] < settings.base_share - WHOLE_IMAGES and "base_share" not in settings.off:
        return Alarm("base_share", {"unit": unit, "share": golden["base_share"], "floor": settings.base_share}), ()
    warnings = []
    if golden["vendi"] < settings.diversity_warning * base_vendi:
        warnings.append(Alarm("golden_diversity", {"unit": unit, "ratio": golden["vendi"] / max(base_vendi, 1e-9)}))
    if golden["largest_cell_share"] > settings.largest_cell:
        warnings.append(Alarm("largest_cell", {"unit": unit, "share": golden["largest_cell_share"]}))
    return None, tuple(warning for warning in warnings if warning.name not in settings.off)


class AuditNumbers(Protocol):
    """What a finished blind audit of a night said."""

    @property
    def rise(self) -> float:
        """How much higher the rater scored the unit, in unit 0's standard deviations."""

    @property
    def win_rate(self) -> float:
        """Share of the pairs in which the person chose it."""

    @property
    def pairs(self) -> float:
        """Pairs that were answered."""


def rater_overrated(audits: Sequence[AuditNumbers], settings: GuardSettings) -> Alarm | None:
    """Looks at the audits of the rater that would choose, before a night: it rose and the person did not, every time.

    Args:
        audits: the finished audits, oldest first.
        settings: limits of the guards; `gap_growth` and `gap_runs` hold here as within a night.
    """
    last = audits[-settings.gap_runs :]
    if len(last) < settings.gap_runs or "gap" in settings.off:
        return None
    if not all(audit.rise > settings.gap_growth and audit.win_rate <= 0.5 for audit in last):
        return None
    pairs = sum(audit.pairs for audit in last)
    mean = sum(audit.win_rate * audit.pairs for audit in last) / pairs
    return Alarm("audit_gap", {"runs": len(last), "win_rate": mean, "pairs": pairs})
