"""The steps of a unit of concepts: words taught by one joint fit or by a merge, then fits within them."""

from typing import Any

from konomi import errors, files
from konomi.night.alarms import Alarm
from konomi.night.draws import TOKEN, image_seed
from konomi.night.gateway import manifests, messages, services
from konomi.night.systems.base import Night, Stage, Steps, fitted, unchosen
from konomi.night.systems.concepts import policy


class ConceptSteps:
    """What a unit of `concepts` does, one method a step."""

    def __init__(self, steps: Steps) -> None:
        self.steps, self.studio, self.settings = steps, steps.studio, steps.settings
        found = [words.partition(" ") for words in self.settings.concept_words]
        self.words = [(token, class_word) for token, _, class_word in found]

    def freeze(self) -> dict[str, Any]:
        """Freezes the manifest of the concepts' own images and of the regularisation images."""
        own = manifests.items_of(self.studio, self.settings.concept_items)
        prior = manifests.items_of(self.studio, self.settings.regularisation_items)
        return {
            "manifest": manifests.manifest(self.studio, [*own, *prior]),
            "n": len(own),
            "base_share": len(prior) / max(1, len(own) + len(prior)),
            "rater_version": self.studio.state()["rater_version"],
        }

    def teach(self, drawn: dict[str, Any], parent: dict[str, Any] | None, frozen: dict[str, Any]) -> dict[str, Any]:
        """Returns the model that knows the words: one taught before, one joint fit, or a merge of one fit each."""
        if self.settings.concept_model:
            model = messages.model(services.taught(self.studio, self.settings.concept_model))
            return {**model, "run": "", "loss": 0.0, "failed": ""}
        request = self.steps.training(drawn["unit"], parent, frozen)
        steps = self.settings.concept_steps
        if not self.settings.concept_merge or len(self.words) == 1:
            return services.bind(self.studio, request, self.words, steps, self.steps.beat)
        own = manifests.items_of(self.studio, self.settings.concept_items)
        prior = manifests.items_of(self.studio, self.settings.regularisation_items)
        parts = []
        for number, (token, class_word) in enumerate(self.words):
            mine = [item for item in own if token in item["caption"]]
            alone = request | {
                "manifest_digest": manifests.manifest(self.studio, [*mine, *prior]),
                "request_id": files.derived_id(request["request_id"], "part", number),
                "display_name": f"{request['display_name']}-{token.strip('<>')}",
            }
            part = services.bind(self.studio, alone, [(token, class_word)], steps, self.steps.beat)
            if part["failed"]:
                return part
            parts.append(part["model"])
        merged = files.derived_id(request["request_id"], "merge")
        return services.merge(self.studio, parts, request["display_name"], merged)

    def choose(self, drawn: dict[str, Any]) -> dict[str, Any]:
        """Chooses among the images that call the concepts, and freezes a manifest with the concepts' own beside them.

        Returns:
            What `Studio.select` says of a choice.

        Raises:
            FailedPrecondition: no image calls a concept.
        """
        tokens = [token for token, _ in self.words]
        text = tokens[0] if len(tokens) == 1 else "<"
        turn = self.steps.turn(drawn, pool=services.count(self.studio, text))
        wanted = policy.selection(turn)
        own = manifests.items_of(self.studio, self.settings.concept_items)
        if self.settings.near_copy_cosine < 1:
            sources = [item["digest"] for item in own]
            wanted |= {"near_copy_cosine": self.settings.near_copy_cosine, "training_sources": sources}
        seed = image_seed(self.steps.request.seed, f"select-{turn.unit}", 0)
        reply, considered = services.choose(self.studio, wanted, text, seed)
        chosen = [one for one in reply.selected if one.role == 1 and _knows(tokens, one.prompt)]
        if not considered:
            message = "No image of the taste calls the concepts; the prompts of the night name them."
            raise errors.FailedPrecondition(message, reason="NO_CONCEPT_IMAGES")
        heavy, light = policy.weighed(len(own), len(chosen))
        picked = [{"digest": o.digest, "caption": o.prompt, "weight": light, "role": "selected"} for o in chosen]
        base = [
            {"digest": o.digest, "caption": o.prompt, "weight": 1.0, "role": "base"}
            for o in reply.selected
            if o.role == 2
        ]
        prior = manifests.items_of(self.studio, self.settings.regularisation_items)
        items = [*[item | {"weight": heavy} for item in own], *picked, *(prior or base)]
        return {
            "manifest": manifests.manifest(self.studio, items),
            "n": len(chosen),
            "base_share": (len(own) + len(prior or base)) / max(1, len(items)),  # what is real, or the base model's
            "considered": considered,
            "kept_share": reply.kept_share,
            "nats": reply.pressure_nats,
            "best_of_n_nats": reply.best_of_n_nats,
            "vendi": reply.diversity.vendi,
            "largest_cell_share": reply.largest_cell_share,
            "rater_version": reply.rater_version,
            "selected": [one.digest for one in chosen][: 4 * messages.EXAMPLES],
            "rejected": messages.rejected(reply.rejections),
            "rater": self.studio.rater(),
            "end": None,
        }

    def fit(self, drawn: dict[str, Any], parent: dict[str, Any] | None, chosen: dict[str, Any]) -> dict[str, Any]:
        """Fits all words jointly, from the base model, on what was chosen and the concepts' own images."""
        request = self.steps.training(drawn["unit"], parent, chosen)
        return services.bind(self.studio, request, self.words, self.settings.concept_steps, self.steps.beat)


def _knows(tokens: list[str], prompt: str) -> bool:
    """Says whether a prompt calls a concept, and nothing a model of these concepts does not know."""
    called = {found[0] for found in TOKEN.findall(prompt)}
    return bool(called) and called <= set(tokens)


def teach(night: Night, unit: int, position: int, stage: Stage) -> None:
    """Runs one unit of concepts: the first of a stage teaches the words, every later one converges within them."""
    settings = night.steps.settings
    steps, entry = ConceptSteps(night.steps), night.open(unit, stage)
    parent = None if night.served["unit"] == 0 else night.served
    drawn = {"unit": unit, "position": position, "system": stage.name, "seen": {}, "spent": night.state["nats"]}
    before = [one for one in night.state["units"][:-1] if one.get("stage") == stage.number and "decision" in one]
    if not before:
        frozen = night.step(f"unit-{unit}/select", steps.freeze)
        entry["selection"] = unchosen(frozen)
        model = fitted(unit, night.step(f"unit-{unit}/train", steps.teach, drawn, parent, frozen), entry)
        night.evaluate(model, entry)
        words = ", ".join(settings.concept_words)
        return night.judge(unit, entry, stage, Alarm("taught", {"unit": unit, "words": words}))
    night.make(drawn, parent, stage.system.pool_size(settings))
    chosen = night.step(f"unit-{unit}/select", steps.choose, drawn)
    entry["selection"] = chosen
    night.look_before_training(unit, chosen, entry)
    model = fitted(unit, night.step(f"unit-{unit}/train", steps.fit, drawn, parent, chosen), entry)
    night.evaluate(model, entry)
    return night.judge(unit, entry, stage)
