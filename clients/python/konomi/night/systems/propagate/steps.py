"""A turn of self-propagation: its steps, each run again without harm, and the order in which they follow."""

from collections.abc import Sequence
from dataclasses import replace

from konomi import errors, files
from konomi.night.alarms import Alarm, Ended
from konomi.night.draws import ConceptToken, UnitContext, plain
from konomi.night.gateway import concepts, manifests, services
from konomi.night.gateway.manifests import Item
from konomi.night.records.fit import Fit, Model
from konomi.night.records.record import Record
from konomi.night.records.state import Reason, Selection
from konomi.night.systems.base import Night, Stage, Steps, hyper_parameters, note_fit, served_unit, unchosen
from konomi.night.systems.propagate import growing_set, policy


class Member(Record):
    """A member of a set as a turn sees it; `depth` is how many generations it is from the originals."""

    digest: str
    prompt: str
    depth: int


class GrowthView(Record):
    """A set as a turn finds it: its digest, its members, those that left it, and the word alone.

    Attributes:
        removed: what left because of its grade; `doubted` what left because of its fellows' grades.
    """

    set: str
    members: tuple[Member, ...]
    removed: tuple[str, ...] = ()
    doubted: tuple[str, ...] = ()
    bare: str


class GrowthSteps:
    """What a turn of `propagate` does, one method a step."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.gateway, self.settings = steps, steps.gateway, steps.settings.of(policy.PropagateSettings)
        self.word = ConceptToken(self.settings.seed_token, self.settings.seed_class)

    def begin(self, kept: str) -> GrowthView:
        """Looks at the set: without what the owner graded below SSR since it was kept, and what stood or fell with it.

        Args:
            kept: digest of the set as it was left; empty where it begins.
        """
        originals = list(self.settings.seed_images)
        if kept:
            grown = growing_set.read(self.gateway, kept)
        else:
            grown = growing_set.first(originals, services.facts_of(self.gateway, originals), self.word)
        digests = [member["digest"] for member in grown["members"]]
        grown, removed, doubted = growing_set.confirmed(grown, services.facts_of(self.gateway, digests))
        members = tuple(
            Member(digest=member["digest"], prompt=member["prompt"], depth=member["depth"])
            for member in grown["members"]
        )
        digest = growing_set.keep(self.gateway, grown)
        return GrowthView(
            set=digest, members=members, removed=tuple(removed), doubted=tuple(doubted), bare=str(self.word)
        )

    def freeze(self, seen: GrowthView) -> Selection:
        """Freezes the manifest of a fit on the set: the originals weigh at least their share of every batch."""
        originals, members = set(self.settings.seed_images), seen.members
        share = policy.least_share(self.settings, len(members))
        heavy, light = policy.weights(len(originals), len(members) - len(originals), share)
        items = [
            Item(member.digest, member.prompt, heavy if member.digest in originals else light) for member in members
        ]
        prior = manifests.items_of(self.gateway.client, self.settings.regularisation_items)
        return Selection(
            manifest=manifests.freeze(self.gateway.client, [*items, *prior]),
            n=len(items),
            base_share=len(originals) * heavy / len(items),
            set=seen.set,
            rater_version=self.gateway.version or self.gateway.state().rater_version,
        )

    def fit(self, context: UnitContext, parent: Model | None, frozen: Selection) -> Fit:
        """Fits the word on the set from the base model; a base that cannot be taught words gets an adapter."""
        run = self.steps.training(context.unit, parent, frozen)
        words = [(self.word.token, self.word.class_word)]
        try:
            bound = concepts.bind(self.gateway, run, words, self.settings.propagate_steps, self.steps.beat)
            if bound.why not in services.UNFIT:
                return bound
        except errors.InvalidArgument as error:
            if error.reason not in services.UNFIT:
                raise
        client = self.gateway.client
        items = [replace(item, caption=plain(item.caption)) for item in manifests.items_of(client, frozen.manifest)]
        run = replace(
            run,
            manifest_digest=manifests.freeze(client, items),
            request_id=files.derived_id(run.request_id, "lora"),
        )
        hyper = hyper_parameters(self.settings) | {"steps": self.settings.propagate_steps}
        return self.gateway.train(run, hyper, self.steps.beat, self.settings.method)

    def take_in(self, context: UnitContext, candidates: Sequence[str], seen: GrowthView) -> Selection:
        """Lets the gate decide what the set takes in, and keeps the set.

        Args:
            context: the unit.
            candidates: digests that were made for it.
            seen: what `begin` returned.

        Returns:
            What the gate says; the set, its size and depth after it; what the owner is asked about; the similarity of
            the members to the originals; and why the set grows no further.
        """
        settings, grown = self.settings, growing_set.read(self.gateway, seen.set)
        originals, members = grown["originals"], [member["digest"] for member in grown["members"]]
        room = max(1, min(len(members), settings.propagate_target - len(members)))
        limits = policy.selection(self.steps.turn(context))
        gate = services.gate(self.gateway, candidates, originals, members, room, limits)
        grown = growing_set.extended(grown, gate, services.facts_of(self.gateway, gate.taken))
        size = len(grown["members"])
        descendants = [member for member in grown["members"] if member["digest"] not in originals]
        depths = [member["depth"] for member in descendants]
        exhausted = bool(depths) and min(depths) >= settings.propagate_depth
        end = policy.ending(settings, size, exhausted, grown["rounds"])
        cosines = [member["cosine"] for member in descendants]
        near_copies = gate.rejected["near_copy"].count if "near_copy" in gate.rejected else 0
        return gate.changed(
            set=growing_set.keep(self.gateway, grown),
            size=size,
            deepest=max(depths, default=0),
            near_copy_share=near_copies / max(1, gate.considered),
            seed_similarity=sum(cosines) / len(cosines) if cosines else 1.0,
            confirm=tuple(policy.to_confirm(gate.taken, size)),
            end=Reason(name=end.name, numbers=dict(end.numbers)) if end else None,
        )


def grow(night: Night, unit: int, position: int, stage: Stage) -> None:
    """Runs one turn of self-propagation: fit on the set, candidates by the fitted unit, what the gate lets in."""
    settings, steps = night.steps.settings.of(policy.PropagateSettings), GrowthSteps(night.steps)
    night.open(unit, stage)
    parent = served_unit(night)
    sets = [record.selection.set for record in night.state.units if record.selection and record.selection.set]
    kept = sets[-1] if sets else settings.propagate_set
    seen = night.step(f"unit-{unit}/observe", GrowthView, steps.begin, kept)
    context = UnitContext(unit, position, stage.name, night.state.nats, seen.plain())
    frozen = night.step(f"unit-{unit}/select", Selection, steps.freeze, seen)
    chosen = unchosen(frozen, [member.digest for member in seen.members])
    night.note(unit, selection=chosen)
    model = note_fit(night, unit, night.step(f"unit-{unit}/train", Fit, steps.fit, context, parent, frozen))
    night.evaluate(model)
    night.judge(unit, stage)
    made = night.make(context, model, policy.candidates(settings, len(seen.members)))
    gate = night.step(f"unit-{unit}/grow", Selection, steps.take_in, context, made, seen)
    warnings = []
    if gate.confirm:
        warnings.append(Alarm("confirm", {"count": len(gate.confirm), "size": gate.size}))
    if seen.removed:
        warnings.append(Alarm("removed", {"count": len(seen.removed)}))
    if seen.doubted:
        warnings.append(Alarm("doubted", {"count": len(seen.doubted)}))
    record = night.note(unit, selection=chosen.merged(gate, but="end"))
    night.note(unit, warnings=(*record.warnings, *(Reason.of(warning) for warning in warnings)))
    if gate.end is not None:
        raise Ended(gate.end.alarm)
