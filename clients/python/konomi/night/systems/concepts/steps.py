"""The steps of a unit of concepts: words taught by one joint fit or by a merge, then fits within them."""

from dataclasses import replace

from konomi import errors, files
from konomi.i18n.catalogue import translatable
from konomi.night.alarms import Alarm
from konomi.night.draws import TOKEN, UnitContext, image_seed
from konomi.night.gateway import concepts, manifests, messages, services
from konomi.night.gateway.manifests import Item
from konomi.night.records.fit import Fit, Model
from konomi.night.records.state import Selection
from konomi.night.systems.base import Night, Stage, Steps, note_fit, served_unit, unchosen
from konomi.night.systems.concepts import policy
from konomi.v1.rater_pb2 import SELECTION_ROLE_BASE as BASE
from konomi.v1.rater_pb2 import SELECTION_ROLE_SELECTED as SELECTED


class ConceptSteps:
    """What a unit of `concepts` does, one method a step."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.gateway, self.settings = steps, steps.gateway, steps.settings.of(policy.ConceptsSettings)
        parts = [words.partition(" ") for words in self.settings.concept_words]
        self.words = [(token, class_word) for token, _, class_word in parts]

    def freeze(self) -> Selection:
        """Freezes the manifest of the concepts' own images and of the regularisation images."""
        own, prior = self._items()
        return Selection(
            manifest=manifests.freeze(self.gateway.client, [*own, *prior]),
            n=len(own),
            base_share=len(prior) / max(1, len(own) + len(prior)),
            rater_version=self.gateway.version or self.gateway.state().rater_version,
        )

    def _items(self) -> tuple[list[Item], list[Item]]:
        """Returns the concepts' own images and the real regularisation images."""
        client = self.gateway.client
        own = manifests.items_of(client, self.settings.concept_items)
        return own, manifests.items_of(client, self.settings.regularisation_items)

    def teach(self, context: UnitContext, parent: Model | None, frozen: Selection) -> Fit:
        """Returns the model that knows the words: one taught before, one joint fit, or a merge of one fit each."""
        if self.settings.concept_model:
            model = messages.model(concepts.taught(self.gateway, self.settings.concept_model))
            return Fit(**dict(model), run="", loss=0.0, failed="")
        run = self.steps.training(context.unit, parent, frozen)
        steps = self.settings.concept_steps
        if not self.settings.concept_merge or len(self.words) == 1:
            return concepts.bind(self.gateway, run, self.words, steps, self.steps.beat)
        own, prior = self._items()
        parts = []
        for number, (token, class_word) in enumerate(self.words):
            mine = [item for item in own if token in item.caption]
            alone = replace(
                run,
                manifest_digest=manifests.freeze(self.gateway.client, [*mine, *prior]),
                request_id=files.derived_id(run.request_id, "part", number),
                display_name=f"{run.display_name}-{token.strip('<>')}",
            )
            part = concepts.bind(self.gateway, alone, [(token, class_word)], steps, self.steps.beat)
            if part.failed:
                return part
            parts.append(part.model)
        merged = files.derived_id(run.request_id, "merge")
        return concepts.merge(self.gateway, parts, run.display_name, merged)

    def choose(self, context: UnitContext) -> Selection:
        """Chooses among the images that call the concepts, and freezes a manifest with the concepts' own beside them.

        Raises:
            FailedPrecondition: no image calls a concept.
        """
        tokens = [token for token, _ in self.words]
        text = tokens[0] if len(tokens) == 1 else "<"
        turn = self.steps.turn(context, pool=services.count(self.gateway, text))
        asked = policy.selection(turn)
        own, prior = self._items()
        if self.settings.near_copy_cosine < 1:
            sources = [item.digest for item in own]
            asked |= {"near_copy_cosine": self.settings.near_copy_cosine, "training_sources": sources}
        seed = image_seed(self.steps.request.seed, f"select-{turn.unit}", 0)
        reply, considered = services.choose(self.gateway, asked, text, seed)
        if not considered:
            message = translatable("No image of the taste calls the concepts; the prompts of the night name them.")
            raise errors.FailedPrecondition(message, reason="NO_CONCEPT_IMAGES")
        by_role = {role: [image for image in reply.selected if image.role == role] for role in (SELECTED, BASE)}
        chosen = [image for image in by_role[SELECTED] if _knows(tokens, image.prompt)]
        heavy, light = policy.weighed(len(own), len(chosen))
        picked = [Item(image.digest, image.prompt, light) for image in chosen]
        rest = prior or [Item(image.digest, image.prompt, 1.0, manifests.BASE) for image in by_role[BASE]]
        items = [*(replace(item, weight=heavy) for item in own), *picked, *rest]
        return messages.selection(
            reply
        ).changed(
            manifest=manifests.freeze(self.gateway.client, items),
            n=len(chosen),
            base_share=(len(own) + len(rest)) / max(1, len(items)),  # what is real, or the base model's
            considered=considered,
            selected=tuple(image.digest for image in chosen[: 4 * messages.EXAMPLES]),
            rater=self.gateway.rater(),
            end=None,
        )

    def fit(self, context: UnitContext, parent: Model | None, chosen: Selection) -> Fit:
        """Fits all words jointly, from the base model, on what was chosen and the concepts' own images."""
        run = self.steps.training(context.unit, parent, chosen)
        return concepts.bind(self.gateway, run, self.words, self.settings.concept_steps, self.steps.beat)


def _knows(tokens: list[str], prompt: str) -> bool:
    """Says whether a prompt calls a concept, and nothing a model of these concepts does not know."""
    called = {token for token, _ in TOKEN.findall(prompt)}
    return bool(called) and called <= set(tokens)


def teach(night: Night, unit: int, position: int, stage: Stage) -> None:
    """Runs one unit of concepts: the first of a stage teaches the words, every later one converges within them."""
    settings, steps = night.steps.settings.of(policy.ConceptsSettings), ConceptSteps(night.steps)
    first = not any(record.judged and record.stage == stage.number for record in night.state.units)
    night.open(unit, stage)
    parent = served_unit(night)
    context = UnitContext(unit, position, stage.name, night.state.nats)
    if first:
        frozen = night.step(f"unit-{unit}/select", Selection, steps.freeze)
        night.note(unit, selection=unchosen(frozen))
        model = note_fit(night, unit, night.step(f"unit-{unit}/train", Fit, steps.teach, context, parent, frozen))
        night.evaluate(model)
        words = ", ".join(settings.concept_words)
        return night.judge(unit, stage, Alarm("taught", {"unit": unit, "words": words}))
    night.make(context, parent, stage.system.pool_size(settings))
    chosen = night.step(f"unit-{unit}/select", Selection, steps.choose, context)
    night.note(unit, selection=chosen)
    night.look_before_training(unit, chosen)
    model = note_fit(night, unit, night.step(f"unit-{unit}/train", Fit, steps.fit, context, parent, chosen))
    night.evaluate(model)
    return night.judge(unit, stage)
