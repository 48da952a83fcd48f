"""`konomi concepts ...`: new words for things a base model does not know, from a few images each."""

import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, progress, say
from konomi.client import Client
from konomi.client.messages import plain
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument
from konomi.i18n.catalogue import text
from konomi.night.gateway import manifests
from konomi.night.gateway.concepts import SLOT, Lesson, images_of, read_lesson, regularisation
from konomi.night.gateway.concepts import teach as run_lesson
from konomi.v1 import trainer_pb2 as trainer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """New words for things a base model does not know."""


@app.command()
def teach(
    concepts: Annotated[list[str], typer.Argument(metavar="NAME=CLASS:FOLDER...", help="Word, kind and images.")],
    name: Annotated[str, typer.Option(help="Name of the new model.")],
    prompt: Annotated[str, typer.Option(help="What the images show; {} stands for the concept.")] = "photo of a {}",
    real: Annotated[
        Path | None, typer.Option("--regularisation", metavar="FOLDER", help="Real images with captions (.txt).")
    ] = None,
    base: Annotated[str, typer.Option(help="The base model, by its id.")] = "starter",
    steps: Annotated[int, typer.Option(min=0, help="Training steps; 0 takes the default.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of noise and order.")] = 0,
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Teach concepts from a few images each; prompts then call them by <NAME>.

    Example: konomi concepts teach cat-1=cat:photos/tama --regularisation photos/cats --name tama
    """
    if prompt.count(SLOT) != 1:
        raise InvalidArgument(text("expected one {slot} in the prompt, got {prompt}", slot=SLOT, prompt=prompt))
    lessons = [read_lesson(line) for line in concepts]
    with attached() as client:
        items = _items(client, taste, lessons, prompt, real)
        request = trainer.CreateTrainingRunRequest(
            taste=taste_name(taste), method=trainer.TRAINING_METHOD_CUSTOM_DIFFUSION, base_model=base, seed=seed,
            hyper_parameters=trainer.HyperParameters(steps=steps), display_name=name, request_id=str(uuid.uuid4()),
            concepts=[trainer.Concept(token=lesson.token, class_word=lesson.class_word) for lesson in lessons],
        )  # fmt: skip
        with progress(text("teaching"), None) as update:
            model = run_lesson(client, request, items, lambda done, total: update(completed=done, total=total or None))
    if as_json:
        emit(plain(model))
    else:
        words = ", ".join(f"{lesson.token} {lesson.class_word}" for lesson in lessons)
        say(text("{name} knows: {words}", name=model.display_name, words=words))


def _items(
    client: Client, taste: str, lessons: Sequence[Lesson], prompt: str, real: Path | None
) -> list[manifests.Item]:
    """Returns what the run learns from: the images of the concepts, and real ones of their classes where given."""
    items: list[manifests.Item] = []
    for lesson in lessons:
        caption = prompt.replace(SLOT, f"{lesson.token} {lesson.class_word}")
        items += images_of(client, lesson.folder, caption, "selected")
    if real is None:
        note(text("no --regularisation folder: the class word may drift towards the concept"))
        return items
    prior, warnings = regularisation(client, taste, real, lessons, prompt, items)
    for warning in warnings:
        note(warning)
    return items + prior
