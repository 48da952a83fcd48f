"""What a growth is given when its night begins: the images it grows from, their word, and an earlier set."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict

from konomi import errors
from konomi.datasets.png_metadata import origin_of
from konomi.datasets.reader import find_images
from konomi.i18n.catalogue import text
from konomi.night.draws import ConceptToken, class_of, named
from konomi.night.gateway import concepts, services
from konomi.night.gateway.services import NightServices
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.systems.propagate import growing_set
from konomi.v1 import rater_pb2

MOST_SEEDS = 5
DIGEST = re.compile(r"[0-9a-f]{64}")


class Seeds(TypedDict):
    """The settings of the images a set grows from, as they are frozen with the night."""

    seed_images: list[str]
    seed_class: str
    seed_token: str


def prepare(gateway: NightServices, request: NightRequest, nights: NightStore) -> NightRequest:
    """Returns a request with its seeds as digests, the set an earlier night left, and prompts that call the word.

    Raises:
        FailedPrecondition: there is no image to grow from.
        InvalidArgument: seeds that cannot be used.
    """
    settings = dict(request.settings)
    settings |= _seeds(gateway, settings["seed_images"], settings["seed_class"])
    word = ConceptToken(settings["seed_token"], settings["seed_class"])
    settings["propagate_set"] = _left(nights, request.taste, settings["seed_token"])
    if not settings["regularisation_items"]:
        settings |= concepts.prior(gateway, settings, [word])
    prompts = [named(prompt, word) for prompt in request.prompts or [""]]
    return replace(request, prompts=prompts, settings=settings)


def _seeds(gateway: NightServices, images: Sequence[str], class_word: str) -> Seeds:
    """Returns the settings of the images a set grows from; files become images of the taste."""
    seeds: list[str] = []
    for image in images:
        seeds += [image] if DIGEST.fullmatch(image) else _imported(gateway, Path(image).expanduser())
    if not seeds:
        seeds, total = services.graded_ur(gateway, MOST_SEEDS)
        if not 1 <= total <= MOST_SEEDS:
            message = text(
                "propagate grows from 1 to {most} images, and {count} of the taste's are graded UR; name them with "
                "--seed-image",
                most=MOST_SEEDS,
                count=total,
            )
            raise errors.FailedPrecondition(message, reason="NO_SEEDS", field="seed_images")
    seeds = list(dict.fromkeys(seeds))
    if len(seeds) > MOST_SEEDS:
        message = text("propagate grows from 1 to {most} images, {count} were named", most=MOST_SEEDS, count=len(seeds))
        raise errors.InvalidArgument(message, reason="TOO_MANY_SEEDS", field="seed_images")
    facts = services.facts_of(gateway, seeds)
    for digest in seeds:
        if digest not in facts:
            message = text("the taste knows no image {digest}; import it, or name its file", digest=digest[:12])
            raise errors.NotFound(message, reason="SEED_UNKNOWN", field="seed_images")
    class_word = class_word or class_of(facts[seeds[0]].prompt)
    return {"seed_images": seeds, "seed_class": class_word, "seed_token": growing_set.token_of(seeds)}


def _imported(gateway: NightServices, path: Path) -> list[str]:
    """Makes the images of a file or folder known to the taste and returns their digests."""
    digests = []
    for image in find_images([path]):
        if image.error is not None:
            raise errors.InvalidArgument(
                f"{image.name}: {image.error.message}", reason=image.error.reason, field="seed_images"
            )
        digest = gateway.client.artifacts.put(image.data, image.media_type).digest
        prompt = origin_of(image.data).prompt if image.caption is None else image.caption
        imported = rater_pb2.Image(digest=digest, source=rater_pb2.SOURCE_IMPORTED, prompt=prompt)
        request = rater_pb2.AddImagesRequest(taste=gateway.taste, image=imported)
        for reply in gateway.client.rater.add_images.exchange([request]):
            if reply.HasField("error"):
                raise errors.from_item(reply.error.code, reply.error.reason, reply.error.message)
        digests.append(digest)
    if not digests:
        message = text("expected images in {folder}, found none", folder=path.name)
        raise errors.InvalidArgument(message, reason="NO_IMAGES", field="seed_images")
    return digests


def _left(nights: NightStore, taste: str, token: str) -> str:
    """Returns the set the newest night of the same originals left, "" where there is none."""
    for night in reversed(nights.all()):
        before = nights.request(night)
        if before.taste == taste and before.settings.get("seed_token") == token:
            units = nights.state(night).units
            sets = [record.selection.set for record in units if record.selection and record.selection.set]
            if sets:
                return sets[-1]
    return ""
