"""Teaching concepts from folders: images become artifacts, regularisation images are retrieved, a run is started."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from konomi.client import Client, paging
from konomi.client.services import taste_name
from konomi.datasets.reader import find_images
from konomi.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from konomi.i18n.catalogue import text, translatable
from konomi.night.draws import ConceptToken
from konomi.night.gateway import manifests, messages, training
from konomi.night.gateway.drawing import Beat
from konomi.night.gateway.manifests import Item
from konomi.night.gateway.services import NightServices, TrainingRun
from konomi.night.records.fit import Fit
from konomi.night.settings import NightSettings
from konomi.v1 import trainer_pb2 as trainer

SLOT = "{}"
FORM = re.compile(r"<?([a-z0-9][a-z0-9_-]{0,30})>?=([^:=]+):(.+)")


class RegularisationSettings(NightSettings):
    """Real images that keep class words as they are, for every system that teaches words."""

    younger: ClassVar[frozenset[str]] = frozenset()  # every night has recorded these

    regularisation: str = ""
    """`propagate` and `concepts`: folder of real images with captions (.txt) that keep the class words as they are."""
    regularisation_items: str = ""
    """Digest of those images; filled in when the night begins."""
    concept_prompt: str = "photo of a {}"
    """`concepts`: what their images show; {} stands for the concept."""


@dataclass(frozen=True)
class Lesson:
    """One concept to teach: its token V*, what it is one of, and the folder of its images."""

    token: str
    class_word: str
    folder: Path


def read_lesson(line: str) -> Lesson:
    """Returns the concept of "NAME=CLASS:FOLDER", for example "cat-1=cat:photos/my-cat".

    Raises:
        InvalidArgument: it has another form.
    """
    match = FORM.fullmatch(line)
    if match is None:
        raise InvalidArgument(text("expected NAME=CLASS:FOLDER, got {line}", line=line[:80]), field="concept")
    return Lesson(f"<{match[1]}>", match[2].strip(), Path(match[3]))


def images_of(client: Client, folder: Path, caption: str, role: str) -> list[Item]:
    """Stores the images of a folder and returns them as items of a manifest, all under one caption.

    Raises:
        InvalidArgument: an image cannot be read, or there is none.
    """
    items: dict[str, Item] = {}
    for image in find_images([folder]):
        if image.error is not None:
            raise InvalidArgument(f"{image.name}: {image.error.message}", reason=image.error.reason, field="concept")
        digest = client.artifacts.put(image.data, image.media_type).digest
        items[digest] = Item(digest, caption, 1.0, role)
    if not items:
        raise InvalidArgument(text("expected images in {folder}, found none", folder=folder), field="concept")
    return list(items.values())


def captioned(client: Client, folder: Path) -> list[Item]:
    """Stores the images of a folder that have a caption, a text file of the same name, and returns them as items."""
    items: dict[str, Item] = {}
    for image in find_images([folder]):
        if image.error is None and image.caption is not None:
            digest = client.artifacts.put(image.data, image.media_type).digest
            items[digest] = Item(digest, image.caption, 1.0, manifests.PRIOR)
    return list(items.values())


def regularisation(
    client: Client, taste: str, folder: Path, lessons: Sequence[Lesson], template: str, own: Sequence[Item]
) -> tuple[list[Item], list[str]]:
    """Returns real regularisation images of a folder whose captions are near the class prompts, and what to know."""
    candidates = captioned(client, folder)
    if not candidates:
        return [], [text("no image in {folder} has a caption (a .txt file of the same name)", folder=folder)]
    manifest = manifests.freeze(client, candidates)
    prompts = sorted({template.replace(SLOT, lesson.class_word) for lesson in lessons})
    retrieved = client.trainer.retrieve_images(
        taste=taste_name(taste), candidates_digest=manifest, prompts=prompts,
        concept_digests=[item.digest for item in own],
    )  # fmt: skip
    chosen = {image.digest for image in retrieved.images}
    return [item for item in candidates if item.digest in chosen], list(retrieved.warnings)


def prior(
    gateway: NightServices, settings: Mapping[str, Any], words: Sequence[ConceptToken], own: Sequence[Item] = ()
) -> dict[str, str]:
    """Returns the setting that names the real regularisation images of a night; nothing where no folder was named.

    Args:
        gateway: the services.
        settings: "regularisation", the folder, and "concept_prompt".
        words: the words that are taught.
        own: items of the concepts' own images.

    Raises:
        InvalidArgument: no image of the folder can serve.
    """
    if not settings["regularisation"]:
        return {}
    folder = Path(settings["regularisation"]).expanduser()
    lessons = [Lesson(word.token, word.class_word, Path()) for word in words]
    items, warnings = regularisation(
        gateway.client, gateway.taste.removeprefix("tastes/"), folder, lessons, settings["concept_prompt"], own
    )
    if not items:
        raise InvalidArgument(warnings[0], reason="NO_REGULARISATION", field="regularisation")
    return {"regularisation_items": manifests.freeze(gateway.client, items)}


def _begun(client: Client, request: trainer.CreateTrainingRunRequest) -> trainer.TrainingRun:
    """Starts a run of Custom Diffusion, or of words beside a LoRA where the base model has no place for that."""
    try:
        return training.begun(client, request)
    except InvalidArgument as error:
        if (error.reason, error.field) != ("METHOD", "method"):
            raise
    request.method = trainer.TRAINING_METHOD_CONCEPT_LORA
    return training.begun(client, request)


def teach(
    client: Client, request: trainer.CreateTrainingRunRequest, items: Sequence[Item], beat: Callable[[int, int], None]
) -> trainer.Model:
    """Freezes the manifest, runs the training to its end and returns the model.

    Args:
        client: of a running trainer.
        request: everything but the manifest.
        items: of the manifest.
        beat: hears steps done and steps in all.

    Raises:
        Unavailable: the trainer stopped, or the run ended in what passes; the same call goes on with it.
        FailedPrecondition: the run failed.
    """
    request.manifest_digest = manifests.freeze(client, items)
    run = _begun(client, request)
    for latest in client.trainer.watch_training_run(name=run.name):
        run = latest
        beat(run.step, run.total_steps)
    if run.state in (trainer.TRAINING_STATE_QUEUED, trainer.TRAINING_STATE_RUNNING):
        raise Unavailable(text("the trainer stopped before the run had ended; the same command goes on with it"))
    if run.state != trainer.TRAINING_STATE_SUCCEEDED:
        failed = FailedPrecondition(run.error.message or text("the run was cancelled"), reason=run.error.reason)
        raise training.passing(run) or failed
    return client.trainer.get_model(name=run.model)


def bind(gateway: NightServices, run: TrainingRun, words: Sequence[tuple[str, str]], steps: int, beat: Beat) -> Fit:
    """Binds words, beside a LoRA where a base has no place for Custom Diffusion; returns what `train` does.

    Raises:
        InvalidArgument: the base model cannot be taught words (a reason of UNFIT), or the request is wrong.
    """
    concepts = [trainer.Concept(token=token, class_word=class_word) for token, class_word in words]
    bound = replace(run, concepts=concepts)
    try:
        return gateway.train(bound, {"steps": steps}, beat, "custom_diffusion")
    except InvalidArgument as error:
        if (error.reason, error.field) != ("METHOD", "method"):
            raise
    return gateway.train(bound, {"steps": steps}, beat, "concept_lora")


def merge(gateway: NightServices, names: Sequence[str], display_name: str, request_id: str) -> Fit:
    """Merges models that know one concept each into one that knows all (closed form)."""
    merged = gateway.client.trainer.merge_models(
        names=[f"models/{name}" for name in names], display_name=display_name, request_id=request_id
    )
    return Fit(**dict(messages.model(merged)), run="", loss=0.0, failed="")


def taught(gateway: NightServices, name: str) -> trainer.Model:
    """Returns the newest model of the taste of that id or name that knows words.

    Raises:
        NotFound: there is none.
    """
    for model in paging.models(gateway.client, gateway.taste):
        if model.concepts and name in (model.display_name, model.name.removeprefix("models/")):
            return model
    message = translatable(
        "No model {name} of {taste} knows concepts; `konomi concepts teach` makes one.", name=name, taste=gateway.taste
    )
    raise NotFound(message, reason="NO_CONCEPTS", field="concept_model")
