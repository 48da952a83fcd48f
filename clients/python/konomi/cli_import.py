"""`konomi import`: images of any origin become known to a taste, their prompts with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from konomi.client import Client
from konomi.console import FAILED, Json, TasteId, attached, emit, note, progress, say
from konomi.embedders import advice
from konomi.errors import KonomiError, Unavailable, from_item
from konomi.image_files import ImageFile, count_files, find_images
from konomi.messages import text
from konomi.png_text import Origin, read_origin
from konomi.services import taste_name
from konomi.v1 import rater_pb2 as rater
from konomi.xmp import rating_of

BATCH = 32


@dataclass
class Summary:
    """What became of the images."""

    added: int = 0
    already_known: int = 0
    foreign: int = 0
    """Images among them that the starter model did not make."""
    rated: int = 0
    """Ratings taken over as grades."""
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, name: str, error: KonomiError) -> None:
        """Notes an image that was refused."""
        self.failed.append({"path": name, "reason": error.reason, "message": error.message})


def import_(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, zips or images.")],
    taste: TasteId = "default",
    licence: Annotated[str, typer.Option(help="Licence of the images, as an SPDX id or free text.")] = "",
    as_json: Json = False,
) -> None:
    """Make images of any origin known: folders, files, zips.

    PNG, JPEG and WebP are read; the originals are never written. Prompts are read from PNG infotext, ratings of one to
    five stars from XMP, inside the image or in a sidecar: they become the grades N to UR of images new to the taste.

    Example: konomi import ~/pictures favourites.zip
    """
    with attached() as client, progress(text("importing"), count_files(paths)) as update:
        known = client.rater.ensure_taste(taste)
        summary = add_all(client, taste, paths, licence, lambda done: update(completed=done))
        hint = advice(client, taste) if known.embedder in ("", "starter") and summary.foreign else ""
    for failure in summary.failed:
        note(f"{failure['path']}: {failure['message']}")
    if hint:
        note(hint)
    if as_json:
        counts = {
            "added": summary.added,
            "rated": summary.rated,
            "already_known": summary.already_known,
            "failed": summary.failed,
        }
        emit({"taste": taste_name(taste)} | counts)
    else:
        line = "{added} added, {known} known already, {failed} refused"
        say(text(line, added=summary.added, known=summary.already_known, failed=len(summary.failed)))
        say(text("{count} ratings were taken over", count=summary.rated)) if summary.rated else None
    if summary.failed:
        raise typer.Exit(FAILED)


def add_all(client: Client, taste: str, paths: Sequence[Path], licence: str, report: Callable[[int], None]) -> Summary:
    """Stores the images and makes them known, some dozens at a time; a bad image is noted and passed over."""
    summary = Summary()
    batch: list[ImageFile] = []
    for number, found in enumerate(find_images(paths), start=1):
        if found.error is not None:
            summary.fail(found.name, found.error)
        else:
            batch.append(found)
        if len(batch) == BATCH:
            _add(client, taste, batch, licence, summary)
            report(number)
            batch = []
    _add(client, taste, batch, licence, summary)
    return summary


def _add(client: Client, taste: str, batch: Sequence[ImageFile], licence: str, summary: Summary) -> None:
    requests: list[rater.AddImagesRequest] = []
    names: list[str] = []
    origins: list[Origin] = []
    for found in batch:
        try:
            digest = client.artifacts.put(found.data, found.media_type).digest
        except Unavailable:
            raise
        except KonomiError as error:
            summary.fail(found.name, error)
            continue
        origin = read_origin(found.data)
        facts: dict[str, Any] = {"prompt": origin.prompt, "seed": origin.seed, "licence": licence}
        image = rater.Image(digest=digest, source=rater.SOURCE_IMPORTED, **facts)
        requests.append(rater.AddImagesRequest(taste=taste_name(taste), image=image))
        names.append(found.name)
        origins.append(origin)
    if not requests:
        return
    new: list[str] = []
    for name, origin, result in zip(names, origins, client.rater.add_images(requests), strict=True):
        if result.HasField("error"):
            summary.fail(name, from_item(result.error.code, result.error.reason, result.error.message))
            continue
        summary.already_known += result.already_known
        summary.added += not result.already_known
        summary.foreign += not origin.starter
        if not result.already_known:
            new.append(name)
    _grade(client, taste, {found.name: found for found in batch}, dict(zip(names, requests, strict=True)), new, summary)


def _grade(
    client: Client,
    taste: str,
    files: Mapping[str, ImageFile],
    requests: Mapping[str, rater.AddImagesRequest],
    new: Sequence[str],
    summary: Summary,
) -> None:
    """Records the ratings of images that are new; a known image keeps the grade the owner gave it here."""
    ratings = {name: rating_of(Path(name), files[name].data) for name in new}
    labels = [
        rater.Label(image_digest=requests[name].image.digest, grade=rater.Grade.ValueType(rating))
        for name, rating in ratings.items()
        if rating is not None
    ]
    if labels:
        client.rater.record_labels(taste=taste_name(taste), labels=labels)
        summary.rated += len(labels)
