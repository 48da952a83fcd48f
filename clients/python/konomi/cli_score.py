"""`konomi score`: a folder graded the way the owner would."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from konomi.client import Client
from konomi.console import FAILED, GRADES, Json, TasteId, attached, emit, note, plain, progress, table
from konomi.errors import Unimplemented
from konomi.image_files import ImageFile, count_files, find_images
from konomi.messages import text
from konomi.services import BATCH_BYTES, BATCH_IMAGES, taste_name
from konomi.v1 import rater_pb2 as rater


class Target(Enum):
    """Where predictions may be written besides the terminal."""

    xmp = "xmp"


@dataclass(frozen=True)
class Scored:
    """One image and its score, or why it has none."""

    path: str
    score: rater.Score | None = None
    error: dict[str, Any] | None = None

    @property
    def grade(self) -> str:
        """The most probable grade."""
        chances = list(self.score.grade_probabilities) if self.score else []
        return GRADES[chances.index(max(chances))] if len(chances) == len(GRADES) else ""

    def as_dict(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        if self.score is None:
            return {"path": self.path, "error": self.error}
        return {"path": self.path, "grade": self.grade} | plain(self.score)


def score(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, zips or images.")],
    taste: TasteId = "default",
    write: Annotated[Target | None, typer.Option(help="Also write the predictions beside the images.")] = None,
    as_json: Json = False,
) -> None:
    """Grade a folder the way the owner would: best lower bound first, every grade with its doubt.

    Example: konomi score ~/pictures --json
    """
    if write is not None:
        raise Unimplemented(text("--write xmp is not there yet; use --json and write the grades yourself"))
    with attached() as client, progress(text("scoring"), count_files(paths)) as update:
        results: list[Scored] = []
        for scored in score_files(client, taste, find_images(paths)):
            results.append(scored)
            update(completed=len(results))
    failed = [scored for scored in results if scored.score is None]
    if as_json:
        versions = {scored.score.rater_version for scored in results if scored.score is not None}
        emit(
            {
                "taste": taste_name(taste),
                "rater_version": next(iter(versions), ""),
                "scores": [scored.as_dict() for scored in results],
            }
        )
    else:
        table(("image", "grade", "utility", "±", "lower bound", "P(UR)", "typicality"), _rows(results))
        for scored in failed:
            note(f"{scored.path}: {scored.error['message'] if scored.error else ''}")
    if failed:
        raise typer.Exit(FAILED)


def score_files(client: Client, taste: str, files: Iterator[ImageFile]) -> Iterator[Scored]:
    """Yields a score or an error per file, in order, a batch at a time."""
    batch: list[ImageFile] = []
    size = 0
    for file in files:
        if batch and (len(batch) == BATCH_IMAGES or size + len(file.data) > BATCH_BYTES):
            yield from _score(client, taste, batch)
            batch, size = [], 0
        batch.append(file)
        size += len(file.data)
    yield from _score(client, taste, batch)


def _score(client: Client, taste: str, batch: Sequence[ImageFile]) -> Iterator[Scored]:
    inputs = [_input(client, file) for file in batch if file.error is None]
    results = iter(client.rater.score_images(taste=taste_name(taste), images=inputs).results if inputs else ())
    for file in batch:
        if file.error is not None:
            yield Scored(file.name, error={"reason": file.error.reason, "message": file.error.message})
            continue
        result = next(results)
        if result.HasField("error"):
            yield Scored(file.name, error={"reason": result.error.reason, "message": result.error.message})
        else:
            yield Scored(file.name, score=result.score)


def _input(client: Client, file: ImageFile) -> rater.ImageInput:
    """Returns the image inline, or stored and by its digest where it is larger than a message may be."""
    if len(file.data) > BATCH_BYTES:
        return rater.ImageInput(digest=client.artifacts.put(file.data, file.media_type).digest)
    return rater.ImageInput(content=file.data)


def _rows(results: Sequence[Scored]) -> list[Sequence[str]]:
    known = sorted(
        ((scored, scored.score) for scored in results if scored.score is not None),
        key=lambda pair: -pair[1].lower_bound,
    )
    return [
        (
            scored.path,
            scored.grade + (" ?" if found.unknown else ""),
            f"{found.utility:.2f}",
            f"{found.std:.2f}",
            f"{found.lower_bound:.2f}",
            f"{found.grade_probabilities[-1]:.0%}" if found.grade_probabilities else "",
            f"{found.typicality:.2f}",
        )
        for scored, found in known
    ]
