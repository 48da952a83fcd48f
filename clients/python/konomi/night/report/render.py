"""The report of a night, or of a demo: facts in, one self-contained HTML file out."""

from collections.abc import Callable, Sequence
from pathlib import Path

from konomi.files import write_atomically, write_json
from konomi.i18n.catalogue import speaking, text
from konomi.night.alarms import percent, unit_name
from konomi.night.records.store import NightStore
from konomi.night.report import curves, figures, sections, summary
from konomi.night.report.again import again
from konomi.night.report.facts import NightFacts, cost_of, json_of, last_night, lineage_of, read_night
from konomi.night.report.page import Block, ContactSheet, Opening, Page, in_all_languages
from konomi.night.report.thumbnails import Thumbnails
from konomi.night.report.truth import DemoFacts, TrueUnit
from konomi.night.verdict import BlindEvaluation
from konomi.taste.likes import Likes

Fetch = Callable[[str], bytes]
"""Returns the bytes of an artifact."""


def write_night_report(nights: NightStore, night: str, fetch: Fetch, language: str, liked: Likes | None = None) -> Path:
    """Writes the report of a night without anyone's truth, and returns its path.

    Args:
        nights: the nights of a home.
        night: id of the night.
        fetch: returns the bytes of an image.
        language: of the reader, shown first; the others are in the report as well.
        liked: what the owner's grades say; left out where it is None.
    """
    facts, thumbnails = read_night(nights, night), Thumbnails(fetch)
    command, cost = again(nights.request(night)), cost_of(nights, night)
    write_json(nights.home / "report" / f"{night}.json", json_of(nights, night))
    command.write(nights.home / "report")

    def make() -> Page:
        title = text("The night's report")
        lead = text(
            "konomi worked alone: it generated images, graded them as the rater expects you to, trained on the best, "
            "and repeated."
        )
        blocks: list[Block] = [Opening(summary.kicker(facts), title, lead), summary.tiles(facts, cost)]
        blocks += [*summary.likes(liked, thumbnails), summary.outcome(facts)]
        blocks += sections.verdict(BlindEvaluation(nights, night), thumbnails)
        blocks += sections.trial(nights.trial(night), thumbnails)
        blocks += _pictures(facts, _night_sheets(facts, thumbnails), thumbnails)
        blocks += sections.last_night(last_night(nights, night))
        blocks += sections.cost(cost)
        blocks += sections.lineage(lineage_of(nights, night))
        blocks += _figures(facts)
        return Page(title, [*blocks, *sections.closing(facts, _night_notes(), command.told())])

    with speaking(language):
        return _write(nights.home, night, make)


def write_demo_report(
    nights: NightStore, night: str, truth: DemoFacts, fetch: Fetch, language: str, liked: Likes | None = None
) -> Path:
    """Writes the report of a demo: the night and what the simulated person truly thinks of it; returns its path.

    Args:
        nights: the nights of a home.
        night: id of the demo's night.
        truth: what `konomi demo` knows beside the night.
        fetch: returns the bytes of an image.
        language: of the reader, shown first; the others are in the report as well.
        liked: what the person's grades say; left out where it is None.
    """
    facts, thumbnails = read_night(nights, night), Thumbnails(fetch)

    def make() -> Page:
        title = text("A night for {name}", name=truth.person)
        lead = text(
            "{name}, a simulated person, graded {labels} images. Then konomi worked alone: it generated images, graded "
            "them as the rater expects {name} to, trained on the best, and repeated. Below is what {name} truly thinks "
            "of each unit.",
            name=truth.person,
            labels=truth.labels,
        )
        blocks: list[Block] = [
            Opening(f"konomi demo · {summary.kicker(facts)}", title, lead), summary.true_tiles(facts, truth)
        ]  # fmt: skip
        blocks += [*summary.likes(liked, thumbnails, truth), summary.outcome(facts)]
        blocks += _pictures(facts, _true_sheets(truth, thumbnails), thumbnails, truth)
        blocks += _figures(facts, truth)
        repeats = text("The same command with the same seed makes the same images on the same machine.")
        return Page(title, [*blocks, *sections.closing(facts, _demo_notes(), [truth.command, repeats])])

    with speaking(language):
        return _write(nights.home, night, make)


def _pictures(
    facts: NightFacts, sheets: Sequence[ContactSheet], thumbnails: Thumbnails, truth: DemoFacts | None = None
) -> list[Block]:
    """Returns what both reports show in pictures, in its order."""
    blocks: list[Block] = sections.rater_alarms(facts)
    if sheets:
        blocks += sections.before_after(sheets, truth.prompts if truth else facts.prompts)
        blocks += sections.contact_sheets(sheets)
    return [*blocks, *sections.selections(facts, thumbnails), *sections.strangest(facts, thumbnails)]


def _figures(facts: NightFacts, truth: DemoFacts | None = None) -> list[Block]:
    """Returns what both reports fold away: the figures for those who want them, each with what it says."""
    curved = bool(truth) or any(unit.scores for unit in facts.units)
    blocks = curves.curves(facts, truth) if curved else []
    blocks += curves.rater(truth) if truth else []
    blocks += [*figures.units(facts), *figures.checkpoints(facts), *figures.measures(facts)]
    return [*blocks, *sections.times(truth.phases if truth else list(facts.work.items()))]


def _night_sheets(facts: NightFacts, thumbnails: Thumbnails) -> list[ContactSheet]:
    return [
        ContactSheet(unit_name(unit.number), [thumbnails.picture(digest) for digest in unit.evaluation])
        for unit in facts.units
        if unit.scores
    ]


def _true_sheets(truth: DemoFacts, thumbnails: Thumbnails) -> list[ContactSheet]:
    sheets = []
    for unit in truth.units:
        graded = zip(unit.digests, unit.grades, strict=True)
        pictures = [thumbnails.picture(digest, grade=grade) for digest, grade in graded]
        sheets.append(ContactSheet(unit_name(unit.number), pictures, _remark(unit)))
    return sheets


def _remark(unit: TrueUnit) -> str:
    rates = f"SSR+ {percent(unit.ssr['value'])} · UR {percent(unit.ur['value'])} · Vendi {unit.vendi['value']:.1f}"
    return f"{rates} · " + text("intact {share}", share=percent(unit.whole))


def _night_notes() -> list[str]:
    """Returns what the figures of a night are, and are not."""
    return [
        text(
            "Nobody graded this night's images: every rate on this page is the rater's expectation, not your verdict."
        ),
        text(
            "Pairs are won in the rater's eyes, at equal prompts and seeds, with its doubt subtracted; only pairs you "
            "judged blind are your own word."
        ),
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


def _write(home: Path, night: str, make: Callable[[], Page]) -> Path:
    """Writes the page under its night's name and as the newest report."""
    folder, data = home / "report", in_all_languages(make).html().encode()
    for name in (f"{night}.html", "index.html"):
        write_atomically(folder / name, data)
    return folder / "index.html"
