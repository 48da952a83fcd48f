"""A page as a list of typed blocks, placed by the templates beside this file (only import of jinja2).

The text of a block is plain text in the reader's language; the templates escape it. Only drawings, made here from
numbers and escaped names, are placed as they are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from konomi.i18n.catalogue import language, languages, speaking, text
from konomi.night.alarms import percent
from konomi.night.metrics import Estimate
from konomi.night.report.languages import joined, kept_together

TEMPLATES = Path(__file__).with_name("templates")
GRADES = ("N", "R", "SR", "SSR", "UR")


@dataclass(frozen=True)
class Picture:
    """A picture as a data URL, framed by its true grade 1..5 where that is known (0: it is not); its size in pixels."""

    url: str
    alt: str = ""
    grade: int = 0
    width: int = 128
    height: int = 128


@dataclass(frozen=True)
class Cell:
    """A value, with its interval where it has one.

    Attributes:
        value: what is printed.
        interval: its 95 % interval.
        remark: a line under it.
        style: "", "code", "bar" (the value is its width in percent), or a decision, which is shown as a chip.
    """

    value: str
    interval: str = ""
    style: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Opening:
    """The head of the page: what it is of, its title, one paragraph."""

    kind: ClassVar[str] = "opening"
    kicker: str
    title: str
    lead: str


@dataclass(frozen=True)
class Tile:
    """One figure of a strip of figures."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Tiles:
    """A strip of figures."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[Tile]
    small: bool = False


@dataclass(frozen=True)
class Heading:
    """Begins a section, or a part of one."""

    kind: ClassVar[str] = "heading"
    words: str
    minor: bool = False


@dataclass(frozen=True)
class Paragraph:
    """A paragraph that may end with a figure."""

    kind: ClassVar[str] = "paragraph"
    words: str
    figure: Cell | None = None
    small: bool = False
    strong: bool = False


@dataclass(frozen=True)
class Statements:
    """Sentences that decide or warn, set apart by a bar."""

    kind: ClassVar[str] = "statements"
    sentences: Sequence[str]


@dataclass(frozen=True)
class Bullets:
    """A list of sentences."""

    kind: ClassVar[str] = "bullets"
    sentences: Sequence[str]


@dataclass(frozen=True)
class Command:
    """A command to type."""

    kind: ClassVar[str] = "command"
    line: str


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: heads.
        rows: cells, as many as there are columns.
        numeric: positions of columns set to the right.
        wide: position of a column that takes what is left, -1 for none.
        summary: the table stays folded under these words; "" shows it.
        label: what the table is, for people who do not see it.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Sequence[int] = ()
    wide: int = -1
    summary: str = ""
    label: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing, what it shows, and a remark."""

    drawing: Markup
    caption: str = ""
    remark: str = ""


@dataclass(frozen=True)
class Charts:
    """Charts side by side."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Drawing:
    """One drawing over the whole width, which may be scrolled."""

    kind: ClassVar[str] = "drawing"
    drawing: Markup
    label: str = ""


@dataclass(frozen=True)
class PromptRow:
    """One prompt, and the picture each unit made of it."""

    prompt: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class PromptGrid:
    """Equal prompts and seeds: one row a prompt, one column a unit."""

    kind: ClassVar[str] = "prompt_grid"
    names: Sequence[str]
    rows: Sequence[PromptRow]
    label: str = ""


@dataclass(frozen=True)
class ContactSheet:
    """The pictures of one unit, its name, and figures that belong under them."""

    name: str
    pictures: Sequence[Picture]
    remark: str = ""


@dataclass(frozen=True)
class ContactSheets:
    """One contact sheet a unit."""

    kind: ClassVar[str] = "contact_sheets"
    sheets: Sequence[ContactSheet]


@dataclass(frozen=True)
class Legend:
    """What the frames of pictures mean."""

    kind: ClassVar[str] = "legend"
    words: str
    grades: ClassVar[Sequence[str]] = tuple(reversed(GRADES))


@dataclass(frozen=True)
class Strip:
    """A few pictures of many under a count and a reason."""

    count: int
    reason: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Strips:
    """Strips side by side."""

    kind: ClassVar[str] = "strips"
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Row:
    """Pictures in one row, as many as fit."""

    kind: ClassVar[str] = "row"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Captioned:
    """A picture over lines of text."""

    picture: Picture
    lines: Sequence[str]


@dataclass(frozen=True)
class Gallery:
    """Captioned pictures."""

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[Captioned]


@dataclass(frozen=True)
class Duel:
    """One blind pair: its number, and the two sides, each a label and a picture."""

    number: int
    left: Captioned
    right: Captioned


@dataclass(frozen=True)
class Duels:
    """Blind pairs, folded under a summary."""

    kind: ClassVar[str] = "duels"
    summary: str
    duels: Sequence[Duel]


@dataclass(frozen=True)
class Meaning:
    """A name and what it means, in one line."""

    name: str
    meaning: str


@dataclass(frozen=True)
class Meanings:
    """Names and what they mean."""

    kind: ClassVar[str] = "meanings"
    meanings: Sequence[Meaning]


@dataclass(frozen=True)
class Fold:
    """A section that stays folded under its heading until it is asked for."""

    kind: ClassVar[str] = "fold"
    heading: str
    blocks: Sequence["Block"]


Block = (
    Opening
    | Tiles
    | Heading
    | Paragraph
    | Statements
    | Bullets
    | Command
    | Table
    | Charts
    | Drawing
    | PromptGrid
    | ContactSheets
    | Legend
    | Strips
    | Gallery
    | Duels
    | Row
    | Meanings
    | Fold
)
"""What a page is made of; the macro of its `kind` in blocks.html places it."""


@dataclass
class Page:
    """A page in the language in use.

    Attributes:
        title: for the window.
        blocks: from top to bottom.
        languages: codes of the languages to choose from, each with its own name; none where the page has but one.
    """

    title: str
    blocks: list[Block] = field(default_factory=list)
    languages: Sequence[tuple[str, str]] = ()
    footer: str = field(default_factory=lambda: text("Made by konomi. This page needs no network and asks for none."))

    def html(self) -> str:
        """Returns the page as one file that loads nothing from elsewhere."""
        return render("page.html", page=self, language=language())


def in_all_languages(make: Callable[[], Page]) -> Page:
    """Returns a page that holds every language there is, to choose from without a script.

    Args:
        make: makes the page in the language in use.
    """
    versions, names = {}, []
    for code in languages():
        with speaking(code):
            versions[code] = make()
            names.append((code, text("English")))  # which every catalogue translates by the name of its own language
    page: Page = joined(versions)
    return Page(page.title, page.blocks, names, page.footer)


def render(template: str, **values: object) -> str:
    """Returns a template with values placed in it, every text escaped.

    Raises:
        UndefinedError: the template asks for a value it was not given.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=kept_together,
    )
    environment.filters["plain"] = str
    environment.globals["style"] = Markup((TEMPLATES / "style.css").read_text("utf-8"))
    return environment


def share(figure: Estimate | None) -> Cell:
    """Returns a share with its interval; a dash where there is none."""
    if figure is None:
        return Cell("–")
    return Cell(percent(figure["value"]), f"{100 * figure['low']:.0f}–{100 * figure['high']:.0f}")


def number(figure: Estimate | None, digits: int = 2) -> Cell:
    """Returns a figure with its interval; a dash where there is none."""
    if figure is None:
        return Cell("–")
    value, low, high = (f"{figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return Cell(value, f"{low}–{high}")


def duration(seconds: float) -> str:
    """Returns a length of time for people, in the language in use."""
    if seconds < 60:
        return text("{seconds} s", seconds=f"{seconds:.1f}")
    minutes, rest = divmod(round(seconds), 60)
    return text("{minutes} min {seconds} s", minutes=minutes, seconds=f"{rest:02d}")
