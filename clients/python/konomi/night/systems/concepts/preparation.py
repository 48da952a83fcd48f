"""What concepts are given when their night begins: images and words to teach, and prompts that call the words."""

from dataclasses import replace
from typing import Any

from konomi import errors
from konomi.i18n.catalogue import text
from konomi.night.draws import ConceptToken, composed
from konomi.night.gateway import concepts, manifests
from konomi.night.gateway.concepts import SLOT, images_of, read_lesson
from konomi.night.gateway.services import NightServices
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore


def prepare(gateway: NightServices, request: NightRequest, nights: NightStore) -> NightRequest:
    """Returns a request with its concepts as digests, and prompts that call their words.

    Raises:
        InvalidArgument: there is nothing to teach, or concepts that cannot be used.
    """
    settings = request.settings | _concepts(gateway, request.settings)
    words = [ConceptToken(*word.split(" ", 1)) for word in settings["concept_words"]]
    prompts = composed(request.prompts or [""], words)
    return replace(request, prompts=prompts, settings=settings)


def _concepts(gateway: NightServices, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of the concepts: their images and words, and the regularisation images."""
    template = settings["concept_prompt"]
    if template.count(SLOT) != 1:
        message = text("expected one {slot} in the prompt, got {prompt}", slot=SLOT, prompt=template)
        raise errors.InvalidArgument(message, field="concept_prompt")
    if settings["concept_model"]:
        model = concepts.taught(gateway, settings["concept_model"])
        words = [ConceptToken(concept.token, concept.class_word) for concept in model.concepts]
        items = [
            item
            for item in manifests.items_of(gateway.client, model.manifest_digest)
            if item.role == manifests.SELECTED and any(word.token in item.caption for word in words)
        ]
    else:
        lessons = [read_lesson(line) for line in settings["concepts"]]
        words, items = [ConceptToken(lesson.token, lesson.class_word) for lesson in lessons], []
        for lesson, word in zip(lessons, words, strict=True):
            items += images_of(gateway.client, lesson.folder, template.replace(SLOT, str(word)), "selected")
    if not words:
        message = text("concepts needs something to teach: --concept NAME=CLASS:FOLDER, or --concept-model NAME")
        raise errors.InvalidArgument(message, reason="NO_CONCEPTS", field="concepts")
    named = {"concept_items": manifests.freeze(gateway.client, items), "concept_words": [str(word) for word in words]}
    return named | concepts.prior(gateway, settings, words, items)
