"""`konomi export kohya | webdataset | parquet DIR`: images with captions, grades and scores for other tools."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, progress, say
from konomi.client.messages import GRADES
from konomi.client.services import taste_name
from konomi.datasets.kohya import write_kohya
from konomi.datasets.records import DatasetRecord, count, records
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.files import hand_over
from konomi.host import extras
from konomi.i18n.catalogue import plural, text


class DatasetFormat(Enum):
    """Datasets other tools read."""

    kohya = "kohya"
    webdataset = "webdataset"
    parquet = "parquet"


def export(
    to: Annotated[DatasetFormat, typer.Argument(metavar="kohya|webdataset|parquet", help="The layout.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is empty or not there yet.")],
    taste: TasteId = "default",
    grade: Annotated[
        list[str] | None, typer.Option(metavar="N|R|SR|SSR|UR", help="Only images you graded so; may repeat.")
    ] = None,
    unit: Annotated[str, typer.Option(help="Only images this unit made, by its id.")] = "",
    quality_words: Annotated[
        bool, typer.Option("--quality-words", help="Begin captions with the quality word of your grade.")
    ] = False,
    concept: Annotated[str, typer.Option(help="kohya: class tokens.")] = "konomi",
    repeats: Annotated[int, typer.Option(min=1, help="kohya: how often an epoch shows each image.")] = 1,
    resolution: Annotated[int, typer.Option(min=64, help="kohya: for dataset.toml, in pixels.")] = 512,
    shard: Annotated[int, typer.Option(min=1, help="The others: images of a file at most.")] = 1000,
    as_json: Json = False,
) -> None:
    """Write images with captions, grades, scores and digests as a dataset other tools load.

    Your grades and the rater's predictions stand in fields of their own, and a prediction never takes a grade's place.
    The folder is there whole or not at all; a file of yours is never overwritten.

    Example: konomi export kohya dataset --grade UR --grade SSR
    """
    grades = [_grade(name) for name in grade or ()]
    if not re.fullmatch(r"[A-Za-z0-9 -]{1,40}", concept):
        raise InvalidArgument(text("expected a concept of letters, digits, spaces and hyphens, got {got}", got=concept))
    if to is not DatasetFormat.kohya:
        extras.require("files")
    with (
        attached() as client,
        whole(folder) as place,
        progress(text("writing"), count(client, taste, grades, unit)) as update,
    ):
        dataset = records(client, taste, grades, unit, quality_words)
        written = _writer(to, concept, repeats, resolution, shard)(place, _watched(dataset, update))
    if as_json:
        emit({"folder": str(folder), "format": to.value, "taste": taste_name(taste), "images": written})
    else:
        say(plural("{count} image written to {folder}", "{count} images written to {folder}", written, folder=folder))


def _writer(
    to: DatasetFormat, concept: str, repeats: int, resolution: int, shard: int
) -> Callable[[Path, Iterator[DatasetRecord]], int]:
    if to is DatasetFormat.kohya:
        return lambda place, dataset: write_kohya(place, dataset, concept, repeats, resolution)
    from konomi.datasets.webdataset import write_shards, write_tables

    write = write_shards if to is DatasetFormat.webdataset else write_tables
    return lambda place, dataset: write(place, dataset, shard)


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yields a new folder that takes the place of `folder` when the block ends well, and goes away when it does not.

    Raises:
        FailedPrecondition: something lies in the folder already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FailedPrecondition(
            text("expected a folder that is empty or not there yet, found files in {folder}", folder=folder),
            reason="FOLDER_NOT_EMPTY",
        )
    place = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
        hand_over(place)
        if folder.exists():
            folder.rmdir()
        place.replace(folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _grade(name: str) -> str:
    if name.upper() not in GRADES:
        raise InvalidArgument(text("expected a grade of N, R, SR, SSR and UR, got {got}", got=name), field="grade")
    return name.upper()


def _watched(dataset: Iterator[DatasetRecord], update: Callable[..., None]) -> Iterator[DatasetRecord]:
    for number, record in enumerate(dataset, start=1):
        yield record
        update(completed=number)
