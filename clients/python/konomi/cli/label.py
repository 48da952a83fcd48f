"""`konomi label`: the grading page, single keys in the terminal, and grades in and out of a file."""

import os
import re
import sys
import tempfile
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, say
from konomi.cli.terminal.keys import read_keys
from konomi.cli.terminal.pictures import show, way_here
from konomi.client import ROLES, Client
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.host import extras
from konomi.i18n.catalogue import plural, text
from konomi.night.records.store import NightStore
from konomi.taste.label_file import read_grades, write_grades
from konomi.taste.labelling import Session

HELP = "1 N · 2 R · 3 SR · 4 SSR · 5 UR · 0 clear · z undo · space skip · q quit"


def label(
    taste: TasteId = "default",
    export: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the grades in force to it.")] = None,
    import_file: Annotated[
        Path | None, typer.Option("--import", metavar="FILE", help="Record the grades of a file written by --export.")
    ] = None,
    terminal: Annotated[bool, typer.Option("--terminal", help="Grade here instead of in the browser.")] = False,
    slate: Annotated[bool, typer.Option("--slate", help="Grade a slate of the long tail here first.")] = False,
    as_json: Json = False,
) -> None:
    """Open the page and grade, or move grades to and from files.

    The page is opened by a link that works once; what is missing is started, and runs until Ctrl-C. In page and
    terminal 1 to 5 grade N, R, SR, SSR, UR; 0 clears, z undoes, space skips, q quits the terminal. Each key is durable
    before the next image. A terminal shows the picture itself, by kitty's protocol, sixels or coloured blocks,
    whichever it knows. With --terminal but no terminal one key is read per line.

    Example: konomi label
    """
    if export is not None and import_file is not None:
        raise InvalidArgument(text("expected one of --export and --import, got both"))
    if export is None and import_file is None and not (terminal or slate):
        return open_page(Home.locate(), taste, as_json)
    with attached() as client:
        if export is not None:
            count = write_grades(client, taste, export)
            result = {"exported": count}
            lines = [plural("{count} grade written to {file}", "{count} grades written to {file}", count, file=export)]
        elif import_file is not None:
            count = read_grades(client, taste, import_file)
            result, lines = {"imported": count}, [plural("{count} grade recorded", "{count} grades recorded", count)]
        else:
            result = grade(client, taste, slate=slate)
            lines = _told(result)
    if as_json:
        emit(dict(result))
    else:
        for line in lines:
            say(line)


def _told(counts: Mapping[str, int]) -> list[str]:
    """Returns what a sitting has done, in words."""
    lines = [text("{labels} graded, {undone} undone, {skipped} skipped", **counts)]
    if again := counts["checks"]:
        twice = plural(
            "{count} of them was shown a second time, to see how you agree with yourself: it counts once",
            "{count} of them were shown a second time, to see how you agree with yourself: they count once",
            again,
        )
        lines.append(twice)
    return lines


def open_page(home: Home, taste: str, as_json: bool) -> None:
    """Opens the page of what runs on the home; where nothing runs, starts it and stays until Ctrl-C.

    Raises:
        FailedPrecondition: what runs there serves no page, or the extra for it is not installed.
    """
    extras.require("web")
    from konomi.cli.up import choose_ports, hold_up
    from konomi.web.auth import link

    view = f"rate&taste={taste_name(taste).removeprefix('tastes/')}"
    if not home.is_up():
        ports = choose_ports(dict.fromkeys(ROLES))
        hold_up(home, ports, None, as_json, lambda page: show_browser(f"{page}&view={view}", as_json))
        return
    page = link(home, view)
    emit({"page": page}) if as_json else say(page)
    show_browser(page, as_json)


def show_browser(address: str, quiet: bool) -> None:
    """Opens an address in the browser where there is somebody to look at it."""
    if quiet or not sys.stdout.isatty() or "SSH_CONNECTION" in os.environ:
        return
    if not webbrowser.open(address):
        note(text("no browser was found: open the link by hand, or run: konomi label --terminal"))


def grade(client: Client, taste: str, *, slate: bool = False) -> dict[str, int]:
    """Shows image after image and records a key for each, until q, the end of the input, or the last image.

    What the newest night of this home asks about comes first, or with `slate` a slate of the long tail.
    """
    client.rater.ensure_taste(taste)
    wanted = () if slate else NightStore(Home.locate().root).asked_about(taste_name(taste))
    session = Session(client, taste, slate=slate, wanted=wanted)
    with tempfile.TemporaryDirectory(prefix="konomi-label-") as folder, read_keys() as keys:
        way = way_here()
        note(text(HELP))
        while (image := session.current()) is not None:
            show(client.artifacts.get(image.digest), image, Path(folder), way)
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
