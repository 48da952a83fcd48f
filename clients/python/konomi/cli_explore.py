"""`konomi explore`: the long tail, images far from everything known and yet plausible."""

from pathlib import Path
from typing import Annotated

import typer

from konomi.client import Client
from konomi.console import GRADES, Json, TasteId, attached, emit, note, plain, say, table
from konomi.home import write_atomically
from konomi.image_files import media_type_of
from konomi.messages import text
from konomi.preview import SUFFIXES
from konomi.services import taste_name
from konomi.v1 import rater_pb2 as rater


def explore(
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many images.")] = 10,
    taste: TasteId = "default",
    save: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write the images there, to look at.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Find images far from everything known, worth a look: most novel first.

    Example: konomi explore --count 20 --save look
    """
    with attached() as client:
        images = list(client.rater.explore_novelty(taste=taste_name(taste), count=count).images)
        saved = [_save(client, image, save) for image in images] if save else []
    if as_json:
        emit({"taste": taste_name(taste), "images": [plain(image) for image in images], "saved": saved})
        return
    if not images:
        note(text("nothing novel and plausible yet: make or import more images"))
        return
    rows = [
        (image.digest[:12], f"{image.score.novelty:.3f}", _guess(image), image.prompt)
        if image.HasField("score")
        else (image.digest[:12], "", "", image.prompt)
        for image in images
    ]
    table(("image", "novelty", "grade", "prompt"), rows)
    for path in saved:
        say(path)


def _guess(image: rater.Image) -> str:
    chances = list(image.score.grade_probabilities)
    return GRADES[chances.index(max(chances))] if len(chances) == len(GRADES) else ""


def _save(client: Client, image: rater.Image, folder: Path) -> str:
    data = client.artifacts.get(image.digest)
    path = folder / (image.digest[:16] + SUFFIXES.get(media_type_of(data[:12]), ".bin"))
    write_atomically(path, data)
    return str(path)
