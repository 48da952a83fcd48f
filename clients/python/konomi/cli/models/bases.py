"""`konomi models bases`: the base models at hand and those that can be fetched, and what each is good for here."""

from konomi.cli.console import Json, emit, note, say, table
from konomi.cli.storage.command import size
from konomi.home import Home
from konomi.host.session import open_session
from konomi.i18n.catalogue import N_, text
from konomi.night.engine.bases import BaseLine, base_lines

FITS = {"WHOLE": N_("fits"), "REDUCED": N_("fits, slowly"), "NONE": N_("does not fit")}
"""Whether a night on a base model fits into this machine's memory, in two words."""


def bases(as_json: Json = False) -> None:
    """List the base models a night can start from: those here, and those that can be fetched.

    Says what each can draw, whether a night on it fits into this machine's memory, and how long one takes where one was
    measured.

    Example: konomi models bases
    """
    home = Home.locate()
    with open_session(home) as session:
        lines = base_lines(session.client, home)
    here = [line["id"] for line in lines if line["here"]]
    if as_json:
        return emit({"bases": lines})
    columns = ("base model", "at hand", "layout", "size", "licence", "a night here", "hours")
    table(columns, [_row(line) for line in lines])
    for line in lines:
        say(f"{line['id']}: {line['draws']}")
    note(text("the base model decides most of what a night can become: {command}", command=lines[0]["next"]))
    if len(here) > 1:
        note(text("which suits your taste: konomi models compare --bases {names}", names=" ".join(here)))
    return None


def _row(line: BaseLine) -> tuple[str, ...]:
    return (
        line["id"],
        "✓" if line["here"] else line["next"],
        line["layout"],
        size(line["size_bytes"]) if line["size_bytes"] else "",
        line["licence"],
        text(FITS[line["fit"]]) if line["fit"] else "",
        "" if line["hours"] is None else f"{line['hours']:.1f}",
    )
