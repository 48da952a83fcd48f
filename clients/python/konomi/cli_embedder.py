"""`konomi rater embedder`: whether a taste's embedder knows its images, and the change to a better one."""

from typing import Annotated

import typer

from konomi.console import Json, TasteId, attached, emit, note, plain, say, table
from konomi.embedders import change, sentence
from konomi.messages import text
from konomi.services import taste_name


def embedder(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The new embedder; none: only show.")] = "",
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Show which embedder looks at the images and which others are at hand, or change it.

    Images are embedded anew in the background; grades stay, and the old one scores until the new one is ready.

    Example: konomi rater embedder timm:tf_efficientnet_lite0
    """
    if name:
        _change(name, taste, as_json)
    else:
        _show(taste, as_json)


def _show(taste: str, as_json: bool) -> None:
    with attached() as client:
        found = client.rater.advise_embedder(taste=taste_name(taste))
    if as_json:
        emit({"taste": taste_name(taste)} | plain(found))
        return
    say(text("embedder: {name}", name=found.embedder))
    table(("at hand", "text search"), [(offer.embedder, "✓" if offer.reads_text else "") for offer in found.offers])
    if found.change:
        note(sentence(found, taste))


def _change(name: str, taste: str, as_json: bool) -> None:
    with attached() as client:
        done = change(client, taste, name)
    if as_json:
        emit(plain(done))
        return
    line = text("{count} images embedded with {name}", count=done.taste.image_count, name=done.taste.embedder)
    say(line)
    if done.HasField("rater_version"):
        say(text("{name} scores now", name=done.rater_version.name))
    else:
        note(text("too few grades for a rater yet: `konomi label`, then `konomi rater fit`"))
