"""`konomi map`: the taste seen from above, as a table of its regions, JSON, or a picture in a file."""

from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, say, table
from konomi.client.messages import plain
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument
from konomi.files import write_for_user
from konomi.host import extras
from konomi.i18n.catalogue import text
from konomi.night.report import taste_map
from konomi.v1 import rater_pb2 as rater

KINDS = (".svg", ".html")
LISTED = 20


def map_(
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Also draw it: map.svg, or map.html with pictures of each region."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=5000, help="Images on the map at most.")] = 2000,
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Lay the images of a taste out on a plane, like by like: your grades, what is expected, regions you like.

    The plane is that of the two directions in which the images differ most (PCA). How much of the differences it shows
    is said with it: images that lie together may still differ in what is left.

    Example: konomi map --out map.html

    Example: konomi map --json
    """
    kind = _kind(out)
    with attached() as client:
        found = client.rater.map_images(taste=taste_name(taste), count=count)
        if out is not None:
            drawn = taste_map.html(found, client.artifacts.get) if kind == ".html" else taste_map.svg(found)
            write_for_user(out, drawn.encode())
    if as_json:
        return emit({"taste": taste_name(taste), **plain(found), "out": str(out) if out is not None else None})
    return _print(found, out)


def _kind(out: Path | None) -> str:
    """Returns the ending of the file that is asked for, "" where none is; an HTML page needs the page's libraries."""
    kind = "" if out is None else out.suffix.lower()
    if out is not None and kind not in KINDS:
        raise InvalidArgument(
            text("expected a file that ends in .svg or .html, got {name}", name=out.name), field="out"
        )
    if kind == ".html":
        extras.require_page()
    return kind


def _print(found: rater.ImageMap, out: Path | None) -> None:
    """Prints the regions, what must be known to read them, and where the picture is."""
    if found.points:
        _print_regions(found)
    else:
        note(text("no images to lay out yet; run: konomi import PATH"))
    for line in taste_map.remarks(found):
        say(line)
    if out is not None:
        say(str(out))


def _print_regions(found: rater.ImageMap) -> None:
    """Prints the regions liked most, then the largest."""
    ranked = taste_map.ranked(found)
    rows = [
        (
            str(region.region),
            str(region.images),
            str(region.graded),
            str(region.liked),
            taste_map.expected(found, region.region),
            text("island") if region.island else "",
        )
        for region in ranked[:LISTED]
    ]
    table(("region", "images", "graded", "SSR or better", "expected", ""), rows)
    if len(ranked) > LISTED:
        note(text("and {count} smaller regions; --json names all", count=len(ranked) - LISTED))
