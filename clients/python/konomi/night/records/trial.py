"""What a base model drew of a taste before a night, held against what was graded: kept beside the night."""

from contextlib import suppress
from pathlib import Path

from pydantic import Field, ValidationError

from konomi.files import canonical, read_json, write_atomically
from konomi.i18n.catalogue import N_, text
from konomi.night.alarms import Alarm, percent
from konomi.night.metrics import Estimate
from konomi.night.records.record import Record

FILE = "trial.json"


class Trial(Record):
    """A few images of a base model at a night's prompts, and how they lie to the graded images of the taste.

    Attributes:
        base: id of the base model.
        digests: the images; `prompts` of each.
        graded_n: graded images they were compared with; 0 where too little is graded to say anything.
        liked_n: images graded SSR or better among them.
        typical: share within the usual distance of graded images.
        near_liked: share as near to its nearest liked image as graded images usually are; of images like those 0.95.
        liked_distance: median cosine distance to the nearest liked image; `usual_distance` that of the graded images.
        far: surely fewer than half are like what was graded, or near a liked image: the base cannot draw the taste.
    """

    base: str
    digests: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    graded_n: int = 0
    liked_n: int = 0
    typical: Estimate = Field(default_factory=dict)
    near_liked: Estimate = Field(default_factory=dict)
    liked_distance: float = 0.0
    usual_distance: float = 0.0
    far: bool = False


def read(path: Path) -> Trial | None:
    """Returns a trial that was kept; None where there is none, or none that can be read: it can be made again."""
    with suppress(OSError, ValueError, ValidationError):
        return Trial.model_validate(read_json(path))
    return None


def keep(path: Path, trial: Trial) -> None:
    """Keeps a trial."""
    write_atomically(path, canonical(trial.plain()))


def warning(trial: Trial) -> Alarm | None:
    """Returns what there is to say of a base model that cannot draw the taste; None where it can, or nobody knows."""
    if not trial.far:
        return None
    figures = {"n": len(trial.digests), "share": trial.typical["value"], "graded": trial.graded_n}
    return Alarm("base_far", {"base": trial.base, **figures})


def figures(trial: Trial) -> list[str]:
    """Returns the numbers of a trial as lines for people."""
    if not trial.graded_n:
        return [text("too little is graded to say whether {base} can draw this taste", base=trial.base)]
    lines = (
        (N_("like what you graded: {value} ({low} to {high}) of the trial images; usual is 95 %"), trial.typical),
        (
            N_("as near to a picture you liked as is usual: {value} ({low} to {high}); usual is 95 %"),
            trial.near_liked,
        ),
    )
    shares = [text(line, **{name: percent(share[name]) for name in ("value", "low", "high")}) for line, share in lines]
    distances = text(
        "distance to the nearest picture you liked: {distance:.2f}; of what you graded: {usual:.2f}",
        distance=trial.liked_distance,
        usual=trial.usual_distance,
    )
    return [*shares, distances]
