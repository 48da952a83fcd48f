"""The report of a night: its recorded state, and in a demo the truth, made into one self-contained HTML file."""

from collections.abc import Callable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from konomi.files import write_json
from konomi.night.alarms import WORK, sentence
from konomi.night.draws import evaluation_draws
from konomi.night.guards import GuardSettings
from konomi.night.metrics import Figure, figure
from konomi.night.records.request import NightRequest
from konomi.night.records.store import Nights
from konomi.night.report import sections
from konomi.night.report.charts import Series, curve, dots
from konomi.night.report.facts import facts_of, spoken_alarms
from konomi.night.report.page import Page, Sheet, number, percent
from konomi.night.report.thumbnails import Thumbnails
from konomi.night.settings import NightSettings
from konomi.night.verdict import BlindEvaluation

Fetch = Callable[[str], bytes]
"""Returns the bytes of an artifact."""


def write_night_report(nights: Nights, night: str, fetch: Fetch, language: str) -> Path:
    """Writes the report of a night without anyone's truth, and returns its path."""
    request, state = nights.request(night), nights.read(night)
    page = Page(language, Thumbnails(fetch), request.taste.removeprefix("tastes/"))
    units = [unit for unit in state["units"] if "scores" in unit]
    page.opening(night, page.word("title_night"), page.word("lead_night"), _night_facts(page, state, units))
    page.verdict(_sentences(state, language))
    facts = facts_of(nights, night)
    write_json(nights.home / "report" / f"{night}.json", facts)
    told, name = BlindEvaluation(nights, night), partial(_name, page)
    sections.verdict(page, told.summary(), told.pairs(), name)
    sections.yesterday(page, facts["yesterday"], name)
    sheets = [Sheet(_name(page, unit["unit"]), unit["evaluation"]) for unit in units]
    _middle(page, request, state, sheets)
    sections.cost(page, facts["cost"])
    sections.lineage(page, facts["lineage"], name)
    return _write(nights.home, night, page, f"konomi night start {request.system} --seed {request.seed}")


def write_demo_report(nights: Nights, night: str, demo: dict[str, Any], fetch: Fetch, language: str) -> Path:
    """Writes the report of a demo: the night and what the simulated person truly thinks of it; returns its path."""
    request, state = nights.request(night), nights.read(night)
    page = Page(language, Thumbnails(fetch), demo["person"]["name"])
    lead = page.word("lead_demo", labels=demo["labels"])
    page.opening(f"konomi demo · {request.system}", page.word("title_demo"), lead, _demo_facts(page, demo, state))
    page.verdict(_sentences(state, language))
    sheets = [Sheet(_name(page, u["unit"]), u["digests"], u["grades"], _remark(page, u)) for u in demo["units"]]
    _middle(page, request, state, sheets, demo)
    return _write(nights.home, night, page, demo["command"], "demo")


def _middle(
    page: Page,
    request: NightRequest,
    state: dict[str, Any],
    sheets: Sequence[Sheet],
    demo: dict[str, Any] | None = None,
) -> None:
    """Adds the sections both reports share, in their order."""
    if sheets:
        page.before_after(sheets, demo["prompts"] if demo else _fixed_prompts(request))
        _curves(page, request, state, demo)
        if demo:
            _rater(page, demo)
        page.contact_sheets(sheets)
    _units(page, state)
    sections.measures(page, state["units"], partial(_name, page))
    sections.alarms(page, spoken_alarms(state))
    sections.strangest(page, state["units"])
    chosen = [unit for unit in state["units"] if "selection" in unit]
    if chosen:
        page.heading("chosen")
        for unit in chosen:
            page.selection(_name(page, unit["unit"]), unit["selection"])
    page.times(demo["phases"] if demo else _times(page, state))


def _remark(page: Page, unit: dict[str, Any]) -> str:
    rates = f"SSR+ {unit['ssr']['value']:.0%} · UR {unit['ur']['value']:.0%} · Vendi {unit['vendi']['value']:.1f}"
    return f"{rates} · " + page.word("realism", share=f"{unit['realism']:.0%}")


def _curves(page: Page, request: NightRequest, state: dict[str, Any], demo: dict[str, Any] | None) -> None:
    page.heading("curves")
    known = {unit["unit"]: unit for unit in state["units"] if "scores" in unit}
    rows: list[dict[str, Any]] = (
        demo["units"] if demo else [{"unit": number, **one["scores"]} for number, one in known.items()]
    )
    ticks = [_name(page, row["unit"]) for row in rows]
    ssr, ur = ("ssr", "ur") if demo else ("p_ssr", "p_ur")
    caption = page.word("curve_rates" if demo else "curve_expected")
    rates = [
        Series(page.word("truly_ssr"), [row[ssr] for row in rows]),
        Series(page.word("truly_ur"), [row[ur] for row in rows]),
    ]
    floor = GuardSettings.recorded(request.guards).diversity_floor
    limit = (floor * rows[0]["vendi"]["value"], page.word("floor", share=floor))
    diversity = page.word("curve_diversity")
    vendi = curve(ticks, [Series("Vendi", [row["vendi"] for row in rows])], floor=limit, alt=diversity)
    remark = page.word("intervals", count=int(rows[0][ssr]["n"]))
    pictures = [(caption, curve(ticks, rates, percent=True, alt=caption), remark), (diversity, vendi, remark)]
    if demo:
        utility = page.word("curve_utility")
        gains = [
            Series(page.word("true_utility"), _gains([row["mean_utility"] for row in rows], demo["spread"])),
            Series(page.word("expected"), _expected(rows, known)),
        ]
        pictures.append((utility, curve(ticks, gains, from_zero=False, alt=utility), page.word("curve_utility_note")))
    measured = [known[row["unit"]] for row in rows if row["unit"] in known]
    page.charts([*pictures, *sections.curves(page, measured, partial(_name, page))])


def _gains(figures: Sequence[Figure], spread: float) -> list[Figure]:
    """Returns figures as gains over the first, in units of a spread."""
    base, unit = figures[0]["value"], spread or 1.0
    gained = [{key: (one[key] - base) / unit for key in ("value", "low", "high")} for one in figures]
    return [
        figure(gain["value"], gain["low"], gain["high"], int(one["n"]))
        for gain, one in zip(gained, figures, strict=True)
    ]


def _expected(rows: Sequence[dict[str, Any]], known: dict[int, dict[str, Any]]) -> list[Figure]:
    scores = [known[row["unit"]]["scores"] for row in rows]
    return _gains([one["utility"] for one in scores], scores[0]["spread"])


def _rater(page: Page, demo: dict[str, Any]) -> None:
    page.heading("rater")
    quality = demo["rater"]
    page.add(f"<p>{page.word('rater_note', labels=demo['labels'], count=int(quality['srcc']['n']))}</p>")
    chance = {"srcc": 0.0, "auc_ssr": 0.5, "ap_ur": quality["ur_share"]}
    rows = [(page.word(key), quality[key], chance[key]) for key in ("srcc", "auc_ssr", "ap_ur")]
    page.charts([("", dots(rows, alt=page.word("rater")), " · ".join(f"{n}: {f['value']:.2f}" for n, f, _ in rows))])


def _units(page: Page, state: dict[str, Any]) -> None:
    page.heading("units")
    columns = ("unit", "decision", "wins", "vendi", "doubt", "untypical", "pressure", "made", "seconds")
    rows, said = [], []
    for unit in state["units"]:
        decision = unit.get("decision") or "unfinished"
        scores, chosen = unit.get("scores"), unit.get("selection")
        why = [unit["reason"]] if unit.get("reason") else []
        said.append(" ".join(sentence(one, page.language) for one in (*why, *unit.get("warnings", []))))
        rows.append(
            (
                _name(page, unit["unit"]),
                f'<span class="chip {decision}">{page.word(decision)}</span>',
                percent(unit["wins"]) if unit.get("wins") else "",
                number(scores["vendi"], 1) if scores else "",
                f"{scores['doubt']:.2f}" if scores else "",
                f"{1 - scores['typical_share']:.0%}" if scores else "",
                page.word("nats", value=chosen["nats"]) if chosen else "",
                str(unit["images"]),
                page.duration(unit["seconds"]),
            )
        )
    page.table([page.word(column) for column in columns], rows, numeric=range(2, 9))
    page.add("<ul>" + "".join(f"<li>{escape(words)}</li>" for words in said if words) + "</ul>")


def _demo_facts(page: Page, demo: dict[str, Any], state: dict[str, Any]) -> list[tuple[str, str, str]]:
    base = demo["units"][0]
    served = next(unit for unit in demo["units"] if unit["unit"] == state["served"]["unit"])
    facts = [(page.word("served"), _name(page, served["unit"]), "")]
    for key, word in (("ssr", "ssr_rate"), ("ur", "ur_rate")):
        now, before = served[key]["value"], base[key]["value"]
        times = page.word("times", value=f"{now / before:.1f}") + " · " if before else ""
        facts.append((page.word(word), f"{now:.0%}", times + page.word("was", value=f"{before:.0%}")))
    kept = served["vendi"]["value"] / max(base["vendi"]["value"], 1e-9)
    vendi = f"Vendi {served['vendi']['value']:.1f} · " + page.word("was", value=f"{base['vendi']['value']:.1f}")
    facts.append((page.word("diversity"), f"{kept:.0%}", vendi))
    facts.append((page.word("rank"), f"{demo['rater']['srcc']['value']:.2f}", page.word("spearman")))
    night = page.word("night_part", time=page.duration(demo["night_seconds"]))
    return [*facts, (page.word("time"), page.duration(demo["seconds"]), night)]


def _night_facts(page: Page, state: dict[str, Any], units: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    facts = [(page.word("served"), _name(page, state.get("served", {}).get("unit", 0)), "")]
    served = next((unit for unit in units if unit["unit"] == state["served"]["unit"]), None)
    if served is not None:
        base, scores = units[0]["scores"], served["scores"]
        if served.get("wins_base"):
            facts.append((page.word("win_rate"), f"{served['wins_base']['value']:.0%}", ""))
        before = page.word("was", value=f"{base['p_ssr']['value']:.0%}")
        facts.append((page.word("ssr_rate"), f"{scores['p_ssr']['value']:.0%}", before))
        kept = scores["vendi"]["value"] / max(base["vendi"]["value"], 1e-9)
        facts.append((page.word("diversity"), f"{kept:.0%}", f"Vendi {scores['vendi']['value']:.1f}"))
    return [*facts, (page.word("time"), page.duration(state.get("seconds", 0.0)), "")]


def _sentences(state: dict[str, Any], language: str) -> list[str]:
    """Returns what was decided about every unit, and how the night ended."""
    reasons = [unit["reason"] for unit in state["units"] if unit.get("reason")]
    end = state.get("reason")
    if end and end["name"] not in ("stopped", "interrupted") and end["name"] not in {one["name"] for one in reasons}:
        reasons.append(end)
    return [sentence(reason, language) for reason in reasons]


def _times(page: Page, state: dict[str, Any]) -> list[tuple[str, float]]:
    """Returns the seconds of a night by kind of step."""
    spent: dict[str, float] = {}
    for step in state["steps"]:
        kind = step["name"].rpartition("/")[2].split("-")[0]
        spent[kind] = spent.get(kind, 0.0) + step["seconds"]
    return [(WORK[page.language].get(kind, kind), seconds) for kind, seconds in spent.items()]


def _fixed_prompts(request: NightRequest) -> list[str]:
    draws = evaluation_draws(request.seed, request.evaluation_prompts, NightSettings.recorded(request.settings))
    return [draw.prompt for draw in draws]


def _name(page: Page, unit: int) -> str:
    return f"unit-{unit}" if unit else page.word("base")


def _write(home: Path, night: str, page: Page, command: str, kind: str = "night") -> Path:
    """Closes the page and writes it under its night's name and as the newest report."""
    state = Nights(home).read(night)
    rows = [
        (
            _name(page, unit["unit"]),
            _name(page, unit["parent"]) if "parent" in unit else "",
            unit.get("model") or "",
            unit.get("adapter") or "",
            unit.get("selection", {}).get("manifest", ""),
        )
        for unit in state["units"]
    ]
    page.closing(kind, command, rows)
    text = page.html(page.word("title_demo" if kind == "demo" else "title_night"))
    folder = home / "report"
    folder.mkdir(parents=True, exist_ok=True)
    for name in (f"{night}.html", "index.html"):
        temporary = folder / f".{name}"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(folder / name)
    return folder / "index.html"
