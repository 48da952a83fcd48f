"""What a night has done so far: its state, the record of each unit, what was chosen, how it scored, why it ended."""

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import Field

from konomi.i18n.catalogue import Translatable, speaking, text
from konomi.night.alarms import Alarm, sentence
from konomi.night.metrics import Estimate, UnitNumbers
from konomi.night.records.fit import CheckpointChoice, Model
from konomi.night.records.record import Record


class StateName(StrEnum):
    """How far a night is."""

    NEW = "new"
    RUNNING = "running"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    HALTED = "halted"
    ABANDONED = "abandoned"
    DAMAGED = "damaged"


AnyState = Annotated[StateName | str, Field(union_mode="left_to_right")]
"""A state; one of another version is kept as it was written, and counts as not over."""

ENDED = (StateName.FINISHED, StateName.HALTED)
"""States after which a night is over; every other state but an abandoned night's can be resumed."""


class Reason(Record):
    """An alarm as it is recorded: its name and numbers, its English sentence, and the system of a stage it ended.

    Attributes:
        english: of the error that interrupted a night, the sentence before its numbers are filled in.
    """

    name: str
    numbers: dict[str, int | float | str] = Field(default_factory=dict)
    sentence: str = ""
    english: str = ""
    system: str = ""

    @classmethod
    def of(cls, alarm: Alarm, **more: str) -> Self:
        """Returns the record of an alarm."""
        return cls(name=alarm.name, numbers=dict(alarm.numbers), sentence=sentence(alarm), **more)

    @classmethod
    def of_error(cls, name: str, message: str) -> Self:
        """Returns the record of an error that interrupted a night."""
        if not isinstance(message, Translatable):
            return cls(name=name, numbers={}, sentence=message)
        numbers = {
            key: value if isinstance(value, int | float) else str(value) for key, value in message.values.items()
        }
        return cls(name=name, numbers=numbers, sentence=str(message), english=message.english)

    @property
    def alarm(self) -> Alarm:
        """The alarm it records."""
        return Alarm(self.name, dict(self.numbers))

    def told(self, language: str) -> str:
        """Returns its sentence in a language; the recorded English of what this version does not know how to tell."""
        try:
            if self.english:
                with speaking(language):
                    return text(self.english, **self.numbers)
            return sentence({"name": self.name, "numbers": self.numbers, "sentence": self.sentence}, language)
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError):  # another version's, or damaged
            with speaking(language):
                return self.sentence or text("What was recorded here is of another version of konomi, or damaged.")


class RaterAlarm(Record):
    """One alarm of the rater: its name, and the numbers and words its sentence is filled with."""

    name: str = ""
    numbers: dict[str, float] = Field(default_factory=dict)
    words: dict[str, str] = Field(default_factory=dict)


class RaterReport(Record):
    """What the rater said of itself: its version, its alarms, and the nats it spent since a person last audited it."""

    version: str = ""
    alarms: tuple[str, ...] = ()
    alarm_details: tuple[RaterAlarm, ...] = ()
    nats: float = 0.0
    best_of_n_nats: float = 0.0


class Observation(Record):
    """What a system looked at before it draws; its fields are the system's own."""


class Audit(Record):
    """A finished blind audit of a night.

    Attributes:
        night: its id.
        unit: the unit that was judged.
        rise: how much higher the rater scored it than what was served before, in unit 0's standard deviations.
        win_rate: share of the `pairs` in which the person chose it, a tie half.
    """

    night: str
    unit: int
    rise: float
    win_rate: float
    pairs: float


class Served(Record):
    """The unit that is served, and its model."""

    unit: int = 0
    model: str = "base"


class Plan(Record):
    """Where a night begins.

    Attributes:
        start: the model that is served, None for the base model.
        first: number of the first unit it makes.
        withdrawn: ids of models trained on images revoked since.
        drafts: whether pools are drawn as drafts first.
        places: how many drew at the same time when it began; as many times `chunk` images make a step.
        before: the unit in use so far, where the night cannot begin from it: it is of another base model.
    """

    start: Model | None = None
    before: Served | None = None
    first: int = 1
    withdrawn: tuple[str, ...] = ()
    rater_version: str = ""
    rater: RaterReport | None = None
    audits: tuple[Audit, ...] = ()
    drafts: bool = False
    places: int = 1


class Images(Record):
    """Images a step made: their digests, how many, and how many of them the rater refused.

    Attributes:
        drafts: the drafts they were drawn again from, in the same order.
    """

    digests: tuple[str, ...] = ()
    refused: int = 0
    images: int = 0
    drafts: tuple[str, ...] = ()


class DraftRating(Record):
    """Which drafts of a pool are drawn again: their places, out of how many, and the selection pressure of it."""

    places: tuple[int, ...] = ()
    considered: int = 0
    nats: float = 0.0


class Rejection(Record):
    """How many images a reason of rejection met, with some of their digests."""

    count: int = 0
    examples: tuple[str, ...] = ()


class StrangeImage(Record):
    """One of the most novel images of a night, and what became of it."""

    digest: str
    novelty: float
    fate: str


class Selection(Record):
    """A training set as it was chosen, and the figures of the choice.

    Attributes:
        manifest: digest of the frozen manifest.
        n: images chosen by taste.
        base_share: share of the base model's images in the set, 0..1.
        considered: images that could be chosen.
        kept_share: share of them that was chosen, 0..1.
        nats: selection pressure it spent.
        best_of_n_nats: the same as best-of-n counts it.
        vendi: Vendi score of the set.
        largest_cell_share: share of the largest cell, 0..1.
        selected: digests of some chosen images.
        rejected: by reason.
        avoided: what it turns away from, by reason; `avoided_share` of those considered, `avoided_nats` what it spent.
        sources: how many came from where.
        end: why the system ends before this fit.
        coverage: share of the regions covered when the unit began, of a system that observes them.
        islands: liked regions found by then; earlier versions recorded the regions themselves.
        unseen_likes: chance that the next liked image is of a region not liked before, 0..1.
        set: digest of a growing set after the unit; `size` its members; `taken` what came in; `confirm` what the
            owner is asked about; `passed`, `low`, `high`, `mean_cosine` and `standard_error` are the gate's.
    """

    manifest: str = ""
    n: int = 0
    base_share: float = 0.0
    considered: int = 0
    kept_share: float = 1.0
    nats: float = 0.0
    best_of_n_nats: float = 0.0
    vendi: float = 0.0
    largest_cell_share: float = 0.0
    rater_version: str = ""
    selected: tuple[str, ...] = ()
    rejected: dict[str, Rejection] = Field(default_factory=dict)
    avoided: dict[str, Rejection] = Field(default_factory=dict)
    avoided_share: float = 0.0
    avoided_nats: float = 0.0
    strangest: tuple[StrangeImage, ...] = ()
    sources: dict[str, int] = Field(default_factory=dict)
    rater: RaterReport | None = None
    end: Reason | None = None
    coverage: float | None = None
    islands: int | float | list[Any] | dict[str, Any] | None = None
    unseen_likes: float | None = None
    set: str = ""
    size: int = 0
    taken: tuple[str, ...] = ()
    cosines: tuple[float, ...] = ()
    confirm: tuple[str, ...] = ()
    passed: int = 0
    low: float = 0.0
    high: float = 0.0
    mean_cosine: float = 0.0
    standard_error: float = 0.0
    deepest: int = 0
    near_copy_share: float = 0.0
    seed_similarity: float = 1.0


class GradedLikeness(Record):
    """How a set lies to the graded images of the taste, whoever made those; usual is what these have themselves.

    Attributes:
        graded_n: graded images it was compared with.
        typical: share within the usual distance of graded images, 0..1.
        liked_n: images graded SSR or better among them.
        near_liked: share as near to its nearest liked image as graded images usually are to theirs, 0..1.
        liked_distance: median cosine distance to the nearest liked image; `usual_distance` that of the graded images.
    """

    graded_n: int = 0
    typical: float = 0.0
    liked_n: int = 0
    near_liked: float = 0.0
    liked_distance: float = 0.0
    usual_distance: float = 0.0


class Measures(Record):
    """How far a unit's images are from unit 0's and from what it was trained on; nothing where nobody measured."""

    n: int = 0
    reference_n: int = 0
    enough: bool = True
    kid: Estimate | None = None
    cmmd: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    liked_cells: int = 0
    likes_covered: float = 0.0
    likes_covered_reference: float = 0.0
    near_copies: float = 0.0
    near_copies_reference: float = 0.0
    largest_cell_share: float | None = None
    cell_entropy: float | None = None
    graded: GradedLikeness | None = None


class Scores(Record):
    """How a unit's evaluation images score; figures carry their 95 % interval.

    Attributes:
        n: images.
        finite: every score is a number.
        utility: mean of the rater's utility; `spread` its standard deviation.
        lower_bound: mean of the lower bounds.
        doubt: mean standard deviation of a score.
        p_ssr: expected share of SSR or better; `p_ur` of UR.
        unknown: share unlike anything graded, 0..1.
        typical_share: share within the typical distances, 0..1.
        vendi: Vendi score; `vendi_quarter` its mean over disjoint quarters.
        intact: share that is not broken, where a reader of that was at hand.
        bounds: the lower bound of every image, for paired comparisons; not kept with a unit.
        p_ssrs: the probability of SSR or better of every image, likewise; none in a night begun by an earlier version.
    """

    n: int = 0
    finite: bool = True
    rater_version: str = ""
    utility: Estimate = Field(default_factory=dict)
    spread: float = 0.0
    lower_bound: Estimate = Field(default_factory=dict)
    doubt: float = 0.0
    p_ssr: Estimate = Field(default_factory=dict)
    p_ur: Estimate = Field(default_factory=dict)
    unknown: float = 0.0
    typical_share: float = 1.0
    vendi: Estimate = Field(default_factory=dict)
    vendi_quarter: float = 0.0
    novelty: Estimate | None = None
    intact: Estimate | None = None
    measures: Measures = Field(default_factory=Measures)
    bounds: tuple[float, ...] = ()
    p_ssrs: tuple[float, ...] = ()


class Judgement(Record):
    """What the guards decided about a unit: "promote", "keep" or "halt", why, and what is served from now on."""

    decision: str
    alarm: Reason
    served: int
    warnings: tuple[Reason, ...] = ()
    numbers: UnitNumbers
    wins: Estimate = Field(default_factory=dict)


class UnitRecord(Record):
    """One unit: begun, chosen for, fitted, evaluated and judged, as far as it came.

    Attributes:
        unit: its number; 0 is the base model.
        system: name of the system that made it; "" for a unit that was there when the night began.
        parent: number of the unit served when it began.
        stage: place of its stage in the night, from 0.
        training: what the trainer settled for its fit, and which of its `checkpoints` was kept; see Fit.
        checkpoints: see `training`.
        decision: "start", "promote", "keep" or "halt"; "" while it is under way.
        evaluation: digests of its evaluation images.
        bounds: lower bounds of these; held while the night runs, not recorded.
        p_ssrs: their probabilities of SSR or better, likewise.
        drafts: drafts of its pool; 0 where all of it was drawn in full.
        draft_nats: selection pressure of the choice among them, part of the selection's.
        compared: what the guards compare by; held while the night runs, recorded as `numbers` once it is judged.
    """

    unit: int
    system: str = ""
    parent: int | None = None
    stage: int | None = None
    model: str = ""
    adapter: str = ""
    tokens: tuple[str, ...] = ()
    loss: float = 0.0
    training: dict[str, float | str] = Field(default_factory=dict)
    checkpoints: CheckpointChoice | None = None
    decision: str = ""
    promoted: bool = False
    reason: Reason | None = None
    warnings: tuple[Reason, ...] = ()
    wins: Estimate = Field(default_factory=dict)
    wins_base: Estimate = Field(default_factory=dict)
    numbers: UnitNumbers | None = None
    selection: Selection | None = None
    scores: Scores | None = None
    evaluation: tuple[str, ...] = ()
    seconds: float = 0.0
    images: int = 0
    refused: int = 0
    drafts: int = 0
    draft_nats: float = 0.0
    bounds: tuple[float, ...] = Field((), exclude=True)
    p_ssrs: tuple[float, ...] = Field((), exclude=True)
    compared: UnitNumbers | None = Field(None, exclude=True)

    @property
    def judged(self) -> bool:
        """Whether this night made it and decided about it."""
        return self.stage is not None and bool(self.decision)

    @property
    def made(self) -> Model:
        """Its model, as the generator needs it."""
        return Model(model=self.model, unit=self.unit, adapter=self.adapter, tokens=self.tokens)


class StepRecord(Record):
    """A finished step: its name, for example "unit-1/train", the seconds it took and the images it made."""

    name: str
    seconds: float = 0.0
    images: int = 0


class NightState(Record):
    """What a night has done so far; the file `night.json` holds it.

    Attributes:
        reason: why it ended, where it has.
        served: what is served now.
        before: what was in use before the night, where that is not what it began from.
        units: those met so far, unit 0 first.
        steps: finished steps, in order.
        ended: stages that ended before their last unit, and why.
        seconds: working time of its steps; `gpu_seconds` of those on the accelerator.
        disk_bytes: bytes it added to the home's artifacts, which took `stored_before` when it began.
        collected: rejected candidates of earlier nights whose pixels it let go because the disk was nearly full.
        nats: selection pressure spent since a person last audited.
        withdrawn: ids of models trained on images revoked since.
        audits: what people said of earlier nights of this rater version.
        sequence: number of the night in its home, which no clock changes; 0 where nobody numbered it.
        began: seconds since 1970 by the clock of that hour, for people; 0 where nobody noted it.
    """

    night: str = ""
    sequence: int = 0
    began: float = 0.0
    system: str = ""
    taste: str = ""
    seed: int = 0
    state: AnyState = StateName.NEW
    reason: Reason | None = None
    served: Served | None = None
    before: Served | None = None
    units: tuple[UnitRecord, ...] = ()
    steps: tuple[StepRecord, ...] = ()
    ended: tuple[Reason, ...] = ()
    seconds: float = 0.0
    images: int = 0
    gpu_seconds: float = 0.0
    disk_bytes: int = 0
    stored_before: int | None = None
    collected: int = 0
    nats: float = 0.0
    rater_version: str = ""
    rater: RaterReport | None = None
    withdrawn: tuple[str, ...] = ()
    audits: tuple[Audit, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether the night is over and may be judged."""
        return self.state in (*ENDED, StateName.ABANDONED)

    def unit(self, number: int) -> UnitRecord:
        """Returns the record of a unit.

        Raises:
            KeyError: the night has not met it.
        """
        for record in self.units:
            if record.unit == number:
                return record
        raise KeyError(number)

    def with_unit(self, record: UnitRecord) -> Self:
        """Returns the state with a unit's record in place of the one before, or after the others."""
        if all(unit.unit != record.unit for unit in self.units):
            return self.changed(units=(*self.units, record))
        return self.changed(units=tuple(record if unit.unit == record.unit else unit for unit in self.units))
