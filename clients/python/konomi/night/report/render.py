"""The report of a night, or of a demo: facts in, one self-contained HTML file out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from konomi.files import write_atomically, write_json
from konomi.i18n.catalogue import speaking, text
from konomi.night.alarms import percent, unit_name
from konomi.night.records.store import NightStore
from konomi.night.report import curves, sections
from konomi.night.report.facts import NightFacts, cost_of, json_of, last_night, lineage_of, read_night
from konomi.night.report.page import Block, ContactSheet, Opening, Page, Picture, Statements, Tile, Tiles, duration
from konomi.night.report.thumbnails import Thumbnails
from konomi.night.report.truth import DemoFacts, TrueUnit
from konomi.night.verdict import BlindEvaluation

Fetch = Callable[[str], bytes]
"""Returns the bytes of an artifact."""


def write_night_report(nights: NightStore, night: str, fetch: Fetch, language: str) -> Path:
    """Writes the report of a night without anyone's truth, and returns its path.

    Args:
        nights: the nights of a home.
        night: id of the night.
        fetch: returns the bytes of an image.
        language: of the reader.
    """
    facts, thumbnails = read_night(nights, night), Thumbnails(fetch)
    write_json(nights.home / "report" / f"{night}.json", json_of(nights, night))
    with speaking(language):
        title = text("The night's report")
        lead = text("konomi worked alone: it generated, graded as you would, trained on the best, and repeated.")
        kicker = f"{facts.taste} · {facts.system} · {facts.began.isoformat()}"
        blocks: list[Block] = [Opening(kicker, title, lead), Tiles(_night_tiles(facts))]
        blocks.append(Statements([reason.told(language) for reason in facts.reasons]))
        blocks += sections.verdict(BlindEvaluation(nights, night), thumbnails)
        blocks += sections.last_night(last_night(nights, night))
        blocks += _middle(facts, _night_sheets(facts, thumbnails), thumbnails)
        blocks += sections.cost(cost_of(nights, night))
        blocks += sections.lineage(lineage_of(nights, night))
        command = f"konomi night start {facts.system} --seed {facts.seed}"
        blocks += sections.closing(facts, _night_notes(), command)
        return _write(nights.home, night, Page(title, blocks))


def write_demo_report(nights: NightStore, night: str, truth: DemoFacts, fetch: Fetch, language: str) -> Path:
    """Writes the report of a demo: the night and what the simulated person truly thinks of it; returns its path.

    Args:
        nights: the nights of a home.
        night: id of the demo's night.
        truth: what `konomi demo` knows beside the night.
        fetch: returns the bytes of an image.
        language: of the reader.
    """
    facts, thumbnails = read_night(nights, night), Thumbnails(fetch)
    with speaking(language):
        title = text("A night for {name}", name=truth.person)
        lead = text(
            "{name} graded {labels} images. Then konomi worked alone: it generated, graded as {name} would, trained on "
            "the best, and repeated. Below is what {name} truly thinks of each unit.",
            name=truth.person,
            labels=truth.labels,
        )
        blocks: list[Block] = [Opening(f"konomi demo · {facts.system}", title, lead), Tiles(_demo_tiles(facts, truth))]
        blocks.append(Statements([reason.told(language) for reason in facts.reasons]))
        blocks += _middle(facts, _true_sheets(truth, thumbnails), thumbnails, truth)
        blocks += sections.closing(facts, _demo_notes(), truth.command)
        return _write(nights.home, night, Page(title, blocks))


def _middle(
    facts: NightFacts, sheets: Sequence[ContactSheet], thumbnails: Thumbnails, truth: DemoFacts | None = None
) -> list[Block]:
    """Returns the sections both reports share, in their order."""
    blocks: list[Block] = []
    if sheets:
        blocks += sections.before_after(sheets, truth.prompts if truth else facts.prompts)
        blocks += curves.curves(facts, truth)
        blocks += curves.rater(truth) if truth else []
        blocks += sections.contact_sheets(sheets)
    blocks += sections.units(facts)
    blocks += sections.measures(facts)
    blocks += sections.rater_alarms(facts)
    blocks += sections.strangest(facts, thumbnails)
    blocks += sections.selections(facts, thumbnails)
    return [*blocks, *sections.times(truth.phases if truth else sections.steps(facts))]


def _night_sheets(facts: NightFacts, thumbnails: Thumbnails) -> list[ContactSheet]:
    return [
        ContactSheet(unit_name(unit.number), [Picture(thumbnails.url(digest)) for digest in unit.evaluation])
        for unit in facts.units
        if unit.scores
    ]


def _true_sheets(truth: DemoFacts, thumbnails: Thumbnails) -> list[ContactSheet]:
    sheets = []
    for unit in truth.units:
        graded = zip(unit.digests, unit.grades, strict=True)
        pictures = [Picture(thumbnails.url(digest), grade=grade) for digest, grade in graded]
        sheets.append(ContactSheet(unit_name(unit.number), pictures, _remark(unit)))
    return sheets


def _remark(unit: TrueUnit) -> str:
    rates = f"SSR+ {percent(unit.ssr['value'])} · UR {percent(unit.ur['value'])} · Vendi {unit.vendi['value']:.1f}"
    return f"{rates} · " + text("intact {share}", share=percent(unit.whole))


def _was(value: str) -> str:
    return text("was {value}", value=value)


def _night_tiles(facts: NightFacts) -> list[Tile]:
    tiles = [Tile(text("In use now"), unit_name(facts.served))]
    scored = [unit for unit in facts.units if unit.scores]
    served = next((unit for unit in scored if unit.number == facts.served), None)
    if served is not None and served.scores and scored[0].scores:
        base, scores = scored[0].scores, served.scores
        if served.wins_base:
            tiles.append(Tile(text("pairs won against the base model"), percent(served.wins_base["value"])))
        before = _was(percent(base.p_ssr["value"]))
        tiles.append(Tile(text("SSR or better"), percent(scores.p_ssr["value"]), before))
        kept = scores.vendi["value"] / max(base.vendi["value"], 1e-9)
        tiles.append(Tile(text("diversity kept"), percent(kept), f"Vendi {scores.vendi['value']:.1f}"))
    return [*tiles, Tile(text("time in all"), duration(facts.seconds))]


def _demo_tiles(facts: NightFacts, truth: DemoFacts) -> list[Tile]:
    base = truth.units[0]
    served = next(unit for unit in truth.units if unit.number == facts.served)
    tiles = [Tile(text("In use now"), unit_name(served.number))]
    for name, now, before in (
        (text("SSR or better"), served.ssr["value"], base.ssr["value"]),
        (text("UR"), served.ur["value"], base.ur["value"]),
    ):
        times = text("{value} times", value=f"{now / before:.1f}") + " · " if before else ""
        tiles.append(Tile(name, percent(now), times + _was(percent(before))))
    kept = served.vendi["value"] / max(base.vendi["value"], 1e-9)
    vendi = f"Vendi {served.vendi['value']:.1f} · " + _was(f"{base.vendi['value']:.1f}")
    tiles.append(Tile(text("diversity kept"), percent(kept), vendi))
    tiles.append(Tile(text("rater against the truth"), f"{truth.rank['value']:.2f}", text("Spearman's ρ")))
    night = text("of which the night {time}", time=duration(truth.night_seconds))
    return [*tiles, Tile(text("time in all"), duration(truth.seconds), night)]


def _night_notes() -> list[str]:
    """Returns what the figures of a night are, and are not."""
    return [
        text(
            "Nobody graded this night's images: every rate on this page is the rater's expectation, not your verdict."
        ),
        text("Pairs are won in the rater's eyes, at equal prompts and seeds, with its doubt subtracted."),
        text("The interval of the Vendi score comes from the spread of four disjoint quarters of the images."),
    ]


def _demo_notes() -> list[str]:
    """Returns what the figures of a demo are, and are not."""
    return [
        text(
            "The person is simulated: a hidden utility over attributes of the picture, read back by an attribute "
            "reader. No human graded anything here."
        ),
        text(
            "The rates are the true ones: fresh images of fixed prompts, graded by the hidden utility itself. konomi "
            "never sees it; it only saw the noisy grades given before the night."
        ),
        text(
            "The grades are cut at quantiles of the base model's own images, so the base model has about 18 % SSR or "
            "better by construction."
        ),
        text("Pairs are won in the rater's eyes; only the true rates say whether they were won in the person's."),
        text("The interval of the Vendi score comes from the spread of four disjoint quarters of the images."),
    ]


def _write(home: Path, night: str, page: Page) -> Path:
    """Writes the page under its night's name and as the newest report."""
    folder, data = home / "report", page.html().encode()
    for name in (f"{night}.html", "index.html"):
        write_atomically(folder / name, data)
    return folder / "index.html"
