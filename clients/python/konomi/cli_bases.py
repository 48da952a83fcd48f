"""`konomi models compare --bases`: a table and a contact sheet of base models under one taste."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from konomi import extras, messages
from konomi.base_comparison import check, compare
from konomi.console import attached, emit, note, progress, say, table
from konomi.home import write_atomically
from konomi.intervals import Figure
from konomi.messages import text
from konomi.services import taste_name
from konomi.studio import Studio

PROMPTS = 512
SHEET = Path("bases.html")


class _Attached:
    """Holds one client as a studio wants it."""

    def __init__(self, client: Any) -> None:
        self.client = client


def compare_bases(
    bases: Sequence[str], taste: str, prompts: Sequence[str], count: int, seed: int, out: Path, as_json: bool
) -> None:
    """Compares base models, writes the sheet and says what the rater thinks of each.

    Args:
        bases: ids of base models.
        taste: id or name of the taste.
        prompts: prompts; none takes those of the taste's own images.
        count: images of each base model.
        seed: of the images.
        out: where the sheet is written.
        as_json: print one JSON object instead of the table.
    """
    extras.require("overnight")  # the sheet's thumbnails
    with attached() as client:
        studio = Studio(_Attached(client), taste_name(taste))
        check(client, studio, bases)
        asked = list(prompts) or studio.prompts(PROMPTS) or [""]
        with progress(text("making images"), len(bases) * count) as update:
            found = compare(studio, bases, asked, count, seed, lambda done: update(completed=done))
        write_atomically(out, _sheet(found, taste, client.artifacts.get).encode())
    if as_json:
        return emit({"sheet": str(out), "images": count, "prompts": len(asked), "bases": found})
    rows = [
        (
            one["base"],
            _span(one["utility"]),
            _span(one["lower_bound"]),
            _span(one["p_ssr"], share=True),
            _span(one["p_ur"], share=True),
            f"{one['vendi']:.1f}",
            f"{one['typical_share']:.0%}",
            "" if one["wins"] is None else _span(one["wins"], share=True),
        )
        for one in found
    ]
    table(("base model", "score", "lower bound", "SSR or better", "UR", "Vendi", "typical", "wins against it"), rows)
    for line in advised(found):
        say(line)
    note(text("sheet: {file}", file=out))


def advised(found: Sequence[dict[str, Any]]) -> list[str]:
    """Returns what follows from a comparison, and every warning."""
    best, second = found[0], found[1]
    sure = second["wins"]["high"] < 0.5 and not best["warning"]
    words = (
        "{best} suits this taste best: surely better than {second}"
        if sure
        else ("{best} is ahead, but {second} may be as good: more images would tell")
    )
    lines = [text(words, best=best["base"], second=second["base"])]
    warning = "{base}: {share} of its images are unlike anything known, so its score is a guess; grade some first"
    lines += [
        text(warning, base=one["base"], share=f"{max(1 - one['typical_share'], one['unknown_share']):.0%}")
        for one in found
        if one["warning"]
    ]
    return lines


def _span(found: Figure, *, share: bool = False) -> str:
    value, low, high = found["value"], found["low"], found["high"]
    return f"{value:.0%} ({low:.0%}–{high:.0%})" if share else f"{value:.2f} ({low:.2f}–{high:.2f})"


def _sheet(found: Sequence[dict[str, Any]], taste: str, fetch: Any) -> str:
    """Returns the contact sheet as one HTML file."""
    from konomi.report_page import Page, Sheet
    from konomi.thumbnails import Thumbnails

    page = Page(messages.language(), Thumbnails(fetch), taste.removeprefix("tastes/"))
    title = escape(text("Base models under this taste"))
    lead = escape(text("The same prompts and seeds by each, as the rater sees them; nothing picked."))
    facts = [
        (escape(one["base"]), f"{one['utility']['value']:.2f}", escape(f"UR {_span(one['p_ur'], share=True)}"))
        for one in found
    ]
    page.opening("konomi models compare --bases", title, lead, facts)
    page.verdict(advised(found))
    sheets = [Sheet(one["base"], one["digests"], (), f"Vendi {one['vendi']:.1f}") for one in found]
    page.before_after(sheets, found[0]["prompts"])
    page.contact_sheets(sheets)
    return page.html(title)
