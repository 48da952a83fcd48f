"""The steps of a night: each returns a record that JSON can hold and may be run again without harm."""

import math
import statistics
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from konomi import files
from konomi.night import guards
from konomi.night import metrics as intervals
from konomi.night.draws import Draw, Turn, UnitContext, base_draws, evaluation_draws, image_seed
from konomi.night.engine import drafting
from konomi.night.engine.feasibility import check_rater
from konomi.night.gateway import measures as unit_measures
from konomi.night.gateway.drawing import Beat
from konomi.night.gateway.services import SCORE_BATCH, Elites, NightServices, TrainingRun
from konomi.night.metrics import UnitNumbers
from konomi.night.records import request as lineage
from konomi.night.records.fit import Fit, Model
from konomi.night.records.record import Record
from konomi.night.records.state import (
    Audit,
    DraftRating,
    Images,
    Judgement,
    Measures,
    Plan,
    Reason,
    Scores,
    Selection,
    Served,
    UnitRecord,
)
from konomi.night.systems import registry

GROUPS = 4
"""Disjoint groups whose spread gives the interval of the Vendi score."""


IntactReader = Callable[[Sequence[str]], float]
"""Digests of images → share of them that is not broken, 0..1."""


class Returned(Record):
    """The unit served after a step."""

    served: int


class NightSteps:
    """What a night does, one method a step; the loop decides which comes next."""

    def __init__(
        self,
        gateway: NightServices,
        request: lineage.NightRequest,
        beat: Beat,
        audits: Callable[[str], list[Audit]] = lambda version: [],
        intact: IntactReader | None = None,
    ) -> None:
        """Joins the parts.

        Args:
            gateway: the services.
            request: what was asked for.
            beat: shows progress.
            audits: rater version → the finished audits of its choices.
            intact: reads how many images are not broken; None where nothing at hand can.
        """
        self.gateway = gateway
        self.audits, self.intact = audits, intact
        self.request = request
        settings = registry.night_settings()
        self.settings = settings(**settings.completed(request.settings))
        self.guards = guards.GuardSettings(**request.guards)
        self.beat, self.places = beat, 1

    def keep_rater(self, version: str) -> None:
        """Lets one rater version score the whole night, whichever becomes active meanwhile."""
        self.gateway.version = version

    def plan(self) -> Plan:
        """Looks at the taste and says where the night begins.

        Raises:
            FailedPrecondition: the taste has no rater, or drafts are asked for that the base model cannot draw.
        """
        state = self.gateway.state()
        check_rater(self.request.taste, state)
        models, withdrawn = self.gateway.models(), self.gateway.withdrawn()
        usable = self.gateway.models_on(self.settings.base_model) - set(withdrawn)
        start = next((model for model in models if model.current and model.model in usable), None)
        first = 1 + max((model.unit for model in models), default=0)
        if start and not start.unit:  # a model with a name of its own, for example taught concepts, counts as one
            start, first = start.changed(unit=first), first + 1
        known = [model for model in models if model.model not in withdrawn]
        other = next((model for model in known if model.current and model.model not in usable), None)
        plan = Plan(
            start=start,
            before=None if other is None else Served(unit=other.unit, model=other.model),
            first=first,
            withdrawn=tuple(withdrawn),
            rater_version=state.rater_version,
            rater=self.gateway.rater(),
            audits=tuple(self.audits(state.rater_version)),
        )
        if (places := self.gateway.places()) > 1:
            plan = plan.changed(places=places)
        return plan.changed(drafts=True) if drafting.drafts_wanted(self.gateway, self.settings) else plan

    def observe(self, cells: int) -> Elites:
        """Looks at the best image known of every one of so many regions, for a system that draws from these."""
        return self.gateway.elites(cells, image_seed(self.request.seed, "cells", 0))

    def generate(self, context: UnitContext, served: Model | None, first: int, last: int) -> Images:
        """Makes images `first` to `last` - 1 of a unit's pool and makes them known to the taste.

        Args:
            context: the unit.
            served: the model that makes them, None for the base model.
            first: first image.
            last: one past the last.
        """
        turn = self.turn(context, served_is_base=served is None)
        chunk = registry.find(context.system).draws(turn)[first:last]
        made, refused = list[str](), 0
        for (origin, _), draws in groupby(chunk, key=lambda draw: (draw.origin, draw.rare)):
            digests, not_taken = self._known(list(draws), served if origin == "served" else None)
            made, refused = made + digests, refused + not_taken
        return Images(digests=tuple(made), refused=refused, images=len(made))

    def _known(self, draws: Sequence[Draw], model: Model | None) -> tuple[list[str], int]:
        """Draws images and makes them known, at the same time where others than this machine draw."""
        return self.gateway.generate_known(draws, model, self.settings, self.beat, meanwhile=self.places > 1)

    def draft(self, context: UnitContext, served: Model | None, first: int, last: int) -> Images:
        """Makes drafts of a unit's pool, which are only rated."""
        return drafting.draw_drafts(self, context, served, first, last)

    def rate(self, context: UnitContext, served: Model | None, digests: Sequence[str]) -> DraftRating:
        """Rates the drafts of a unit's pool and says which are drawn again."""
        return drafting.rate_drafts(self, context, served, digests)

    def redraw(
        self, context: UnitContext, served: Model | None, places: Sequence[int], drafted: Sequence[str]
    ) -> Images:
        """Draws some of a unit's pool in full and makes them known to the taste."""
        return drafting.draw_again(self, context, served, places, drafted)

    def select(self, context: UnitContext, earlier: Sequence[Selection], made: int = 0) -> Selection:
        """Scores the whole pool anew, selects the training set and freezes its manifest.

        Args:
            context: the unit.
            earlier: what this method returned for this system's units before.
            made: images of the base model made for its share since the pool was: they ask for no larger choice.

        Returns:
            What the services say of the set, what the rater says of itself, and why the system ends here.
        """
        system = registry.find(context.system)
        certificates = system.certificates(self.settings)
        vouched = self.gateway.certified(certificates) if certificates else 0
        count = self.gateway.count(system.grades, system.sources) - (0 if system.grades else made)
        turn = self.turn(context, pool=count + vouched)
        seed = image_seed(self.request.seed, f"select-{turn.unit}", 0)
        purpose = self.request.purpose(turn.unit)  # chosen again, it takes the first one's place
        asked = {**system.selection(turn), "purpose": purpose}
        if system.rater_chooses and self.settings.near_copy_cosine < 1:
            sources = unit_measures.earlier_sources(self.gateway.client, self.request.taste)
            asked |= {"near_copy_cosine": self.settings.near_copy_cosine, "training_sources": sources}
        chosen = self.gateway.select(asked, seed)
        end = system.verdict(turn, chosen, earlier)
        figures = {name: value for name, value in turn.seen.items() if isinstance(value, float)}
        more = {
            "nats": chosen.nats if system.rater_chooses else chosen.avoided_nats,
            "end": Reason(name=end.name, numbers=dict(end.numbers)) if end else None,
            "rater": self.gateway.rater(),
        }
        return chosen.merged(Selection(**{**figures, **more}))

    def lacking(self, chosen: Selection) -> int:
        """Returns how many images of the base model a training set lacks: as many as a guard would halt it for."""
        share = self.settings.base_share
        if "base_share" in self.guards.off or chosen.n < 1 or chosen.end is not None:
            return 0
        if chosen.base_share >= share - guards.WHOLE_IMAGES:
            return 0
        drawn = round(chosen.base_share / (1 - chosen.base_share) * chosen.n)
        return max(0, math.ceil(share / (1 - share) * chosen.n) - drawn)

    def generate_base(self, context: UnitContext, first: int, last: int) -> Images:
        """Makes images `first` to `last` - 1 of the base model's own, for its share of a unit's training set."""
        draws = base_draws(self.request.seed, context.unit, self.request.prompts, first, last)
        digests, refused = self._known(draws, None)
        return Images(digests=tuple(digests), refused=refused, images=len(digests))

    def train(self, context: UnitContext, parent: Model | None, chosen: Selection) -> Fit:
        """Fits an adapter from the base model on the frozen manifest."""
        system = registry.find(context.system)
        hyper = system.hyper_parameters(self.settings)
        if chosen.avoided:
            hyper["contrast_beta"] = self.settings.contrast_beta
        run = self.training(context.unit, parent, chosen)
        publish = system.settle is not None and system.probes(self.settings) > 0
        return self.gateway.train(run, hyper, self.beat, self.settings.method, publish=publish)

    def training(self, unit: int, parent: Model | None, chosen: Selection) -> TrainingRun:
        """Returns what a training run of a unit is asked for, less its method and numbers."""
        return TrainingRun(
            manifest_digest=chosen.manifest,
            base_model=self.settings.base_model,
            seed=image_seed(self.request.seed, f"train-{unit}", 0),
            request_id=files.derived_id(self.request.id, unit, "train"),
            display_name=f"unit-{unit}",
            parents=[parent.model] if parent else [],
            rater_version=chosen.rater_version,
        )

    def turn(self, context: UnitContext, **fields: Any) -> Turn:
        """Returns the turn of the loop as a system sees it, with more of its fields where they are at hand."""
        return Turn(
            seed=self.request.seed,
            unit=context.unit,
            position=context.position,
            prompts=self.request.prompts,
            settings=self.settings,
            budget_nats=self.guards.pressure_nats,
            spent_nats=context.spent,
            seen=context.seen,
            **fields,
        )

    def evaluate(self, model: Model | None, first: int, last: int) -> Images:
        """Makes evaluation images `first` to `last` - 1: the same prompts and seeds for every unit."""
        fixed = evaluation_draws(self.request.seed, self.request.evaluation_prompts, self.settings)
        digests = self.gateway.generate(fixed[first:last], model, self.settings, self.beat)
        return Images(digests=tuple(digests), images=len(digests))

    def score(self, digests: Sequence[str], reference: Sequence[str] = (), manifest: str = "") -> Scores:
        """Scores a unit's evaluation images: figures with intervals, and the lower bounds for paired comparisons.

        Args:
            digests: the images.
            reference: those of unit 0; none for unit 0 itself.
            manifest: what the unit was trained on; none for the base model.
        """
        scores = self.gateway.score(digests)
        looked = digests[:SCORE_BATCH]
        whole = self.gateway.diversity(looked)
        size = max(2, len(looked) // GROUPS)
        parts = [looked[start : start + size] for start in range(0, size * GROUPS, size)]
        groups = [self.gateway.diversity(part).vendi for part in parts if len(part) == size]
        finite = all(math.isfinite(score.utility) and math.isfinite(score.std) for score in scores)
        client, taste = self.gateway.client, self.request.taste
        sources = unit_measures.sources_of(client, manifest)
        numbers = scores if finite else []
        return Scores(
            n=len(scores),
            finite=finite,
            rater_version=scores[0].rater_version,
            utility=intervals.mean([score.utility for score in numbers]),
            spread=statistics.pstdev([score.utility for score in numbers]) if finite else 0.0,
            lower_bound=intervals.mean([score.lower_bound for score in numbers]),
            doubt=statistics.fmean(score.std for score in scores) if finite else 0.0,
            p_ssr=intervals.mean([score.p_ssr for score in numbers]),
            p_ur=intervals.mean([score.p_ur for score in numbers]),
            unknown=sum(score.unknown for score in scores) / len(scores),
            typical_share=whole.typical_share,
            vendi=intervals.from_groups(whole.vendi, groups, len(looked)),
            vendi_quarter=statistics.fmean(groups),
            novelty=intervals.mean([score.novelty for score in numbers]),
            measures=unit_measures.measure(client, taste, digests, reference, sources) if finite else Measures(),
            bounds=tuple(round(score.lower_bound, 6) if finite else 0.0 for score in scores),
            p_ssrs=tuple(round(score.p_ssr, 6) for score in numbers),
            **self._intact(digests),
        )

    def _intact(self, digests: Sequence[str]) -> dict[str, intervals.Estimate]:
        """Returns the field of Scores that says how many images are not broken; none where nothing reads that."""
        if self.intact is None:
            return {}
        return {"intact": intervals.share(self.intact(digests) * len(digests), len(digests))}

    def judge(
        self,
        history: Sequence[UnitNumbers],
        served: int,
        candidate: UnitRecord,
        parent: UnitRecord,
        base: UnitRecord,
        spared: Sequence[str] = (),
    ) -> Judgement:
        """Compares the candidate with its parent pair by pair and lets the guards decide.

        Args:
            history: numbers of unit 0 and of every unit judged before.
            served: number of the unit served now.
            candidate: the unit to judge, scored.
            parent: the unit served now.
            base: unit 0.
            spared: guards this unit's system leaves out.
        """
        numbers = compare(candidate, parent, base)
        limits = self.guards.model_copy(update={"off": (*self.guards.off, *spared)})
        decision = guards.judge([*history, numbers], served, self.settings.promote_win_rate, limits)
        return Judgement(
            decision=decision.decision,
            alarm=Reason(name=decision.alarm.name, numbers=dict(decision.alarm.numbers)),
            served=decision.served,
            warnings=tuple(Reason(name=alarm.name, numbers=dict(alarm.numbers)) for alarm in decision.warnings),
            numbers=numbers.model_copy(update={"promoted": decision.decision == "promote"}),
            wins=intervals.paired_wins(candidate.bounds, parent.bounds),
        )

    def serve(self, verdict: Judgement, candidate: UnitRecord, undone: int) -> Returned:
        """Promotes the candidate, or takes back as many promotions as the verdict undoes."""
        if verdict.decision == "promote":
            numbers, unit = verdict.numbers, candidate.unit
            metrics = {name: float(getattr(numbers, name)) for name in ("vendi", "win_rate", "exceedance", "doubt")}
            self.gateway.promote(candidate.model, metrics, files.derived_id(self.request.id, unit, "promote"))
        for turn in range(undone):
            self.gateway.rollback(files.derived_id(self.request.id, candidate.unit, "rollback", turn))
        return Returned(served=verdict.served)


def vendi_at(scores: Scores, n: float) -> float:
    """Returns the Vendi score a unit's images would have if there were n of them.

    The Vendi score grows with the number of images, so only equal numbers can be compared; between a quarter of the
    evaluation images and all of them it is taken as linear in log n.
    """
    whole, quarter = scores.vendi["value"], scores.vendi_quarter
    place = 1 + math.log(max(n, 1) / scores.vendi.get("n", scores.n)) / math.log(GROUPS)
    return float(min(max(1.0, quarter + place * (whole - quarter)), max(n, 1)))


def compare(candidate: UnitRecord, parent: UnitRecord, base: UnitRecord | None) -> UnitNumbers:
    """Returns what the guards compare by of a scored unit; `base` is unit 0, None for unit 0 itself."""
    scores = candidate.scores
    assert scores is not None, "a unit is scored before it is compared"
    wins = intervals.paired_wins(candidate.bounds, parent.bounds)
    changed = [a != b for a, b in zip(candidate.evaluation, parent.evaluation, strict=True)]
    exceedance, looked = max(0.0, 1.0 - scores.typical_share), int(scores.vendi.get("n", scores.n))
    gap, guarded = 0.0, dict[str, float]()
    if base is not None and base.scores is not None:
        gap = (scores.doubt - base.scores.doubt) / max(base.scores.spread, 1e-9)
        guarded = unit_measures.guarded(scores.measures) | _liked(candidate, base)
    if scores.intact:
        low, high = scores.intact["low"], scores.intact["high"]
        guarded |= {"intact": scores.intact["value"], "intact_low": low, "intact_high": high}
    return UnitNumbers(
        unit=candidate.unit,
        vendi=scores.vendi["value"],
        exceedance=exceedance,
        exceedance_low=intervals.share(exceedance * looked, looked)["low"],
        doubt=scores.doubt,
        gap=gap,
        win_rate=wins["value"],
        win_rate_low=wins["low"],
        changed=sum(changed) / len(changed),
        finite=scores.finite,
        rater_version=scores.rater_version,
        promoted=base is None,
        **guarded,  # type: ignore[arg-type]
    )


def _liked(candidate: UnitRecord, base: UnitRecord) -> dict[str, float]:
    """Returns the fields of UnitNumbers that say whether a unit is surely liked; none where nobody measured them."""
    scores, before = candidate.scores, base.scores
    graded = scores.measures.graded if scores is not None else None
    if scores is None or before is None or graded is None or not (scores.p_ssr and before.p_ssr):
        return {}
    near = intervals.share(graded.near_liked * scores.n, scores.n)
    if len(candidate.p_ssrs) == len(base.p_ssrs) > 0:
        gain = intervals.paired_gain(candidate.p_ssrs, base.p_ssrs)
    else:  # one of them was scored by an earlier version, which recorded the mean alone
        gain = intervals.difference(scores.p_ssr, before.p_ssr)
    return {"ssr_gain_low": gain["low"], "near_liked": near["value"], "near_liked_high": near["high"]}
