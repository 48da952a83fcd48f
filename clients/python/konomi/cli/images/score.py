"""`konomi score`: a folder graded the way the owner would."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, TasteId, attached, emit, note, progress, table
from konomi.cli.images.import_images import remark_on
from konomi.client.services import taste_name
from konomi.datasets.reader import count_files, find_images
from konomi.datasets.tally import Tally
from konomi.datasets.xmp import write_prediction
from konomi.home import Home
from konomi.host.signals import stop_signals
from konomi.i18n.catalogue import percent, plural, text
from konomi.taste.scoring import Scored, ScoreJournal, ScoreRun

INTERRUPTED = 130


class Target(Enum):
    """Where predictions may be written besides the terminal."""

    xmp = "xmp"


def score(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, zips or images.")],
    taste: TasteId = "default",
    write: Annotated[Target | None, typer.Option(help="Also write the predictions beside the images.")] = None,
    as_json: Json = False,
) -> None:
    """Grade a folder the way the owner would: best lower bound first, every grade with its doubt.

    --write xmp puts a sidecar IMAGE.xmp beside each image of a folder, the prediction in konomi's own namespace: the
    image itself, its owner's rating and other programs' sidecars are never written.

    Stopped or killed, the same command goes on where it was; a file that cannot be read is that file's own error.

    Example: konomi score ~/pictures --json
    """
    home = Home.locate()
    journal = ScoreJournal(home.root / "run" / "scores", taste, paths)
    tally = Tally()
    results, versions, stopped = _scored(paths, taste, journal, tally)
    if stopped:
        note(text("stopped after {count} images; the same command goes on from there", count=len(results)))
        raise typer.Exit(INTERRUPTED)
    remark_on(tally)
    if len(versions) > 1:
        note(text("the rater changed meanwhile: the same command scores again what the earlier one scored"))
    unwritten = _write_xmp(results) if write is Target.xmp else 0
    if as_json:
        version = versions[-1] if versions else ""
        scores = [scored.as_dict() for scored in results]
        emit({"taste": taste_name(taste), "rater_version": version, "scores": scores})
    else:
        _show(results)
    if unwritten or any(scored.score is None for scored in results):
        raise typer.Exit(FAILED)


def _scored(
    paths: Sequence[Path], taste: str, journal: ScoreJournal, tally: Tally
) -> tuple[list[Scored], list[str], bool]:
    """Returns the scores of some paths, the rater versions that gave them, and whether it was stopped early."""
    files = find_images(paths, tally)
    results: list[Scored] = []
    with stop_signals() as stopped, attached() as client, progress(text("scoring"), count_files(paths)) as update:
        for scored in ScoreRun(client, taste, journal, stopped).score(files):
            results.append(scored)
            update(completed=len(results))
    versions = sorted({scored.score.rater_version for scored in results if scored.score is not None})
    journal.close(finished=not stopped.is_set() and len(versions) <= 1)
    return results, versions, stopped.is_set()


def _show(results: Sequence[Scored]) -> None:
    """Prints the scores as a table, and beside it why a file has none."""
    table(("image", "grade", "utility", "±", "lower bound", "P(UR)", "typicality"), _rows(results))
    for scored in results:
        if scored.score is None:
            note(f"{scored.path}: {scored.error['message'] if scored.error else ''}")


def _write_xmp(results: Sequence[Scored]) -> int:
    """Writes a sidecar beside every scored image that is a file of its own; returns how many could not be written."""
    kept = unwritten = 0
    for scored in results:
        if scored.score is None or not (path := Path(scored.path)).is_file():
            continue
        prediction = {
            "grade": scored.grade,
            "utility": f"{scored.score.utility:.4f}",
            "std": f"{scored.score.std:.4f}",
            "lower_bound": f"{scored.score.lower_bound:.4f}",
            "typicality": f"{scored.score.typicality:.4f}",
            "rater_version": scored.score.rater_version,
        }
        try:
            kept += not write_prediction(path, prediction)
        except OSError as error:
            note(text("{path}: its sidecar cannot be written: {why}", path=path, why=error.strerror))
            unwritten += 1
    if kept:
        note(
            plural(
                "{count} image has a sidecar of another program, which was left as it is",
                "{count} images have a sidecar of another program, which was left as it is",
                kept,
            )
        )
    return unwritten


def _rows(results: Sequence[Scored]) -> list[Sequence[str]]:
    ranked = sorted(
        ((scored, scored.score) for scored in results if scored.score is not None),
        key=lambda pair: -pair[1].lower_bound,
    )
    return [
        (
            scored.path,
            scored.grade + (" ?" if score.unknown else ""),
            f"{score.utility:.2f}",
            f"{score.std:.2f}",
            f"{score.lower_bound:.2f}",
            percent(score.grade_probabilities[-1]) if score.grade_probabilities else "",
            f"{score.typicality:.2f}",
        )
        for scored, score in ranked
    ]
