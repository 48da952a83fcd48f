"""Sections of the report beyond the units: the verdict, yesterday, measures, the strangest, alarms, cost, lineage."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from konomi.night.metrics import Figure, figure
from konomi.night.report.charts import Series, curve, lineage_svg
from konomi.night.report.facts import measures_of
from konomi.night.report.page import Page, number, percent
from konomi.night.report.words import MORE, WORDS
from konomi.night.verdict import BlindPair

STRANGE = 12
SHARES = ("precision", "recall", "coverage", "likes_covered", "near_copies", "largest_cell_share", "cell_entropy")
Name = Callable[[int], str]


def verdict(page: Page, told: dict[str, Any], pairs: Sequence[BlindPair], name: Name) -> None:
    """Adds the owner's verdict: the pairs to judge while sides are hidden, or what they said and was decided.

    Args:
        page: the report.
        told: summary of the verdict.
        pairs: its pairs; none where the night changed nothing.
        name: name of a unit's number.
    """
    if not pairs:
        return
    page.heading("verdict")
    names = {side: name(told[side]["unit"]) for side in ("unit", "against")}
    tally = told["tally"]
    if tally is None:
        page.add(f"<p>{page.word('verdict_due', count=len(pairs), answered=told['answered'], **names)}</p>")
        page.add(f"<p>{page.word('verdict_how')}</p>")
        page.add(f"<pre><code>konomi night verdict --answers {'LRT'[: len(pairs)]}… --keep</code></pre>")
        rows = "".join(_pair(page, number_, pair) for number_, pair in enumerate(pairs, start=1))
        summary = page.word("verdict_pairs", count=len(pairs))
        page.add(f'<details><summary>{summary}</summary><div class="blind">{rows}</div></details>')
    else:
        said = page.word("verdict_said", wins=tally["wins"], ties=tally["ties"], count=len(pairs), **names)
        rate = page.word("audit_rate")
        page.add(f"<p>{said} {rate}: <b>{percent(tally['win_rate'])}</b></p>")
        page.add(f"<p><b>{page.word('advice_' + tally['advice'])}</b></p>")
    page.add(f"<p>{page.word('decision_' + told['decision'], **names)}</p>")


def _pair(page: Page, position: int, pair: BlindPair) -> str:
    images = "".join(
        f"<span>{page.word(side)}{page.image(digest, alt=f'{position} {page.word(side)}')}</span>"
        for side, digest in (("left", pair.left), ("right", pair.right))
    )
    return f'<div class="duel"><b>{position}</b>{images}</div>'


def yesterday(page: Page, found: dict[str, Any] | None, name: Name) -> None:
    """Adds what changed since the night before; nothing in the first night."""
    if found is None:
        return
    page.heading("yesterday")
    page.add(f'<p class="small">{page.word("yesterday_note")}</p>')
    decided = {"keep": "kept", "roll_back": "rolled_back", "open": "undecided"}
    rows: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("served_row", lambda left: escape(name(left["served"]))),
        ("system", lambda left: escape(left["system"])),
        ("rater_version", lambda left: escape(left["rater_version"])),
        ("expected_ssr", lambda left: percent(left["p_ssr"]) if left["p_ssr"] else "–"),
        ("expected_ur", lambda left: percent(left["p_ur"]) if left["p_ur"] else "–"),
        ("vendi", lambda left: number(left["vendi"], 1) if left["vendi"] else "–"),
        ("novelty", lambda left: number(left["novelty"], 3) if left["novelty"] else "–"),
        ("units_made", lambda left: str(left["units"])),
        ("images_made", lambda left: str(left["images"])),
        ("pressure_total", lambda left: page.word("nats", value=left["nats"])),
        ("time", lambda left: page.duration(left["seconds"])),
        ("your_pairs", lambda left: percent(left["win_rate"]) if left["win_rate"] else "–"),
        ("your_decision", lambda left: page.word(decided[left["decision"]])),
    ]
    cells = [(page.word(key), show(found["before"]), show(found["now"])) for key, show in rows]
    page.table(("", page.word("before"), page.word("now")), cells, numeric=(1, 2))


def strangest(page: Page, units: Sequence[dict[str, Any]]) -> None:
    """Adds the night's most novel images with what became of each; nothing where no log has them."""
    known = {one["digest"]: one for unit in units for one in (unit.get("selection") or {}).get("strangest", [])}
    found = sorted(known.values(), key=lambda one: -one["novelty"])[: 2 * STRANGE]
    if not found:
        return
    page.heading("strangest")
    page.add(f"<p>{page.word('strangest_note')}</p>")
    for admitted in (True, False):
        group = [one for one in found if (one["fate"] in ("selected", "base")) is admitted]
        if group:
            page.add(f"<h3>{page.word('admitted' if admitted else 'turned_away')}</h3>")
            page.add(f'<div class="strange">{"".join(_strange(page, one) for one in group)}</div>')


def _strange(page: Page, one: dict[str, Any]) -> str:
    fate = _fate(page, one["fate"])
    picture = page.image(one["digest"], alt=fate)
    return f"<figure>{picture}<figcaption>{fate}<br>{one['novelty']:.3f}</figcaption></figure>"


def _fate(page: Page, fate: str) -> str:
    words = WORDS[page.language] | MORE[page.language]
    key = next((key for key in (f"fate_{fate}", f"{fate}_reason", fate) if key in words), "unspecified")
    return page.word(key)


def measures(page: Page, units: Sequence[dict[str, Any]], name: Name) -> None:
    """Adds how far each unit moved from the base model; nothing where it was not measured."""
    known = [(unit, measures_of(unit)) for unit in units if measures_of(unit)]
    if not known:
        return
    page.heading("measures")
    page.add(f"<p>{page.word('measures_note')}</p>")
    last = known[-1][0]["scores"]["measures"]
    if not last.get("enough", True):
        page.add(f'<p class="small">{page.word("measures_few", count=min(last["n"], last["reference_n"]))}</p>')
    columns = [key for key in known[-1][1] if any(key in one for _, one in known)]
    rows = [(escape(name(unit["unit"])), *(_measure(one.get(key), key) for key in columns)) for unit, one in known]
    head = [page.word("unit"), *(page.word(f"measure_{key}") for key in columns)]
    page.table(head, rows, numeric=range(1, len(head)))
    told = next((unit["selection"] for unit in reversed(units) if "islands" in (unit.get("selection") or {})), None)
    if told is not None:
        unseen = "–" if told.get("unseen_likes") is None else f"{told['unseen_likes']:.0%}"
        page.add(f"<p><b>{page.word('islands_found', islands=_count(told['islands']), unseen=unseen)}</b></p>")


def _measure(value: Any, key: str) -> str:
    if value is None:
        return "–"
    if isinstance(value, dict):
        return number(value, 1)
    return f"{value:.0%}" if key in SHARES else f"{value:.2f}"


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list | tuple | dict) else int(value)


def curves(page: Page, units: Sequence[dict[str, Any]], name: Name) -> list[tuple[str, str, str]]:
    """Returns further curves over the units, as charts take them: novelty, distance to the base model, the gap."""
    ticks = [name(unit["unit"]) for unit in units]
    pictures = []
    for key, found in (
        ("curve_novelty", [unit["scores"].get("novelty") for unit in units]),
        ("curve_kid", [measures_of(unit).get("kid") for unit in units]),
        ("curve_gap", [_point((unit.get("numbers") or {}).get("gap", 0.0)) for unit in units]),
    ):
        shown: list[Figure] = [one for one in found if one]
        if len(shown) == len(ticks) > 1:
            caption = page.word(key)
            drawing = curve(ticks, [Series(caption, shown)], from_zero=key == "curve_novelty", alt=caption)
            pictures.append((caption, drawing, page.word("curve_remark")))
    return pictures


def _point(value: float) -> Figure:
    return figure(value, value, value, 0)


def alarms(page: Page, sentences: Sequence[str]) -> None:
    """Adds what the rater warned of."""
    if sentences:
        page.heading("alarms")
        page.add('<div class="verdict">' + "".join(f"<p>{escape(one)}</p>" for one in sentences) + "</div>")


def cost(page: Page, spent: dict[str, float | None]) -> None:
    """Adds what the night took, as far as it is known."""
    page.heading("cost")
    shown: dict[str, Callable[[float], str]] = {
        "seconds": page.duration,
        "gpu_hours": lambda value: page.word("hours", value=value),
        "images": lambda value: f"{value:,.0f}",
        "disk_gib": lambda value: page.word("megabytes", value=value * 1024),
        "kwh": lambda value: page.word("kilowatt_hours", value=value),
        "price": lambda value: f"{value:.2f}",
    }
    known = {key: value for key, value in spent.items() if value is not None}
    cells = [(page.word(f"cost_{key}"), show(known[key])) for key, show in shown.items() if key in known]
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in cells)
    page.add(f'<dl class="facts small-facts">{facts}</dl>')


def lineage(page: Page, units: Sequence[dict[str, Any]], name: Name) -> None:
    """Adds the graph of every unit of the taste; nothing before the first one."""
    if len(units) > 1:
        page.heading("lineage_graph")
        page.add(f'<div class="scroll">{lineage_svg(units, name, page.plain)}</div>')
