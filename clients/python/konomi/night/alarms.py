"""Why a night did what it did, as a name with numbers; the sentence is made from it in the language of its reader."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from konomi.i18n.catalogue import N_, speaking, text


@dataclass(frozen=True)
class Alarm:
    """One reason. `name` finds its sentence, `numbers` fills it."""

    name: str
    numbers: dict[str, float | str] = field(default_factory=dict)


class Ended(Exception):
    """The night is over: why, and whether a guard halted it."""

    def __init__(self, alarm: Alarm, *, halted: bool = False, night: bool = False) -> None:
        """Takes why, whether a guard halted it, and whether a stage that follows ends with it."""
        super().__init__(alarm.name)
        self.alarm = alarm
        self.halted = halted
        self.night = night


@dataclass(frozen=True)
class AlarmText:
    """The sentence of an alarm in English, and how its numbers are printed.

    Attributes:
        english: sentence with `{names}` of the alarm's numbers.
        percent: names of shares, printed as "65 %".
        decimals: names of numbers printed with digits after the point, and how many digits.
        counted: name of the number of things; `singular` replaces `english` where it is 1.
        singular: the sentence about one thing.
    """

    english: str
    percent: tuple[str, ...] = ()
    decimals: Mapping[str, int] = field(default_factory=dict)
    counted: str = ""
    singular: str = ""


NATS = {"nats": 1, "limit": 1}
"""Selection pressure and its limit have one digit."""

ALARMS: Mapping[str, AlarmText] = {
    # what became of a unit
    "better": AlarmText(
        N_("unit-{unit} was promoted: in the rater's eyes it won {win_rate} of the pairs against {parent}."),
        percent=("win_rate",),
    ),
    "taught": AlarmText(N_("unit-{unit} was promoted: it knows the words that were taught ({words}).")),
    "not_better": AlarmText(
        N_("{parent} stays: in the rater's eyes unit-{unit} won only {win_rate} of the pairs against it."),
        percent=("win_rate",),
    ),
    "unchanged": AlarmText(N_("unit-{unit} was not promoted: it makes exactly the images its parent makes.")),
    "far_from_liked": AlarmText(
        N_(
            "unit-{unit} is not served: only {share} of its images are as near to a picture you liked as what you "
            "graded usually is, so what the rater expects of them is a guess."
        ),
        percent=("share",),
    ),
    "not_surely_better": AlarmText(
        N_(
            "unit-{unit} is not served: the share of its images the rater expects to be SSR or better is not surely "
            "above the base model's."
        )
    ),
    "newer_rater": AlarmText(
        N_(
            "A newer rater version became active meanwhile: this night keeps the one it began with, and the next one "
            "uses the newer."
        )
    ),
    "base_far": AlarmText(
        N_(
            "The base model {base} cannot draw this taste: of {n} trial images at the night's prompts {share} are like "
            "the pictures you graded; of a base model that can it is most of them."
        ),
        percent=("share",),
    ),
    # what helps after a night that a guard halted, or that serves nothing
    "way_on_base": AlarmText(
        N_(
            "What helps: {base} draws nothing like the pictures you graded, so its units can only repeat the few you "
            "like. Choose a base model that draws such pictures (konomi models bases lists them, konomi night start "
            "--base takes one; on the page it is the choice Base model), and prompts that say what yours show."
        )
    ),
    "way_on_kinds": AlarmText(
        N_(
            "What helps: the unit repeats a few kinds of image. Grade more pictures of different kinds, give more and "
            "more varied prompts, or train for fewer steps (the setting steps of the night)."
        )
    ),
    "way_on_grades": AlarmText(
        N_(
            "What helps: the rater does not know such images well enough. Grade some that this night made (the view "
            "Grade shows them), let the rater learn from them, then start the next night."
        )
    ),
    # which checkpoint of a fit was kept
    "checkpoint_wins": AlarmText(
        N_(
            "Of unit-{unit}'s fit, step {kept} of {steps} was kept: in the rater's eyes its images won {win_rate} of "
            "the pairs against the base model's, those of the last step {last_win_rate}."
        ),
        percent=("win_rate", "last_win_rate"),
    ),
    "checkpoint_no_better": AlarmText(
        N_(
            "Of unit-{unit}'s fit, step {kept} of {steps} was kept: in the rater's eyes its images won {win_rate} of "
            "the pairs against the base model's, and those of the last step no more."
        ),
        percent=("win_rate",),
    ),
    "checkpoint_diverse": AlarmText(
        N_(
            "Of unit-{unit}'s fit, step {kept} of {steps} was kept: the images of the last step were too much alike, "
            "with {vendi} of the base model's diversity, where the least is {floor}. Of the checkpoints that stayed "
            "diverse it won the most pairs against the base model, {win_rate} in the rater's eyes."
        ),
        percent=("win_rate", "vendi", "floor"),
    ),
    "checkpoint_alike": AlarmText(
        N_(
            "Of unit-{unit}'s fit, step {kept} of {steps} was kept, the most diverse of its checkpoints: the images of "
            "all of them were too much alike; it had {vendi} of the base model's diversity, where the least is {floor}."
        ),
        percent=("vendi", "floor"),
    ),
    "checkpoint_last": AlarmText(
        N_(
            "Of unit-{unit}'s fit, the last step, {steps}, was kept: of its {count} checkpoints it won the most pairs "
            "against the base model, {win_rate} in the rater's eyes."
        ),
        percent=("win_rate",),
    ),
    # guards that halt a night
    "not_finite": AlarmText(N_("The night was halted: unit-{unit} makes images whose scores are not numbers.")),
    "other_rater": AlarmText(
        N_(
            "The night was halted at unit-{unit}: another rater version became active, so its figures cannot be "
            "compared."
        )
    ),
    "diversity": AlarmText(
        N_(
            "The night was halted: unit-{unit}'s images are too much alike: {ratio} of the base model's diversity is "
            "left, and the least is {floor}."
        ),
        percent=("ratio", "floor"),
    ),
    "exceedance": AlarmText(
        N_("The night was halted: {share} of unit-{unit}'s images are unlike anything known; the limit is {limit}."),
        percent=("share", "limit"),
    ),
    "realism": AlarmText(
        N_("The night was halted: {share} of unit-{unit}'s images are intact; the floor is {floor}."),
        percent=("share", "floor"),
    ),
    "doubt": AlarmText(
        N_(
            "The night was halted: the rater doubts unit-{unit}'s images {ratio} times as much as the base model's; "
            "the limit is {limit}."
        ),
        decimals={"ratio": 1, "limit": 1},
    ),
    "coverage": AlarmText(
        N_(
            "The night was halted: unit-{unit} reaches only {share} of the liked regions the base model reaches; the "
            "floor is {floor}."
        ),
        percent=("share", "floor"),
    ),
    "gap": AlarmText(
        N_(
            "The night was halted: for {runs} units in a row the rater's own score rose faster than what supports it, "
            "which is how a rater gets fooled."
        ),
        counted="runs",
        singular=N_(
            "The night was halted: the rater's own score rose faster than what supports it, which is how a rater gets "
            "fooled."
        ),
    ),
    "pressure": AlarmText(
        N_(
            "The night was halted before unit-{unit}: its selection would bring the pressure to {nats} nats; a person "
            "has to look after {limit}."
        ),
        decimals=NATS,
    ),
    "pressure_spent": AlarmText(
        N_(
            "The night was not begun: the rater's choices have spent {nats} of {limit} nats since you last looked; "
            "judge the last night's blind pairs (konomi night verdict), then start it again."
        ),
        decimals=NATS,
    ),
    "audit_gap": AlarmText(
        N_(
            "The night was not begun: in the last {runs} audits you chose the rater's unit in only {win_rate} of "
            "{pairs} blind pairs, though the rater scored it higher. Grade some images, fit the rater (konomi rater "
            "fit), then start it again."
        ),
        percent=("win_rate",),
        counted="runs",
        singular=N_(
            "The night was not begun: in the last audit you chose the rater's unit in only {win_rate} of {pairs} blind "
            "pairs, though the rater scored it higher. Grade some images, fit the rater (konomi rater fit), then start "
            "it again."
        ),
    ),
    "nothing_selected": AlarmText(N_("The night was halted before unit-{unit}: no image passed the selection.")),
    "base_share": AlarmText(
        N_(
            "The night was halted before unit-{unit}: only {share} of its training set are base images; the floor is "
            "{floor}."
        ),
        percent=("share", "floor"),
    ),
    "damaged": AlarmText(
        N_(
            "What the night {night} did cannot be read, for its night.json is damaged; konomi night resume makes it "
            "good by what its steps left."
        )
    ),
    "other_version": AlarmText(
        N_(
            "The night was halted: another version of konomi began it, whose steps are not this one's; what it "
            "promoted last is served. Start a new night, which builds on that."
        )
    ),
    "training_failed": AlarmText(N_("The night was halted: training unit-{unit} failed ({why}).")),
    # warnings
    "near_copies": AlarmText(
        N_(
            "{share} of unit-{unit}'s images almost repeat an image it was trained on; {chance} of the base model's "
            "do by chance."
        ),
        percent=("share", "chance"),
    ),
    "golden_diversity": AlarmText(
        N_("The training set of unit-{unit} has {ratio} of the base model's diversity."), percent=("ratio",)
    ),
    "largest_cell": AlarmText(
        N_("One kind of image makes up {share} of unit-{unit}'s training set."), percent=("share",)
    ),
    "confirm": AlarmText(
        N_(
            "{count} new images of the set wait for you: grade them; what you grade below SSR leaves the set before "
            "it grows again."
        ),
        counted="count",
        singular=N_(
            "One new image of the set waits for you: grade it; if you grade it below SSR, it leaves the set before "
            "the set grows again."
        ),
    ),
    "doubted": AlarmText(
        N_(
            "{count} images left the set with them, ungraded: two or more that came in the same turn were below SSR. "
            "What you grade SSR or better stays."
        ),
        counted="count",
        singular=N_(
            "One image left the set with them, ungraded: two or more that came in the same turn were below SSR. "
            "What you grade SSR or better stays."
        ),
    ),
    "removed": AlarmText(
        N_("{count} images left the set, because you graded them below SSR."),
        counted="count",
        singular=N_("One image left the set, because you graded it below SSR."),
    ),
    # ends of a night
    "units": AlarmText(
        N_("The night made all {units} units it was asked for."),
        counted="units",
        singular=N_("The night made the one unit it was asked for."),
    ),
    "patience": AlarmText(
        N_("The night ended early: in the rater's eyes {runs} units in a row did not beat {parent}."),
        counted="runs",
        singular=N_("The night ended early: in the rater's eyes its last unit did not beat {parent}."),
    ),
    "budget_images": AlarmText(N_("The night ended: its budget of {budget} images is spent.")),
    "budget_hours": AlarmText(N_("The night ended: its budget of {budget} h is spent.")),
    "budget_gpu_hours": AlarmText(N_("The night ended: its budget of {budget} h on the accelerator is spent.")),
    "budget_disk": AlarmText(N_("The night ended: its budget of {budget} GiB of disk is spent.")),
    "too_few_ur": AlarmText(
        N_("The night ended: golden needs {minimum} images graded UR and has {n}; grade some more.")
    ),
    "golden_flat": AlarmText(
        N_("The night ended: the golden set has {n} images, hardly more than the {before} of the last fit.")
    ),
    "longtail_flat": AlarmText(
        N_("The night ended: its images now cover {coverage} of the regions, hardly more than the {before} before."),
        percent=("coverage", "before"),
    ),
    "unseen_likes": AlarmText(
        N_("The night ended: by {n} liked showings only {share} of your likes are still to be found."),
        percent=("share",),
    ),
    "no_islands": AlarmText(
        N_(
            "The night ended: {labels} labels brought no island beside the {islands} found; grade a slate (konomi "
            "label --slate) to go on."
        )
    ),
    "target": AlarmText(N_("The night ended: the set has grown to the {size} images asked for.")),
    "acceptance": AlarmText(
        N_(
            "The night ended: only {share} of the candidates passed the gate, fewer than {floor}; the set has {size} "
            "images."
        ),
        percent=("share", "floor"),
    ),
    "drift": AlarmText(
        N_(
            "The night ended: for {runs} turns in a row the candidates moved away from the originals (mean cosine "
            "{cosine}); the set has {size} images."
        ),
        decimals={"cosine": 2},
        counted="runs",
        singular=N_(
            "The night ended: the candidates moved away from the originals (mean cosine {cosine}); the set has {size} "
            "images."
        ),
    ),
    "depth_cap": AlarmText(
        N_(
            "The night ended: every image the set grew is {depth} generations from the originals already; it has "
            "{size} images."
        ),
        counted="depth",
        singular=N_(
            "The night ended: every image the set grew is one generation from the originals already; it has {size} "
            "images."
        ),
    ),
    "stopped": AlarmText(
        N_("The night was asked to stop; the same command, or konomi night resume, goes on from here.")
    ),
    "abandoned": AlarmText(N_("The night was given up.")),
}
"""Name of an alarm to its sentence."""

WORK: Mapping[str, str] = {
    "services": N_("starting the services"),
    "reference": N_("making the images the truth rests on"),
    "pool": N_("making the seed batch"),
    "label": N_("the person grades"),
    "night": N_("the night"),
    "truth": N_("asking the person for the truth"),
    "plan": N_("planning"),
    "draft": N_("drawing drafts"),
    "rate": N_("rating drafts"),
    "generate": N_("generating images"),
    "observe": N_("looking at what is known"),
    "select": N_("selecting"),
    "train": N_("training"),
    "grow": N_("letting the set grow"),
    "checkpoints": N_("looking at the checkpoints"),
    "probe": N_("drawing by a checkpoint"),
    "stop": N_("choosing a checkpoint"),
    "evaluate": N_("evaluating"),
    "score": N_("predicting grades"),
    "judge": N_("judging"),
    "serve": N_("promoting"),
}
"""Kind of step to what a person reads while it runs."""

FATES: Mapping[str, str] = {
    "selected": N_("selected"),
    "base": N_("image of the base model"),
    "passed_over": N_("not a candidate"),
    "duplicate": N_("too like one already kept"),
    "untypical": N_("unlike anything known"),
    "unknown": N_("the rater does not know its kind"),
    "evidence": N_("too little evidence for the promise asked for"),
    "near_copy": N_("almost a copy of an image it learnt from"),
    "drifted": N_("moved too far from the originals"),
    "surplus": N_("passed, but the set at most doubles"),
    "quota": N_("enough like this already"),
    "lower_bound": N_("not good enough, with the doubt subtracted"),
    "grade": N_("graded too low by the owner"),
    "avoided": N_("turned away from"),
    "graded_n": N_("turned away from: graded N"),
    "graded_r": N_("turned away from: graded R"),
    "upper_bound": N_("turned away from: the worst of its prompt, even with the doubt added"),
    "source": N_("source not allowed"),
}
"""What became of an image at a selection; a name that is not here reads "other"."""

BOUNDS = ("floor", "limit")
"""Numbers of an alarm that the others are held against."""
MOST_DIGITS = 6


def sentence(alarm: Alarm | Mapping[str, Any], language: str = "en") -> str:
    """Returns the one plain sentence of an alarm.

    Args:
        alarm: the alarm, or its "name", "numbers" and English "sentence" as a night's record keeps them. A name this
            version does not know is told by the recorded sentence.
        language: of the reader.
    """
    if not isinstance(alarm, Alarm):
        if alarm["name"] not in ALARMS and alarm.get("sentence"):
            return str(alarm["sentence"])
        alarm = Alarm(str(alarm["name"]), dict(alarm["numbers"]))
    wording = ALARMS[alarm.name]
    with speaking(language):
        single = wording.counted and alarm.numbers[wording.counted] == 1
        words = text(wording.singular if single else wording.english, **_printed(alarm.numbers, wording))
    return words if words.startswith("unit-") else words[0].upper() + words[1:]


def work(step: str, language: str = "en") -> str:
    """Returns what a step does, for example "unit-1 · training" for "unit-1/train"."""
    unit, _, kind = step.rpartition("/")
    with speaking(language):
        doing = text(WORK.get(kind.split("-")[0], kind))
    return f"{unit} · {doing}" if unit else doing


def fate_of(name: str) -> str:
    """Returns what became of an image at a selection, by its recorded name, in the language in use."""
    return text(FATES.get(name, N_("other")))


def unit_name(unit: int) -> str:
    """Returns what a unit is called in the middle of a sentence, in the language in use; 0 is the base model."""
    return f"unit-{unit}" if unit else text("the base model")


def percent(share: float, digits: int = 0) -> str:
    """Returns a share as every text of konomi prints it: "65 %"."""
    return f"{100 * share:.{digits}f} %"


def rounded_away_from_bound(value: float, bound: float, digits: int, *, share: bool = False) -> str:
    """Returns a number printed so that it reads like its bound only where it is its bound.

    A night halted at 64.6 % must not say that it kept "65 %" while the floor is "65 %": digits are added, up to six,
    until the two read apart.

    Args:
        value: the number.
        bound: what it is held against.
        digits: after the point, where they suffice.
        share: print both as percent.
    """
    shown = percent if share else _decimal
    for more in range(digits, MOST_DIGITS + 1):
        if value != bound and shown(value, more) != shown(bound, more):
            return shown(value, more)
    return shown(value, digits)


def _decimal(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _printed(numbers: Mapping[str, float | str], wording: AlarmText) -> dict[str, str]:
    """Returns the numbers of an alarm as they stand in its sentence."""
    bound = next((value for name in BOUNDS if isinstance(value := numbers.get(name), int | float)), None)
    return {name: _number(name, value, wording, bound) for name, value in numbers.items()}


def _number(name: str, value: float | str, wording: AlarmText, bound: float | None) -> str:
    if isinstance(value, str):
        return value
    if name in ("unit", "parent"):
        return unit_name(int(value)) if name == "parent" else f"{value:.0f}"
    if name in wording.percent or name in wording.decimals:
        digits, share = wording.decimals.get(name, 0), name in wording.percent
        return rounded_away_from_bound(value, value if bound is None else bound, digits, share=share)
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"
