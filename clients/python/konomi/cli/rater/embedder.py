"""`konomi rater embedder`: whether a taste's embedder knows its images; a change of it, or a second one beside."""

from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, progress, say, table
from konomi.client import Client
from konomi.client.messages import plain
from konomi.client.services import taste_name
from konomi.errors import Internal, InvalidArgument
from konomi.i18n.catalogue import text
from konomi.taste.embedder import sentence
from konomi.taste.rater_summary import embedders_compared
from konomi.v1 import rater_pb2 as rater


def embedder(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="The new embedder; none: only show.")] = "",
    taste: TasteId = "default",
    second: Annotated[
        bool | None,
        typer.Option("--second/--no-second", help="Keep it beside the one in use and compare; or no longer."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show which embedder looks at the images and which others are at hand, or change it.

    Images are embedded anew in the background; grades stay, and the old one scores until the new one is ready.
    NAME@bf16 or NAME@fp16 looks in half precision, which a GPU does several times as fast.

    With --second nothing changes over: images are embedded with both, and konomi rater show says which of the two
    orders your held-out grades better.

    Example: konomi rater embedder timm:tf_efficientnet_lite0
    """
    if second and not name:
        raise InvalidArgument(text("expected the embedder to keep beside the one in use, found none; name it"))
    if second is not None:
        _keep(name, taste, as_json, kept=second)
    elif name:
        _change(name, taste, as_json)
    else:
        _show(taste, as_json)


def _show(taste: str, as_json: bool) -> None:
    with attached() as client:
        advice = client.rater.advise_embedder(taste=taste_name(taste))
    if as_json:
        emit({"taste": taste_name(taste)} | plain(advice))
        return
    say(text("embedder: {name}", name=advice.embedder))
    if advice.second_embedder:
        say(text("second embedder, to be compared with it: {name}", name=advice.second_embedder))
    table(("at hand", "text search"), [(offer.embedder, "✓" if offer.reads_text else "") for offer in advice.offers])
    if advice.change:
        note(sentence(advice, taste))


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
        note(text("too few grades for a rater yet; run: konomi label, then: konomi rater fit"))


def _keep(name: str, taste: str, as_json: bool, *, kept: bool) -> None:
    """Keeps a second embedder, or ends that: the taste's own in its place is none."""
    with attached() as client:
        own = client.rater.get_taste(name=taste_name(taste)).embedder
        done = change(client, taste, name if kept else own, second=True)
    if as_json:
        emit(plain(done))
        return
    if not done.taste.second_embedder:
        say(text("no second embedder is kept"))
        return
    line = text(
        "{count} images embedded with {name} too", count=done.taste.image_count, name=done.taste.second_embedder
    )
    say(line)
    if done.HasField("rater_version"):
        for said in embedders_compared(done.rater_version):
            say(said)
    else:
        note(text("too few grades for a rater yet; run: konomi label, then: konomi rater fit"))


def change(client: Client, taste: str, embedder: str, *, second: bool = False) -> rater.ChangeEmbedderResponse:
    """Changes the embedder of a taste with a bar, and returns the outcome; the work goes on when this stops."""
    last: rater.ChangeEmbedderResponse | None = None
    with progress(text("embedding"), None) as update:
        for reply in client.rater.change_embedder(taste=taste_name(taste), embedder=embedder, second=second):
            if reply.HasField("progress"):
                step = reply.progress
                update(description=step.phase, completed=step.done, total=step.total or None)
            else:
                last = reply
    if last is None:
        raise Internal(text("the change ended without a taste; see the rater's log"))
    return last
