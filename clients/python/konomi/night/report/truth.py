"""What a demo knows beside its night: the simulated person's true grades of every unit, and how good the rater is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from konomi.night.metrics import Estimate


@dataclass(frozen=True)
class TrueUnit:
    """What a simulated person truly thinks of a unit's images at the fixed prompts and seeds.

    Attributes:
        number: number of the unit.
        digests: images.
        grades: true grade of each, 1 (N) to 5 (UR).
        ssr: share truly SSR or better.
        ur: share truly UR.
        vendi: Vendi score of the images.
        utility: mean true utility.
        whole: share of images that are not broken.
        utilities: true utility of each image.
        seconds: time the night spent on the unit.
        promoted: the night served it.
    """

    number: int
    digests: Sequence[str]
    grades: Sequence[int]
    ssr: Estimate
    ur: Estimate
    vendi: Estimate
    utility: Estimate
    whole: float
    utilities: Sequence[float] = ()
    seconds: float = 0.0
    promoted: bool = False


@dataclass(frozen=True)
class DemoFacts:
    """What a demo knows beside its night.

    Attributes:
        person: name of the simulated person.
        labels: grades it gave.
        seconds: time of the whole demo, and `night_seconds` of its night alone.
        night_seconds: see `seconds`.
        rank: rank agreement (Spearman) of rater and truth on the base model's images.
        ssr_auc: how well the rater tells SSR or better from the rest.
        ur_precision: average precision in finding UR.
        ur_share: share of UR, which chance alone would reach.
        units: the units, the base model first.
        spread: standard deviation of the true utility on the base model's images.
        prompts: prompt of each image.
        command: does it again.
        phases: name, as `night.alarms.WORK` has it, and seconds of each phase.
        weights: what the person truly likes: "attribute=value" to its weight, below 0 what it does not like.
    """

    person: str
    labels: int
    seconds: float
    night_seconds: float
    rank: Estimate
    ssr_auc: Estimate
    ur_precision: Estimate
    ur_share: float
    units: Sequence[TrueUnit]
    spread: float
    prompts: Sequence[str]
    command: str
    phases: Sequence[tuple[str, float]]
    weights: Mapping[str, float] = field(default_factory=dict)
