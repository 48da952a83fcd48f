"""`konomi import`: images of any origin become known to a taste, their prompts and ratings with them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, TasteId, attached, emit, note, progress, say
from konomi.client import Client
from konomi.client.services import taste_name
from konomi.datasets.reader import LINKS, count_files, find_images
from konomi.datasets.tally import Tally
from konomi.errors import InvalidArgument
from konomi.i18n.catalogue import N_, plural, text
from konomi.taste.embedder import advice
from konomi.taste.importing import ImportRun, ImportSummary
from konomi.v1 import rater_pb2 as rater

NAMES = {
    "rating": N_("ratings"),
    "prompt": N_("prompts"),
    "seed": N_("seeds"),
    "caption": N_("captions"),
    "row": N_("rows of metadata"),
}
"""What can be there and not be understood, in words."""

MOST_LINES = 20
"""Lines about what was not understood; JSON names the rest too."""


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

    PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF and HEIC are read; the originals are never written. Prompts are read from
    captions beside the images (.txt, .caption, metadata.jsonl, kohya's folders), else from what A1111, ComfyUI,
    NovelAI, InvokeAI, Fooocus, SwarmUI and konomi wrote into them. Ratings of one to five stars from XMP, inside the
    image or in a sidecar, and grades of metadata.jsonl become the grades N to UR of images that nobody has graded in
    the taste yet. Each image keeps the name it has below the folder or archive that is named here.

    What was there and not understood is named; an import that was stopped is finished by the same command.

    Example: konomi import ~/pictures favourites.zip
    """
    given = rater.Image(source=_source(consent, scraped), licence=licence, consent=consent)
    with attached() as client, progress(text("importing"), count_files(paths)) as update:
        profile = client.rater.ensure_taste(taste)
        summary = add_all(client, taste, paths, given, lambda done: update(completed=done))
        hint = advice(client, taste) if profile.embedder in ("", "starter") and summary.foreign else ""
    _remark(summary, hint)
    emit({"taste": taste_name(taste)} | summary.counts()) if as_json else _show(summary)
    if summary.failed or not summary.images:
        raise typer.Exit(FAILED)


def add_all(
    client: Client, taste: str, paths: Sequence[Path], given: rater.Image, report: Callable[[int], None]
) -> ImportSummary:
    """Finds the images of some paths and makes them known; arguments as for `ImportRun`."""
    summary = ImportSummary()
    ImportRun(client, taste, given, summary).add_all(find_images(paths, summary.tally), report)
    return summary


def _remark(summary: ImportSummary, hint: str) -> None:
    """Notes which images were refused, what was not understood, and what was passed over."""
    for failure in summary.failed:
        note(f"{failure['path']}: {failure['message']}")
    remark_on(summary.tally)
    if hint:
        note(hint)
    if not summary.images:
        note(text("no image was found; nothing was imported"))


def remark_on(tally: Tally) -> None:
    """Notes what a search for images did not understand, and what it passed over."""
    for unread in tally.unread[:MOST_LINES]:
        note(f"{unread.path}: {unread.message}")
    beyond = tally.unread_counts.total() - len(tally.unread[:MOST_LINES])
    if beyond:
        line = "and {count} more that was not understood; --json names them"
        note(text(line, count=beyond))
    if tally.passed_over:
        note(passed_over_sentence(tally.passed_over))


def passed_over_sentence(passed_over: Mapping[str, int]) -> str:
    """Returns which kinds of files were not read, most first, and how many links were not followed."""
    kinds = {kind: count for kind, count in passed_over.items() if kind != LINKS}
    ranked = sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0]))
    named = ", ".join(f"{kind} {count}" for kind, count in ranked)
    parts = []
    if kinds:
        one = "{count} file is of a kind konomi does not read: {kinds}"
        parts.append(
            plural(one, "{count} files are of kinds konomi does not read: {kinds}", sum(kinds.values()), kinds=named)
        )
    if passed_over.get(LINKS):
        parts.append(plural("{count} link not followed", "{count} links not followed", passed_over[LINKS]))
    return "; ".join(parts)


def _show(summary: ImportSummary) -> None:
    line = "{added} added, {known} known already, {failed} refused"
    say(text(line, added=summary.added, known=summary.already_known, failed=len(summary.failed)))
    if summary.rated:
        say(plural("{count} rating was taken over", "{count} ratings were taken over", summary.rated))
    unread = summary.tally.unread_counts
    if unread:
        counts = ", ".join(f"{text(NAMES[what])} {count}" for what, count in unread.items())
        say(text("not understood: {counts}", counts=counts))


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
