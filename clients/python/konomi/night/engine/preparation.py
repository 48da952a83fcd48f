"""What a night is given when it begins: images it grows from, words it is taught, and prompts that say them.

All of it is frozen in the night's request, so that a resumed night never looks at folders again.
"""

import hashlib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from konomi import errors
from konomi.datasets.png_metadata import read_origin
from konomi.datasets.reader import find_images
from konomi.host.session import Crew
from konomi.i18n.catalogue import text
from konomi.night.draws import Word, class_of, composed, named
from konomi.night.gateway import manifests, services
from konomi.night.gateway.concepts import SLOT, images_of, read_lesson, regularisation
from konomi.night.gateway.services import Studio
from konomi.night.guards import GuardSettings
from konomi.night.records.request import NightRequest
from konomi.night.records.store import Nights
from konomi.night.settings import NightSettings
from konomi.night.systems.propagate import growing_set
from konomi.night.systems.registry import Stage, stages, written
from konomi.v1 import rater_pb2


def plain(settings: NightSettings | GuardSettings) -> dict[str, Any]:
    """Returns settings as they are recorded with a night: everything but the home, which may move."""
    return settings.model_dump(mode="json", exclude={"home"})


def wanted(
    system: str,
    taste: str,
    seed: int,
    settings: NightSettings,
    guards: GuardSettings,
    prompts: list[str],
    night: str = "",
) -> NightRequest:
    """Returns the request of a night as asked for; what it lacks is filled in when it begins (night_begin.py).

    Raises:
        InvalidArgument: there is no such system, or more units are wanted than one night may make.
    """
    stages(system, settings.units)
    if settings.units > guards.units_per_night:
        message = (
            f"A night makes at most {guards.units_per_night} units without a person looking, {settings.units} were "
            "asked for; ask for fewer, or raise units_per_night in the [guards] table of konomi.toml."
        )
        raise errors.InvalidArgument(message, reason="TOO_MANY_UNITS", field="units")
    request = NightRequest(
        id=night,
        asked="",
        taste=taste,
        system=system,
        seed=seed,
        prompts=prompts,
        evaluation_prompts=prompts,
        settings=plain(settings),
        guards=plain(guards),
    )
    asked = hashlib.sha256((request.digest() + night).encode()).hexdigest()
    return NightRequest(**{**vars(request), "asked": asked})


PROMPTS = 512
"""Prompts taken from the taste's own images where none are given."""
MOST_SEEDS = 5
DIGEST = re.compile(r"[0-9a-f]{64}")


def filled(request: NightRequest, crew: Crew, nights: Nights) -> NightRequest:
    """Returns the request with everything it needs: seeds and concepts as digests, prompts that call their words.

    Args:
        request: a night as asked for.
        crew: the services.
        nights: the nights of this home; a set an earlier one left is gone on with.

    Raises:
        FailedPrecondition: there are no prompts, or no image to grow from.
        InvalidArgument: seeds or concepts that cannot be used.
    """
    studio = Studio(crew, request.taste)
    names = {stage.name for stage in stages(request.system, int(request.settings["units"]))}
    settings, prompts = dict(request.settings), request.prompts or studio.prompts(PROMPTS)
    words: list[Word] = []
    if "concepts" in names:
        settings |= _concepts(studio, request.taste, settings)
        words = [Word(*one.split(" ", 1)) for one in settings["concept_words"]]
        prompts = composed(prompts or [""], words)
    if "propagate" in names:
        settings |= _seeds(studio, settings)
        word = Word(settings["seed_token"], settings["seed_class"])
        settings["propagate_set"] = _left(nights, request.taste, settings)
        settings |= _prior(studio, request.taste, settings, [word]) if not settings["regularisation_items"] else {}
        prompts = [named(prompt, word) for prompt in prompts or [""]]
    if not prompts:
        message = "The taste's images carry no prompts; give a file of prompts, one a line, with --prompts."
        raise errors.FailedPrecondition(message, reason="NO_PROMPTS")
    return NightRequest(**{**asdict(request), "prompts": prompts, "evaluation_prompts": prompts, "settings": settings})


def _seeds(studio: Studio, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of the images a set grows from; files become images of the taste."""
    found: list[str] = []
    for one in settings["seed_images"]:
        found += [one] if DIGEST.fullmatch(one) else _imported(studio, Path(one).expanduser())
    if not found:
        found, total = services.graded_ur(studio, MOST_SEEDS)
        if not 1 <= total <= MOST_SEEDS:
            message = text(
                "propagate grows from 1 to {most} images, and {count} of the taste's are graded UR; name them with "
                "--seed-image",
                most=MOST_SEEDS,
                count=total,
            )
            raise errors.FailedPrecondition(message, reason="NO_SEEDS", field="seed_images")
    found = list(dict.fromkeys(found))
    if len(found) > MOST_SEEDS:
        message = text("propagate grows from 1 to {most} images, {count} were named", most=MOST_SEEDS, count=len(found))
        raise errors.InvalidArgument(message, reason="TOO_MANY_SEEDS", field="seed_images")
    facts = services.known(studio, found)
    for digest in found:
        if digest not in facts:
            message = text("the taste knows no image {digest}; import it, or name its file", digest=digest[:12])
            raise errors.NotFound(message, reason="SEED_UNKNOWN", field="seed_images")
    class_word = settings["seed_class"] or class_of(facts[found[0]]["prompt"])
    return {"seed_images": found, "seed_class": class_word, "seed_token": growing_set.token_of(found)}


def _imported(studio: Studio, path: Path) -> list[str]:
    """Makes the images of a file or folder known to the taste and returns their digests."""
    digests = []
    for image in find_images([path]):
        if image.error is not None:
            raise errors.InvalidArgument(
                f"{image.name}: {image.error.message}", reason=image.error.reason, field="seed_images"
            )
        digest = studio.client.artifacts.put(image.data, image.media_type).digest
        known = rater_pb2.Image(digest=digest, source=rater_pb2.SOURCE_IMPORTED, prompt=read_origin(image.data).prompt)
        request = rater_pb2.AddImagesRequest(taste=studio.taste, image=known)
        for reply in studio.client.rater.add_images.exchange([request]):
            if reply.HasField("error"):
                raise errors.from_item(reply.error.code, reply.error.reason, reply.error.message)
        digests.append(digest)
    if not digests:
        message = text("expected images in {folder}, found none", folder=path.name)
        raise errors.InvalidArgument(message, reason="NO_IMAGES", field="seed_images")
    return digests


def _left(nights: Nights, taste: str, settings: dict[str, Any]) -> str:
    """Returns the set the newest night of the same originals left, "" where there is none."""
    for night in reversed(nights.all()):
        before = nights.request(night)
        if before.taste == taste and before.settings.get("seed_token") == settings["seed_token"]:
            sets = [one["selection"]["set"] for one in nights.read(night)["units"] if "set" in one.get("selection", {})]
            if sets:
                return str(sets[-1])
    return ""


def _concepts(studio: Studio, taste: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings of the concepts: their images and words, and the regularisation images."""
    template = settings["concept_prompt"]
    if template.count(SLOT) != 1:
        message = text("expected one {slot} in the prompt, got {prompt}", slot=SLOT, prompt=template)
        raise errors.InvalidArgument(message, field="concept_prompt")
    if settings["concept_model"]:
        model = services.taught(studio, settings["concept_model"])
        words = [Word(one.token, one.class_word) for one in model.concepts]
        items = [
            item
            for item in manifests.items_of(studio, model.manifest_digest)
            if item["role"] == "selected" and any(word.token in item["caption"] for word in words)
        ]
    else:
        lessons = [read_lesson(line) for line in settings["concepts"]]
        words, items = [Word(lesson.token, lesson.class_word) for lesson in lessons], []
        for lesson, word in zip(lessons, words, strict=True):
            items += images_of(studio.client, lesson.folder, template.replace(SLOT, str(word)), "selected")
    if not words:
        message = text("concepts needs something to teach: --concept NAME=CLASS:FOLDER, or --concept-model NAME")
        raise errors.InvalidArgument(message, reason="NO_CONCEPTS", field="concepts")
    known = {"concept_items": manifests.manifest(studio, items), "concept_words": [str(word) for word in words]}
    return known | _prior(studio, taste, settings, words, items)


def _prior(
    studio: Studio, taste: str, settings: dict[str, Any], words: Sequence[Word], own: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Returns the setting of the real regularisation images; nothing where no folder was named."""
    if not settings["regularisation"]:
        return {}
    folder = Path(settings["regularisation"]).expanduser()
    lessons = [read_lesson(f"{word.token}={word.class_word}:.") for word in words]
    found, warnings = regularisation(
        studio.client, taste.removeprefix("tastes/"), folder, lessons, settings["concept_prompt"], own
    )
    if not found:
        raise errors.InvalidArgument(warnings[0], reason="NO_REGULARISATION", field="regularisation")
    return {"regularisation_items": manifests.manifest(studio, found)}


def read_plan(path: Path) -> tuple[str, dict[str, Any]]:
    """Returns the chain of a plan and its night settings.

    A plan holds one `[[stage]]` a stage, with `system` and `units`, and may hold a `[night]` table.

    Raises:
        InvalidArgument: the file cannot be read, is no TOML, or holds something else.
    """
    try:
        plan = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise _wrong(path, error) from error
    listed, settings = plan.pop("stage", []), plan.pop("night", {})
    if plan or not isinstance(listed, list) or not listed or not isinstance(settings, dict):
        raise _wrong(path, text("expected [[stage]] tables and at most a [night] table"))
    if "units" in settings:
        raise _wrong(path, text("units belong to the stages"))
    return written([_stage(path, one) for one in listed]), settings


def chain_of(asked: str) -> tuple[str, dict[str, Any]]:
    """Returns the chain and the settings of what was asked for: a system, a chain, or the path of a plan."""
    return read_plan(Path(asked)) if asked.endswith(".toml") else (asked, {})


def units_of(chain: str) -> int | None:
    """Returns how many units a chain makes, None where it is one system and does not say."""
    found = stages(chain, 0)
    return sum(stage.units for stage in found) or None


def _stage(path: Path, one: Any) -> Stage:
    units = one.get("units") if isinstance(one, dict) else None
    if not isinstance(one, dict) or set(one) != {"system", "units"} or not isinstance(units, int) or units < 1:
        raise _wrong(path, text("a [[stage]] has system and units, 1 or more"))
    return Stage(str(one["system"]), units)


def _wrong(path: Path, why: object) -> errors.InvalidArgument:
    return errors.InvalidArgument(
        text("the plan {path} cannot be used: {why}", path=path.name, why=why), field="system"
    )
