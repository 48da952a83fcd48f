"""`konomi draw`: some images to look at, by words, or like those a taste likes best, before any training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, progress, say, table
from konomi.cli.images.explore import likeliest_grade, write_image
from konomi.client import Client
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument, NotFound
from konomi.i18n.catalogue import text
from konomi.taste import likeness
from konomi.taste.likeness import Sketch, Wish


def draw(
    words: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT...]", help="What to draw, in words.")] = None,
    like: Annotated[
        list[str] | None,
        typer.Option("--like", metavar="TASTE|DIGEST", help="Draw what looks like a taste's UR, or like an image."),
    ] = None,
    draft: Annotated[
        bool, typer.Option("--draft", help="Draw in a few steps, by the base's few-step adapter.")
    ] = False,
    count: Annotated[int, typer.Option(min=1, max=256, help="How many images.")] = 8,
    base: Annotated[
        str, typer.Option("--base", metavar="NAME", help="The base model; the taste's own otherwise.")
    ] = "",
    scale: Annotated[float | None, typer.Option(min=0, max=1, help="How strongly the images to be like count.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31 - 1, help="Seed of the first image.")] = 0,
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write the images there, to look at.")
    ] = None,
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Draw some images to look at: by words, or like those you graded UR, before any training.

    They are rated, best first, and stay out of the taste; konomi import takes in those you save. --like needs an
    IP-Adapter of the base model, --draft a few-step adapter: konomi models show NAME says whether they are there.

    Example: konomi draw --like default --draft --count 8 --save look
    """
    if not (words or like):
        raise InvalidArgument(text("say what to draw: a prompt, or --like with a taste or the digest of an image"))
    with attached() as client, progress(text("drawing"), count) as update:
        wish = _wish(client, words or [], like or [], taste, Wish(base, (), count, seed, (), scale, draft))
        sketches = likeness.draw(client, taste_name(taste), wish, lambda done: update(completed=done))
        saved = [write_image(client, sketch.digest, save) for sketch in sketches] if save else []
    if as_json:
        images = [_plain(sketch) for sketch in sketches]
        about = {"taste": taste_name(taste), "base_model": wish.base_model, "draft": draft, "like": list(wish.like)}
        emit({**about, "images": images, "saved": saved})
    else:
        _show(sketches, saved, draft=draft)


def _show(sketches: Sequence[Sketch], saved: Sequence[str], *, draft: bool) -> None:
    """Prints what was drawn as a table, and where it was written."""
    table(("image", "grade", "lower bound", "prompt"), [_row(sketch) for sketch in sketches])
    for path in saved:
        say(path)
    if draft:
        note(text("these are drafts: the same words and seeds without --draft draw them in full"))


def _wish(client: Client, words: Sequence[str], like: Sequence[str], taste: str, wish: Wish) -> Wish:
    """Returns the wish with what it leaves open: the taste's base model, images to be like, and their prompts."""
    liked = likeness.liked(client, like, wish.seed)
    base = wish.base_model
    if not base:
        try:
            base = client.rater.get_taste(name=taste_name(taste)).base_model
        except NotFound:
            base = ""
    prompts = tuple(words) or liked.prompts
    return Wish(base or "starter", prompts, wish.count, wish.seed, liked.digests, wish.scale, wish.draft)


def _plain(sketch: Sketch) -> dict[str, object]:
    said: dict[str, object] = {"digest": sketch.digest, "prompt": sketch.prompt, "seed": sketch.seed}
    if sketch.score is None:
        return said
    return said | {
        "grade": likeliest_grade(sketch.score),
        "utility": sketch.score.utility,
        "std": sketch.score.std,
        "lower_bound": sketch.score.lower_bound,
    }


def _row(sketch: Sketch) -> tuple[str, str, str, str]:
    grade, bound = "", ""
    if sketch.score is not None:
        grade, bound = likeliest_grade(sketch.score), f"{sketch.score.lower_bound:.2f}"
    return sketch.digest[:12], grade, bound, sketch.prompt
