"""What to do about a taste whose images its embedder does not know, and the change to another embedder."""

from konomi.client import Client
from konomi.console import progress
from konomi.errors import Internal
from konomi.extras import pip_line
from konomi.messages import text
from konomi.services import taste_name
from konomi.v1 import rater_pb2 as rater

LITE = "timm:tf_efficientnet_lite0"
"""The embedder whose weights come inside a package of the extra [offline]."""


def advice(client: Client, taste: str) -> str:
    """Returns what to do about a taste whose images only the starter embedder looks at; empty where it knows them."""
    found = client.rater.advise_embedder(taste=taste_name(taste))
    return sentence(found, taste) if found.change else ""


def sentence(found: rater.EmbedderAdvice, taste: str) -> str:
    """Returns the advice in words: the fact, then the line that changes it with the best embedder at hand."""
    fact = text(
        "the starter embedder knows only starter portraits, and {share:.0%} of this taste's own images are others",
        share=found.foreign_share,
    )
    if found.offers:
        return f"{fact}: {text('run: {line}', line=change_line(found.offers[0].embedder, taste))}"
    line = change_line(LITE, taste)
    return f"{fact}: {text('run: {pip}, then: {line}', pip=pip_line('offline'), line=line)}"


def change_line(embedder: str, taste: str) -> str:
    """Returns the command that changes a taste's embedder."""
    name = taste.removeprefix("tastes/")
    return f"konomi rater embedder {embedder}" + ("" if name == "default" else f" --taste {name}")


def change(client: Client, taste: str, embedder: str) -> rater.ChangeEmbedderResponse:
    """Changes the embedder of a taste with a bar, and returns the outcome; the work goes on when this stops."""
    last: rater.ChangeEmbedderResponse | None = None
    with progress(text("embedding"), None) as update:
        for reply in client.rater.change_embedder(taste=taste_name(taste), embedder=embedder):
            if reply.HasField("progress"):
                step = reply.progress
                update(description=step.phase, completed=step.done, total=step.total or None)
            else:
                last = reply
    if last is None:
        raise Internal("the change ended without a taste; see the rater's log")
    return last
