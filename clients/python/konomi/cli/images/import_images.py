"""`konomi import`: images of any origin become known to a taste, their prompts with them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, TasteId, attached, emit, note, progress, say
from konomi.client import Client
from konomi.client.services import taste_name
from konomi.datasets.captions import grade_of, seed_of
from konomi.datasets.png_metadata import Origin, origin_of, says_more
from konomi.datasets.reader import ImageFile, count_files, find_images
from konomi.datasets.xmp import rating_of
from konomi.errors import InvalidArgument, KonomiError, Unavailable, from_item
from konomi.host import extras
from konomi.i18n.catalogue import plural, text
from konomi.taste.embedder import advice
from konomi.v1 import rater_pb2 as rater

BATCH = 32


@dataclass
class ImportSummary:
    """What became of the images."""

    added: int = 0
    already_known: int = 0
    foreign: int = 0
    """Images among them that the starter model did not make."""
    rated: int = 0
    """Ratings taken over as grades."""
    unread: int = 0
    """Images that seem to hold a prompt nothing here reads."""
    failed: list[dict[str, str]] = field(default_factory=list)

    def fail(self, name: str, error: KonomiError) -> None:
        """Notes an image that was refused."""
        self.failed.append({"path": name, "reason": error.reason, "message": error.message})

    def counts(self) -> dict[str, object]:
        """Returns it as JSON has it."""
        return {
            "added": self.added,
            "rated": self.rated,
            "already_known": self.already_known,
            "failed": self.failed,
        }


def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Folders, zips, tars, parquet tables or images.")
    ],
    taste: TasteId = "default",
    licence: Annotated[str, typer.Option(help="Licence of the images, as an SPDX id or free text.")] = "",
    consent: Annotated[str, typer.Option(help="Another person's images: the consent that covers them.")] = "",
    scraped: Annotated[bool, typer.Option("--scraped", help="Images collected elsewhere, without a consent.")] = False,
    as_json: Json = False,
) -> None:
    """Make images of any origin known: folders, files, zips, tars, parquet.

    PNG, JPEG and WebP are read; the originals are never written. Prompts are read from captions beside the images
    (.txt, .caption, metadata.jsonl, kohya's folders), else from what A1111, ComfyUI, NovelAI, InvokeAI and konomi
    wrote into them. Ratings of one to five stars from XMP, inside the image or in a sidecar, and grades of
    metadata.jsonl become the grades N to UR of images new to the taste.

    Example: konomi import ~/pictures favourites.zip
    """
    with attached() as client, progress(text("importing"), count_files(paths)) as update:
        profile = client.rater.ensure_taste(taste)
        given = rater.Image(source=_source(consent, scraped), licence=licence, consent=consent)
        summary = add_all(client, taste, paths, given, lambda done: update(completed=done))
        hint = advice(client, taste) if profile.embedder in ("", "starter") and summary.foreign else ""
    _remark(summary, hint)
    emit({"taste": taste_name(taste)} | summary.counts()) if as_json else _show(summary)
    if summary.failed:
        raise typer.Exit(FAILED)


def _remark(summary: ImportSummary, hint: str) -> None:
    """Notes which images were refused, and what would have read more of the others."""
    for failure in summary.failed:
        note(f"{failure['path']}: {failure['message']}")
    if hint:
        note(hint)
    if summary.unread and extras.missing("files"):
        line = "{count} images seem to hold a prompt that was not read; run: {line}"
        note(text(line, count=summary.unread, line=extras.pip_line("files")))


def _show(summary: ImportSummary) -> None:
    line = "{added} added, {known} known already, {failed} refused"
    say(text(line, added=summary.added, known=summary.already_known, failed=len(summary.failed)))
    if summary.rated:
        say(plural("{count} rating was taken over", "{count} ratings were taken over", summary.rated))


def _source(consent: str, scraped: bool) -> rater.Source.ValueType:
    """Returns where images come from by what was said of them.

    Raises:
        InvalidArgument: they were said to be both.
    """
    if consent and scraped:
        raise InvalidArgument(text("expected --consent or --scraped, not both"), field="consent")
    if consent:
        return rater.SOURCE_CONSENTED
    return rater.SOURCE_SCRAPED if scraped else rater.SOURCE_IMPORTED


def add_all(
    client: Client, taste: str, paths: Sequence[Path], given: rater.Image, report: Callable[[int], None]
) -> ImportSummary:
    """Stores the images and makes them known, some dozens at a time; a bad image is noted and passed over.

    Args:
        client: the services.
        taste: "tastes/{taste}" or the id.
        paths: folders, zips or images.
        given: what holds for all of them: source, licence, consent.
        report: told how many are done.
    """
    summary = ImportSummary()
    batch: list[ImageFile] = []
    for number, file in enumerate(find_images(paths), start=1):
        if file.error is not None:
            summary.fail(file.name, file.error)
        else:
            batch.append(file)
        if len(batch) == BATCH:
            _add(client, taste, batch, given, summary)
            report(number)
            batch = []
    _add(client, taste, batch, given, summary)
    return summary


def _add(client: Client, taste: str, batch: Sequence[ImageFile], given: rater.Image, summary: ImportSummary) -> None:
    requests: list[rater.AddImagesRequest] = []
    names: list[str] = []
    origins: list[Origin] = []
    for file in batch:
        try:
            digest = client.artifacts.put(file.data, file.media_type).digest
        except Unavailable:
            raise
        except KonomiError as error:
            summary.fail(file.name, error)
            continue
        origin = origin_of(file.data)
        summary.unread += not origin.prompt and not file.caption and says_more(file.data)
        prompt, seed = file.caption or origin.prompt, origin.seed or seed_of(file.facts)
        image = rater.Image(digest=digest, prompt=prompt, seed=seed)
        image.MergeFrom(given)
        requests.append(rater.AddImagesRequest(taste=taste_name(taste), image=image))
        names.append(file.name)
        origins.append(origin)
    if not requests:
        return
    new: list[str] = []
    for name, origin, result in zip(names, origins, client.rater.add_images.exchange(requests), strict=True):
        if result.HasField("error"):
            summary.fail(name, from_item(result.error.code, result.error.reason, result.error.message))
            continue
        summary.already_known += result.already_known
        summary.added += not result.already_known
        summary.foreign += not origin.starter
        if not result.already_known:
            new.append(name)
    _grade(client, taste, {file.name: file for file in batch}, dict(zip(names, requests, strict=True)), new, summary)


def _grade(
    client: Client,
    taste: str,
    files: Mapping[str, ImageFile],
    requests: Mapping[str, rater.AddImagesRequest],
    new: Sequence[str],
    summary: ImportSummary,
) -> None:
    """Records the ratings of images that are new; a known image keeps the grade the owner gave it here."""
    ratings = {name: grade_of(files[name].facts) or rating_of(Path(name), files[name].data) for name in new}
    labels = [
        rater.Label(image_digest=requests[name].image.digest, grade=rater.Grade.ValueType(rating))
        for name, rating in ratings.items()
        if rating
    ]
    if labels:
        client.rater.record_labels(taste=taste_name(taste), labels=labels)
        summary.rated += len(labels)
