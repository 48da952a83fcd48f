"""What to do about a taste whose images its embedder does not know, and the change to another embedder."""

from konomi.client import Client
from konomi.client.services import taste_name
from konomi.host.extras import pip_line
from konomi.i18n.catalogue import percent, text
from konomi.v1 import rater_pb2 as rater

LITE = "timm:tf_efficientnet_lite0"
"""The embedder whose weights come inside a package of the extra [offline]."""
CLIP_NAME, CLIP = "clip-vit-b-32", "open_clip:ViT-B-32/laion2b_s34b_b79k"
"""The smallest embedder that reads words which `konomi models fetch` knows: its name there, and as an embedder."""


def advice(client: Client, taste: str) -> str:
    """Returns what to do about a taste whose images only the starter embedder looks at; empty where it knows them."""
    offer = client.rater.advise_embedder(taste=taste_name(taste))
    return sentence(offer, taste) if offer.change else ""


def sentence(advice: rater.EmbedderAdvice, taste: str) -> str:
    """Returns the advice in words: the fact, then the line that changes it with the best embedder at hand."""
    fact = text(
        "the starter embedder knows only starter portraits, and {share} of your pictures show something else",
        share=percent(advice.foreign_share),
    )
    first, *then = lines(advice, taste)
    if not then:
        return f"{fact}: {text('run: {line}', line=first)}"
    return f"{fact}: {text('run: {pip}, then: {line}', pip=first, line=then[0])}"


def lines(advice: rater.EmbedderAdvice, taste: str) -> list[str]:
    """Returns the lines to run for another embedder: the change where one is at hand, else what brings one too."""
    if advice.offers:
        return [change_line(advice.offers[0].embedder, taste)]
    return [pip_line("offline"), change_line(LITE, taste)]


def reading_lines(advice: rater.EmbedderAdvice, taste: str) -> list[str]:
    """Returns the lines to run for an embedder that reads words; if none is at hand, what fetches one first."""
    for offer in advice.offers:
        if offer.reads_text:
            return [change_line(offer.embedder, taste)]
    return [f"konomi models fetch {CLIP_NAME}", change_line(CLIP, taste)]


def change_line(embedder: str, taste: str) -> str:
    """Returns the command that changes a taste's embedder."""
    name = taste.removeprefix("tastes/")
    return f"konomi rater embedder {embedder}" + ("" if name == "default" else f" --taste {name}")
