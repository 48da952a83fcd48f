"""`konomi label`: grades by single keys in the terminal, and grades in and out of a file."""

import re
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from konomi.client import Client
from konomi.console import Json, TasteId, attached, emit, note, say
from konomi.errors import InvalidArgument
from konomi.grade_file import read_grades, write_grades
from konomi.keys import read_keys
from konomi.labelling import Session
from konomi.messages import text
from konomi.preview import show

HELP = "1 N · 2 R · 3 SR · 4 SSR · 5 UR · 0 clear · z undo · space skip · q quit"


def label(
    taste: TasteId = "default",
    export: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the grades in force to it.")] = None,
    import_file: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Record the grades of a file written by --export.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Grade images with single keys, or move grades to and from files.

    1 to 5 grade N, R, SR, SSR, UR; 0 clears, z undoes, space skips, q quits. Each key is durable before the next
    image. Without a terminal one key is read per line.

    Example: konomi label --export grades.jsonl
    """
    if export is not None and import_file is not None:
        raise InvalidArgument(text("expected one of --export and --import, got both"))
    with attached() as client:
        if export is not None:
            count = write_grades(client, taste, export)
            result, line = {"exported": count}, text("{count} grades written to {file}", count=count, file=export)
        elif import_file is not None:
            count = read_grades(client, taste, import_file)
            result, line = {"imported": count}, text("{count} grades recorded", count=count)
        else:
            result = grade(client, taste)
            line = text("{labels} graded, {undone} undone, {skipped} skipped", **result)
    if as_json:
        emit(dict(result))
    else:
        say(line)


def grade(client: Client, taste: str) -> dict[str, int]:
    """Shows image after image and records a key for each, until q, the end of the input, or the last image."""
    client.rater.ensure_taste(taste)
    session = Session(client, taste)
    note(text(HELP))
    with tempfile.TemporaryDirectory(prefix="konomi-label-") as folder, read_keys() as keys:
        while (image := session.current()) is not None:
            show(client.artifacts.get(image.digest), image, Path(folder))
            key = next(keys, "q")
            if key == "q":
                break
            if re.fullmatch("[0-5]", key):
                session.grade(int(key))
            elif key == "z":
                session.undo()
            elif key == " ":
                session.skip()
            elif keys.interactive:
                note(text(HELP))
            else:
                raise InvalidArgument(text("expected one of 0-5, z, space and q on each line, got {key!r}", key=key))
        else:
            note(text("nothing left to grade: make or import more images"))
    return session.counts()
