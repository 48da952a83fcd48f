"""`konomi storage migrate`: the rater's rows from SQLite to PostgreSQL, and back; a process of the rater moves them."""

import json
import subprocess
import sys
from typing import Annotated

import typer

from konomi.cli.console import Json, emit, say
from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi.host import extras
from konomi.i18n.catalogue import text

MOVER = "konomi_rater.migration"
"""Module of the rater that moves its rows and prints a line of JSON for each table, or one that says why not."""


def migrate(
    back: Annotated[bool, typer.Option("--back", help="From PostgreSQL into SQLite files of the home.")] = False,
    as_json: Json = False,
) -> None:
    """Move what the rater knows from SQLite to the PostgreSQL of [database] url, or back. Every row is compared.

    Stop konomi first. What was left stays under another name. Cut short, the same command ends it.

    Example: konomi storage migrate
    """
    extras.require("rater")
    home = Home.locate()
    command = [sys.executable, "-m", MOVER, "--home", str(home.root), *(["--back"] if back else [])]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    if ran.returncode:
        raise _refusal(lines)
    moved = {str(line["table"]): int(line["rows"]) for line in lines}
    if as_json:
        emit({"back": back, "rows": moved})
        return
    say(text("moved and compared: {rows} rows of {tables} tables", rows=sum(moved.values()), tables=len(moved)))
    if back:
        say(text("now take [database] url out of konomi.toml; the database keeps what it had under another name"))
    else:
        say(text("konomi uses PostgreSQL from now on; the file it was in is kept: {file}", file="rater.sqlite.moved"))


def _refusal(lines: list[dict[str, str]]) -> FailedPrecondition:
    """Returns the error of rows that were not moved, with the words of the service that would not."""
    said = lines[-1] if lines else {"reason": "MOVE_FAILED", "message": text("no reason given")}
    error = FailedPrecondition(said["message"], reason=said["reason"])
    error.served = bool(lines)
    return error
