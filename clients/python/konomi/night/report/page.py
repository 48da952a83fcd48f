"""The sections of the report as HTML: numbers and pictures in, one self-contained page out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from konomi.night.metrics import Figure
from konomi.night.report.style import CSS
from konomi.night.report.thumbnails import Thumbnails
from konomi.night.report.words import MORE, NOTES, WORDS

GRADES = ("N", "R", "SR", "SSR", "UR")
ROWS = 8
"""Prompts of the before-and-after sheet."""

SHEET = 64
"""Images of a contact sheet."""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing but this page itself may be loaded."""


@dataclass(frozen=True)
class Sheet:
    """The images of one unit at the fixed prompts and seeds.

    Attributes:
        name: name of the unit.
        digests: images, in the same order for every unit.
        grades: true grades 1..5 of the images; empty where nobody knows them.
        remark: figures that belong under the sheet.
    """

    name: str
    digests: Sequence[str]
    grades: Sequence[int] = ()
    remark: str = ""


@dataclass
class Page:
    """Collects the sections of a page in one language.

    Attributes:
        language: "en" or "ja".
        thumbnails: makes the pictures.
        name: who the night was for.
        parts: sections so far, as HTML.
    """

    language: str
    thumbnails: Thumbnails
    name: str
    parts: list[str] = field(default_factory=list)

    def plain(self, key: str, **values: object) -> str:
        """Returns a word of the report."""
        known = WORDS[self.language]
        return (known[key] if key in known else MORE[self.language][key]).format(name=self.name, **values)

    def word(self, key: str, **values: object) -> str:
        """Returns a word of the report, escaped."""
        return escape(self.plain(key, **values))

    def add(self, html: str) -> None:
        """Adds HTML."""
        self.parts.append(html)

    def heading(self, key: str) -> None:
        """Adds a section's heading."""
        self.add(f"<h2>{self.word(key)}</h2>")

    def image(self, digest: str, grade: int = 0, alt: str = "") -> str:
        """Returns one picture, framed by its true grade where that is known."""
        frame = f' class="g g{grade}"' if grade else ""
        return f'<img loading="lazy" alt="{escape(alt)}" src="{self.thumbnails.url(digest)}"{frame}>'

    def opening(self, kicker: str, title: str, lead: str, facts: Sequence[tuple[str, str, str]]) -> None:
        """Adds the head of the page: title, what it is, and the figures that matter most (name, value, remark)."""
        self.add(f'<p class="kicker">{escape(kicker)}</p><h1>{title}</h1><p class="lead">{lead}</p>')
        cells = "".join(f"<div><dt>{n}</dt><dd>{v}<small>{remark}</small></dd></div>" for n, v, remark in facts)
        self.add(f'<dl class="facts">{cells}</dl>')

    def verdict(self, sentences: Sequence[str]) -> None:
        """Adds the plain sentences of the night."""
        self.add('<div class="verdict">' + "".join(f"<p>{escape(one)}</p>" for one in sentences) + "</div>")

    def before_after(self, sheets: Sequence[Sheet], prompts: Sequence[str]) -> None:
        """Adds the sheet of equal prompts and seeds: one row a prompt, one column a unit."""
        self.heading("changed")
        self.add(f"<p>{self.word('same_draw')}</p>")
        columns = f"minmax(5.5rem,13rem) repeat({len(sheets)},minmax(4rem,8rem))"
        cells = ['<span class="tick"></span>']
        cells += [f'<span class="tick head">{escape(sheet.name)}</span>' for sheet in sheets]
        rows = spread(len(sheets[0].digests), ROWS)
        for row in rows:
            cells.append(f'<span class="tick">{escape(prompts[row] or WORDS[self.language]["any_style"])}</span>')
            cells += [
                self.image(
                    sheet.digests[row], sheet.grades[row] if sheet.grades else 0, f"{sheet.name}: {prompts[row]}"
                )
                for sheet in sheets
            ]
        self.add(f'<div class="pairs" style="grid-template-columns:{columns}">{"".join(cells)}</div>')
        self.legend(bool(sheets[0].grades))

    def legend(self, known: bool) -> None:
        """Adds what the frames mean, where true grades are known."""
        if known:
            keys = "".join(
                f'<span><i style="background:var(--{grade.lower()})"></i>{grade}</span>' for grade in reversed(GRADES)
            )
            self.add(f'<p class="legend">{self.word("frames")} {keys}</p>')

    def contact_sheets(self, sheets: Sequence[Sheet]) -> None:
        """Adds one contact sheet per unit."""
        count = min(SHEET, len(sheets[0].digests))
        self.heading("sheets")
        self.add(f"<p>{self.word('sheets_note', count=count)}</p>")
        figures = []
        for sheet in sheets:
            grades = list(sheet.grades) or [0] * count
            images = "".join(self.image(digest, grades[i]) for i, digest in enumerate(sheet.digests[:count]))
            caption = f"<b>{escape(sheet.name)}</b> {escape(sheet.remark)}"
            figures.append(f'<figure><div class="sheet">{images}</div><figcaption>{caption}</figcaption></figure>')
        self.add(f'<div class="sheets">{"".join(figures)}</div>')
        self.legend(bool(sheets[0].grades))

    def charts(self, pictures: Sequence[tuple[str, str, str]]) -> None:
        """Adds charts side by side: caption, SVG, remark."""
        figures = "".join(
            f"<figure>{svg}<figcaption><b>{escape(caption)}</b> {escape(remark)}</figcaption></figure>"
            for caption, svg, remark in pictures
        )
        alone = " one" if len(pictures) == 1 else ""
        self.add(f'<div class="charts{alone}">{figures}</div>')

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Sequence[int] = (), wide: int = -1
    ) -> None:
        """Adds a table of HTML cells; `numeric` columns are set to the right, one may be `wide`."""
        head = "".join(f"<th{_cell(i, numeric, wide)}>{column}</th>" for i, column in enumerate(columns))
        body = "".join(
            "<tr>" + "".join(f"<td{_cell(i, numeric, wide)}>{cell}</td>" for i, cell in enumerate(row)) + "</tr>"
            for row in rows
        )
        self.add(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')

    def selection(self, unit: str, selection: dict[str, Any]) -> None:
        """Adds what one unit learned from, and what was rejected and why, with examples."""
        self.add(f"<h3>{escape(unit)}</h3>")
        share = selection["base_share"]
        line = self.word("considered", considered=selection["considered"], selected=selection["n"], base=share)
        if "size" in selection:
            told = {name: selection[name] for name in ("considered", "passed", "size", "deepest")}
            told |= {"copies": selection["near_copy_share"], "cosine": selection["seed_similarity"]}
            line = self.word("grown", selected=selection["n"], **told)
        self.add(f'<p class="small">{line}</p>')
        blocks = [self._strip("selected", selection["n"], selection["selected"][:6])]
        rejected = sorted(selection["rejected"].items(), key=lambda item: -item[1]["count"])
        for reason, entry in rejected:
            key = f"{reason}_reason" if reason in ("untypical", "unknown") else reason
            blocks.append(self._strip(key, entry["count"], entry["examples"]))
        self.add(f'<div class="reasons">{"".join(blocks)}</div>')

    def _strip(self, key: str, count: int, digests: Sequence[str]) -> str:
        images = "".join(self.image(digest) for digest in digests)
        return f'<div><h4><b>{count}</b>{self.word(key)}</h4><div class="strip">{images}</div></div>'

    def times(self, phases: Sequence[tuple[str, float]]) -> None:
        """Adds where the time went."""
        self.heading("where_time")
        total = sum(seconds for _, seconds in phases) or 1.0
        rows = [
            (
                escape(name),
                self.duration(seconds),
                f'<div class="bar" style="width:{100 * seconds / total:.1f}%"></div>',
            )
            for name, seconds in phases
        ]
        self.table((self.word("phase"), self.word("seconds"), ""), rows, numeric=(1,), wide=2)

    def closing(self, kind: str, command: str, lineage: Sequence[Sequence[str]]) -> None:
        """Adds lineage, the honest notes and the command that does it again."""
        names = [self.word(key) for key in ("unit", "parent", "model", "adapter", "manifest")]
        self.add(f"<details><summary>{self.word('lineage')}</summary>")
        self.table(names, [[f"<code>{escape(cell)}</code>" for cell in row] for row in lineage])
        self.add("</details>")
        self.heading("honest")
        self.add("<ul>" + "".join(f"<li>{escape(note)}</li>" for note in NOTES[self.language][kind]) + "</ul>")
        self.heading("again")
        self.add(f'<pre><code>{escape(command)}</code></pre><p class="small">{self.word("again_note")}</p>')

    def duration(self, seconds: float) -> str:
        """Returns a length of time for people."""
        if seconds < 60:
            return f"{seconds:.1f} s" if self.language == "en" else f"{seconds:.1f} 秒"
        minutes, rest = divmod(round(seconds), 60)
        return self.word("minutes", minutes=minutes, seconds=rest)

    def html(self, title: str) -> str:
        """Returns the page."""
        return (
            f'<!doctype html><html lang="{self.language}"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<title>{title}</title><link rel="icon" href="data:,"><style>{CSS}</style></head><body><main>'
            + "\n".join(self.parts)
            + f"<footer>{self.word('footer')}</footer></main></body></html>\n"
        )


def percent(figure: Figure, digits: int = 0) -> str:
    """Returns a share with its interval."""
    value, low, high = (f"{100 * figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % <small>{low}–{high}</small>"


def number(figure: Figure, digits: int = 2) -> str:
    """Returns a figure with its interval."""
    value, low, high = (f"{figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} <small>{low}–{high}</small>"


def spread(count: int, wanted: int) -> list[int]:
    """Returns up to `wanted` positions spread evenly over `count`: nothing is picked by looking."""
    wanted = min(count, wanted)
    return [position * count // wanted for position in range(wanted)]


def _cell(index: int, numeric: Sequence[int], wide: int) -> str:
    kind = "n" if index in numeric else "wide" if index == wide else ""
    return f' class="{kind}"' if kind else ""
