"""`konomi score`: a folder graded the way the owner would."""

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, TasteId, attached, emit, note, progress, table
from konomi.cli.images.import_images import remark_on
from konomi.client.messages import GRADES
from konomi.client.services import taste_name
from konomi.datasets.reader import count_files, find_images
from konomi.datasets.tally import Tally
from konomi.datasets.xmp import NO_MARKS, Marks, write_prediction
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.host.signals import stop_signals
from konomi.i18n.catalogue import percent, plural, text
from konomi.taste.scoring import Scored, ScoreJournal, ScoreRun
from konomi.taste.scoring.picking import best

INTERRUPTED = 130


class Target(Enum):
    """Where predictions may be written besides the terminal."""

    xmp = "xmp"


class Mark(Enum):
    """Fields of XMP that other programs show, into which a predicted grade may go."""

    rating = "rating"
    label = "label"
    keyword = "keyword"


class Program(Enum):
    """Programs that read sidecars, by the name they read."""

    darktable = "darktable"
    digikam = "digikam"
    lightroom = "lightroom"


COLOURS = {"N": "Red", "R": "Yellow", "SR": "Green", "SSR": "Blue", "UR": "Purple"}
"""A grade's colour label: the five of Lightroom, darktable and digiKam, in the order of their keys."""


Marked = Annotated[
    list[Mark] | None,
    typer.Option("--as", help="With --write xmp: also as what other programs show; may be given again."),
]
Whose = Annotated[
    Program, typer.Option("--for", help="With --write xmp: whose sidecar name; lightroom reads NAME.xmp.")
]
Top = Annotated[int | None, typer.Option(min=1, help="Only the best, with --json too best first.")]


def score(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, zips or images.")],
    taste: TasteId = "default",
    write: Annotated[Target | None, typer.Option(help="Also write the predictions beside the images.")] = None,
    marks: Marked = None,
    program: Whose = Program.darktable,
    top: Top = None,
    as_json: Json = False,
) -> None:
    """Grade a folder the way the owner would: best lower bound first, every grade with its doubt.

    With --json the scores stand in the order of the files; with --top N the best N, best lower bound first.

    --write xmp puts a sidecar IMAGE.xmp beside each image of a folder, the prediction in konomi's own namespace: the
    image itself, its owner's rating and other programs' sidecars are never written.

    --as rating, --as label and --as keyword also write stars, a colour (red for N to purple for UR) or the keyword
    "konomi SSR", into other programs' sidecars too. Whatever somebody else wrote there stays, and konomi import does
    not take such stars for your grade.

    Stopped or killed, the same command goes on where it was; a file that cannot be read is that file's own error.

    Example: konomi score ~/pictures --json
    """
    if marks and write is not Target.xmp:
        raise InvalidArgument(text("--as says how predictions are written: it needs --write xmp"), field="as")
    results, version = _finished(paths, taste)
    shown = results if top is None else [*best(results, top), *(one for one in results if one.score is None)]
    unwritten = _write_xmp(shown, marks or (), program) if write is Target.xmp else 0
    if as_json:
        scores = [scored.as_dict() for scored in shown]
        emit({"taste": taste_name(taste), "rater_version": version, "scores": scores})
    else:
        _show(shown)
    if unwritten or any(scored.score is None for scored in results):
        raise typer.Exit(FAILED)


def _finished(paths: Sequence[Path], taste: str) -> tuple[list[Scored], str]:
    """Returns the scores of some paths and the rater version that gave the last of them.

    Raises:
        typer.Exit: it was stopped; the same command goes on from there.
    """
    journal = ScoreJournal(Home.locate().root / "run" / "scores", taste, paths)
    tally = Tally()
    results, versions, stopped = _scored(paths, taste, journal, tally)
    if stopped:
        note(text("stopped after {count} images; the same command goes on from there", count=len(results)))
        raise typer.Exit(INTERRUPTED)
    remark_on(tally)
    if len(versions) > 1:
        note(text("the rater changed meanwhile: the same command scores again what the earlier one scored"))
    return results, versions[-1] if versions else ""


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


def _write_xmp(results: Sequence[Scored], marks: Sequence[Mark], program: Program) -> int:
    """Writes a sidecar beside every scored image that is a file of its own; returns how many could not be written."""
    kept = unwritten = guesses = 0
    for scored in results:
        if scored.score is None or not (path := Path(scored.path)).is_file():
            continue
        guesses += bool(marks) and scored.score.unknown
        shown = NO_MARKS if scored.score.unknown else _marks(scored.grade, marks)
        try:
            stem = program is Program.lightroom
            kept += not write_prediction(path, _prediction(scored), shown, beside_stem=stem)
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
    if guesses:
        note(
            plural(
                "{count} image is unlike anything graded: its grade is a guess and was not written as a mark",
                "{count} images are unlike anything graded: their grades are guesses and were not written as marks",
                guesses,
            )
        )
    return unwritten


def _prediction(scored: Scored) -> dict[str, str]:
    """Returns what is written into konomi's own namespace."""
    assert scored.score is not None
    return {
        "grade": scored.grade,
        "utility": f"{scored.score.utility:.4f}",
        "std": f"{scored.score.std:.4f}",
        "lower_bound": f"{scored.score.lower_bound:.4f}",
        "typicality": f"{scored.score.typicality:.4f}",
        "rater_version": scored.score.rater_version,
    }


def _marks(grade: str, wanted: Sequence[Mark]) -> Marks:
    """Returns what other programs are to show of a grade."""
    if not grade:
        return NO_MARKS
    return Marks(
        rating=str(GRADES.index(grade) + 1) if Mark.rating in wanted else "",
        label=COLOURS[grade] if Mark.label in wanted else "",
        keyword=f"konomi {grade}" if Mark.keyword in wanted else "",
    )


def _rows(results: Sequence[Scored]) -> list[Sequence[str]]:
    ranked = [(scored, scored.score) for scored in best(results, None) if scored.score is not None]
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
