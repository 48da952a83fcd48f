"""`konomi storage migrate`: a home's rows from SQLite to PostgreSQL, and back; a process of each role moves its own."""

import json
import subprocess
import sys
from collections import Counter
from typing import Annotated

import typer

from konomi.cli.console import Json, emit, say
from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi.host import extras
from konomi.i18n.catalogue import text

MOVERS = {"rater": "konomi_rater.migration", "trainer": "konomi_trainer.migration"}
"""Module of a role that moves its rows and prints a line of JSON for each table, or one that says why not."""
NOTHING = "NOTHING_TO_MOVE"

Rows = dict[str, int]
"""Table to the rows it has in both databases."""


def migrate(
    back: Annotated[bool, typer.Option("--back", help="From PostgreSQL into SQLite files of the home.")] = False,
    as_json: Json = False,
) -> None:
    """Move what rater and trainer know from SQLite to the PostgreSQL of [database] url, or back; every row is compared.

    Stop konomi first. What was left stays under another name. Cut short, the same command ends it.

    Example: konomi storage migrate
    """
    extras.require("rater")
    home = Home.locate()
    roles = moved(home, back=back)
    if as_json:
        rows: Counter[str] = Counter()
        for tables in roles.values():
            rows.update(tables)
        emit({"back": back, "rows": dict(rows), "roles": roles})
        return
    counts = [count for tables in roles.values() for count in tables.values()]
    say(text("moved and compared: {rows} rows of {tables} tables", rows=sum(counts), tables=len(counts)))
    if back:
        say(text("now take [database] url out of konomi.toml; the database keeps what it had under another name"))
    else:
        files = ", ".join(f"{role}.sqlite.moved" for role in roles)
        say(text("konomi uses PostgreSQL from now on; the file it was in is kept: {file}", file=files))


def moved(home: Home, *, back: bool) -> dict[str, Rows]:
    """Moves every role's rows and returns them by role; one that has none there stays out.

    Raises:
        FailedPrecondition: a role would not, or none has anything to move; what others moved stays moved.
    """
    roles: dict[str, Rows] = {}
    refusals = []
    for role, module in MOVERS.items():
        command = [sys.executable, "-m", module, "--home", str(home.root), *(["--back"] if back else [])]
        ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        lines = [json.loads(line) for line in ran.stdout.splitlines()]
        if not ran.returncode:
            roles[role] = {str(line["table"]): int(line["rows"]) for line in lines}
            continue
        refusals.append(_refusal(lines))
        if refusals[-1].reason != NOTHING:
            raise refusals[-1]
    if not roles:
        raise refusals[0]
    return roles


def _refusal(lines: list[dict[str, str]]) -> FailedPrecondition:
    """Returns the error of rows that were not moved, with the words of the service that would not."""
    said = lines[-1] if lines else {"reason": "MOVE_FAILED", "message": text("no reason given")}
    error = FailedPrecondition(said["message"], reason=said["reason"])
    error.served = bool(lines)
    return error
