"""What the commands share towards the terminal: results on stdout, progress and errors on stderr, exit codes.

Nothing else prints: what leaves here is made harmless here.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from konomi.cli import completion
from konomi.client import Client, connect_home
from konomi.client.refusals import told
from konomi.errors import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    KonomiError,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from konomi.host.terminal import encodable, json_line, visible
from konomi.i18n.catalogue import text

FAILED, USAGE, UNREACHABLE, REFUSED = 1, 2, 3, 4

EXIT_CODES: dict[type[KonomiError], int] = {
    InvalidArgument: USAGE,
    Unimplemented: USAGE,
    Unavailable: UNREACHABLE,
    DeadlineExceeded: UNREACHABLE,
    Unauthenticated: REFUSED,
    PermissionDenied: REFUSED,
    FailedPrecondition: REFUSED,
    ResourceExhausted: REFUSED,
    AlreadyExists: REFUSED,
    Aborted: REFUSED,
}
"""Error to exit code; every other error is a failure."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of standard output.")]
TasteId = Annotated[str, typer.Option("--taste", help="The taste, by its id.", autocompletion=completion.tastes)]

UNBOUND = 1_000_000
"""Characters of a line that no screen ends: more than any row has."""


def exit_code(error: KonomiError) -> int:
    """Returns the exit code of a command that ended with an error."""
    return EXIT_CODES.get(type(error), FAILED)


def complain(error: KonomiError) -> int:
    """Prints an error and returns its exit code."""
    note(f"konomi: {text('error')}: {told(error)}")
    return exit_code(error)


def attached() -> Client:
    """Returns a client of what runs on the home; Unavailable, naming `konomi up`, where nothing does."""
    return connect_home()


def say(line: str) -> None:
    """Prints a line of the result."""
    typer.echo(encodable(visible(line), sys.stdout))


def note(line: str) -> None:
    """Prints a remark beside the result."""
    typer.echo(encodable(visible(line), sys.stderr), err=True)


def lay_out(page: str) -> None:
    """Prints several lines beside the result: help, or how a command is used."""
    typer.echo(encodable(visible(page, lines=True), sys.stderr), err=True)


def picture(drawn: str) -> None:
    """Draws beside the result: the one thing that is orders to a terminal, made here and of pixels alone."""
    typer.echo(drawn, err=True)


def emit(result: Mapping[str, object]) -> None:
    """Prints the result for scripts: one line of JSON."""
    typer.echo(json_line(result, sys.stdout))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows under their column names, plainly where the output is no terminal: there a row is one line."""
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for column in columns:
        grid.add_column(text(column), overflow="fold")
    for row in rows:
        grid.add_row(*(Text(encodable(visible(cell), sys.stdout)) for cell in row))
    console = Console()
    if not sys.stdout.isatty():
        console.width = Measurement.get(console, console.options.update(width=UNBOUND), grid).maximum
    console.print(grid)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[..., None]]:
    """Shows a bar on stderr while a command works; yields its `update(completed=…, total=…, description=…)`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(visible(label), total=total)

        def update(**changes: Any) -> None:
            if "description" in changes:
                changes["description"] = visible(changes["description"])
            bar.update(task, **changes)

        yield update
