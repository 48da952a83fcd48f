"""The sections of a report, each from its facts to the blocks of a page, in the language in use."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from konomi.i18n.catalogue import N_, language, text
from konomi.night.alarms import fate_of, percent, sentence, unit_name, work
from konomi.night.records.state import StrangeImage
from konomi.night.records.trial import Trial, warning
from konomi.night.records.trial import figures as trial_figures
from konomi.night.report import page
from konomi.night.report.charts import lineage_svg
from konomi.night.report.facts import (
    Cost,
    Growth,
    LineageUnit,
    NightComparison,
    NightFacts,
    NightOutcome,
    UnitSelection,
)
from konomi.night.report.figures import DECISIONS, nats
from konomi.night.report.page import Block, Cell, Heading, Paragraph, Table, Tile, duration
from konomi.night.report.thumbnails import Thumbnails
from konomi.night.verdict import BlindEvaluation, BlindPair, Tally
from konomi.taste.rater_summary import logged_alarms

ROWS, SHEET, EXAMPLES, STRANGE = 8, 64, 6, 24
"""Prompts of the sheet of before and after, pictures of a contact sheet, of a strip, and of the strangest."""

VERDICTS: Mapping[str, str] = {"keep": N_("kept"), "roll_back": N_("rolled back"), "open": N_("open")}
"""The owner's decision about a night."""


def verdict(evaluation: BlindEvaluation, thumbnails: Thumbnails) -> list[Block]:
    """Returns the owner's verdict: the pairs to judge while sides are hidden, or what they said and was decided."""
    pairs, summary = evaluation.pairs(), evaluation.summary()
    if not pairs:
        return []
    names = {"unit": unit_name(summary.unit.unit), "against": unit_name(summary.against.unit)}
    blocks: list[Block] = [Heading(text("Your verdict"))]
    if summary.tally is None:
        blocks += _pairs_to_judge(pairs, summary.answered, names, thumbnails)
    else:
        blocks += _pairs_judged(summary.tally, len(pairs), names)
    decisions = {
        "open": text("Not decided yet: konomi night verdict --keep, or --roll-back."),
        "keep": text("Kept: {unit} is in use.", unit=names["unit"]),
        "roll_back": text("Rolled back: {against} is in use.", against=names["against"]),
    }
    return [*blocks, Paragraph(decisions[summary.decision])]


def _pairs_to_judge(
    pairs: Sequence[BlindPair], answered: int, names: Mapping[str, str], thumbnails: Thumbnails
) -> list[Block]:
    waiting = text(
        "{unit} against {against}, the same prompt and seed on both sides: {answered} of {count} pairs are answered. "
        "Which side is which stays hidden until all are; the rater never learns from them.",
        count=len(pairs),
        answered=answered,
        **names,
    )
    how = text(
        "Judge them on the page or with konomi night verdict. Or look here, note L, R or T (equal) for each pair in "
        "turn, and say:"
    )
    duels = []
    for place, pair in enumerate(pairs, start=1):
        sides = [
            page.Captioned(thumbnails.picture(digest, f"{place} {side}"), [side])
            for side, digest in (("L", pair.left), ("R", pair.right))
        ]
        duels.append(page.Duel(place, *sides))
    command = f"konomi night verdict --answers {'LRT'[: len(pairs)]}… --keep"
    return [
        Paragraph(waiting),
        Paragraph(how),
        page.Command(command),
        page.Duels(text("Show the pairs ({count})", count=len(pairs)), duels),
    ]


def _pairs_judged(tally: Tally, count: int, names: Mapping[str, str]) -> list[Block]:
    preferred = text(
        "{unit} was preferred to {against} in {wins} of {count} pairs, {ties} equal. Blind win rate:",
        wins=tally.wins,
        ties=tally.ties,
        count=count,
        **names,
    )
    advice = {
        "keep": text("It surely wins: keep it."),
        "roll_back": text("It surely loses: roll it back."),
        "open": text("The pairs cannot tell which is better: keep what you like to look at."),
    }
    return [
        Paragraph(preferred, page.share(tally.win_rate)),
        Paragraph(advice[tally.advice], strong=True),
    ]


def last_night(comparison: NightComparison | None) -> list[Block]:
    """Returns what changed since the night before; nothing in the first night."""
    if comparison is None:
        return []
    rows: list[tuple[str, Callable[[NightOutcome], Cell]]] = [
        (text("in use"), lambda night: Cell(unit_name(night.in_use))),
        (text("system"), lambda night: Cell(night.system)),
        (text("version of the rater"), lambda night: Cell(night.rater_version)),
        (text("expected SSR or better"), lambda night: page.share(night.p_ssr)),
        (text("expected UR"), lambda night: page.share(night.p_ur)),
        (text("Vendi score"), lambda night: page.number(night.vendi, 1)),
        (text("distance to what is known"), lambda night: page.number(night.novelty, 3)),
        (text("units made"), lambda night: Cell(str(night.units))),
        (text("images made"), lambda night: Cell(f"{night.images:,}")),
        (text("selection pressure since an audit"), lambda night: Cell(nats(night.nats))),
        (text("time in all"), lambda night: Cell(duration(night.seconds))),
        (text("your blind pairs"), lambda night: page.share(night.win_rate)),
        (text("your decision"), lambda night: Cell(text(VERDICTS[night.decision]))),
    ]
    cells = [[Cell(name), show(comparison.before), show(comparison.now)] for name, show in rows]
    return [
        Heading(text("Since the last night")),
        Paragraph(
            text("Rates are the rater's expectation; they can be compared only where the rater's version is the same."),
            small=True,
        ),
        Table(["", text("before"), text("now")], cells, numeric=(1, 2), label=text("Since the last night")),
    ]


def before_after(sheets: Sequence[page.ContactSheet], prompts: Sequence[str]) -> list[Block]:
    """Returns the sheet of equal prompts and seeds: one row a prompt, one column a unit."""
    note = text("Each row is one prompt and one seed, made by every unit.")
    return [Heading(text("What changed")), Paragraph(note), prompt_grid(sheets, prompts), *_legend(sheets)]


def prompt_grid(sheets: Sequence[page.ContactSheet], prompts: Sequence[str]) -> page.PromptGrid:
    """Returns some of the prompts, spread over all, with the picture of every sheet.

    Args:
        sheets: pictures in the same order for every unit.
        prompts: prompt of each picture.
    """
    rows = []
    for place in spread(len(sheets[0].pictures), ROWS):
        prompt = prompts[place] or text("(no words)")
        pictures = [sheet.pictures[place] for sheet in sheets]
        labelled = [
            replace(picture, alt=f"{sheet.name}: {prompts[place]}")
            for sheet, picture in zip(sheets, pictures, strict=True)
        ]
        rows.append(page.PromptRow(prompt, labelled))
    label = text("The same prompts and seeds side by side")
    return page.PromptGrid([sheet.name for sheet in sheets], rows, label)


def contact_sheets(sheets: Sequence[page.ContactSheet]) -> list[Block]:
    """Returns one contact sheet a unit."""
    count = min(SHEET, len(sheets[0].pictures))
    note = text("The same {count} prompts and seeds for every unit; nothing was picked by looking.", count=count)
    shown = [page.ContactSheet(sheet.name, sheet.pictures[:count], sheet.remark) for sheet in sheets]
    return [Heading(text("Contact sheets")), Paragraph(note), page.ContactSheets(shown), *_legend(sheets)]


def _legend(sheets: Sequence[page.ContactSheet]) -> list[Block]:
    graded = any(picture.grade for picture in sheets[0].pictures)
    return [page.Legend(text("The frame is the true grade:"))] if graded else []


def spread(count: int, most: int) -> list[int]:
    """Returns up to `most` positions spread evenly over `count`: nothing is picked by looking."""
    most = min(count, most)
    return [position * count // most for position in range(most)]


def rater_alarms(night: NightFacts) -> list[Block]:
    """Returns what the rater warned of, each sentence once."""
    sentences = dict.fromkeys(sentence for report in night.rater_reports for sentence in logged_alarms(report.plain()))
    return [Heading(text("What the rater warns of")), page.Statements(list(sentences))] if sentences else []


def trial(tried: Trial | None, thumbnails: Thumbnails) -> list[Block]:
    """Returns what the base model drew before the night: pictures, one sentence, the figures folded away."""
    if tried is None or not tried.digests:
        return []
    warned, figures = warning(tried), trial_figures(tried)
    said = text("The base model {base} draws what you grade.", base=tried.base) if tried.graded_n else figures[0]
    pairs = zip(tried.digests, tried.prompts or [""] * len(tried.digests), strict=False)
    blocks: list[Block] = [
        Heading(text("The trial before the night")),
        Paragraph(said if warned is None else sentence(warned, language()), strong=warned is not None),
        page.Row([thumbnails.picture(digest, prompt) for digest, prompt in pairs]),
    ]
    if tried.graded_n:
        about = text(
            "{count} images of the base model at the night's prompts, held against {graded} graded ones before the "
            "night began; {liked} of these are SSR or better.",
            count=len(tried.digests),
            graded=tried.graded_n,
            liked=tried.liked_n,
        )
        blocks.append(page.Fold(text("The trial in figures"), [Paragraph(about), page.Bullets(figures)]))
    return blocks


def strangest(night: NightFacts, thumbnails: Thumbnails) -> list[Block]:
    """Returns the night's most novel images with what became of each; nothing where no record has them."""
    images = {image.digest: image for unit in night.units if unit.selection for image in unit.selection.strangest}
    shown = sorted(images.values(), key=lambda image: -image.novelty)[:STRANGE]
    if not shown:
        return []
    blocks: list[Block] = [
        Heading(text("The strangest")),
        Paragraph(text("The night's images farthest from everything known, and what became of each.")),
    ]
    for admitted, heading in ((True, text("Let into a training set")), (False, text("Turned away"))):
        group = [image for image in shown if (image.fate in ("selected", "base")) is admitted]
        if group:
            blocks += [Heading(heading, minor=True), page.Gallery([_strange(image, thumbnails) for image in group])]
    return blocks


def _strange(image: StrangeImage, thumbnails: Thumbnails) -> page.Captioned:
    fate = fate_of(image.fate)
    return page.Captioned(thumbnails.picture(image.digest, fate), [fate, f"{image.novelty:.3f}"])


def selections(night: NightFacts, thumbnails: Thumbnails) -> list[Block]:
    """Returns what each unit learned from, and what was rejected and why, with examples."""
    chosen = [(unit.number, unit.selection) for unit in night.units if unit.selection]
    blocks: list[Block] = [Heading(text("What was selected, and what was rejected and why"))] if chosen else []
    for unit, selection in chosen:
        blocks += selected(unit_name(unit), selection, thumbnails)
    return blocks


def selected(unit: str, selection: UnitSelection, thumbnails: Thumbnails) -> list[Block]:
    """Returns what one unit learned from, and what was rejected and why."""
    strips = [_strip("selected", selection.count, selection.selected[:EXAMPLES], thumbnails)]
    strips += [_strip(each.reason, each.count, each.examples, thumbnails) for each in selection.avoided]
    strips += [_strip(each.reason, each.count, each.examples, thumbnails) for each in selection.rejections]
    line = _growth(selection, selection.growth) if selection.growth else _considered(selection)
    if selection.avoided:
        line += " " + text(
            "It also turned away from {count} of konomi's own images, the worst of the same prompts; they are no part "
            "of what it learned to make.",
            count=sum(each.count for each in selection.avoided),
        )
    return [Heading(unit, minor=True), Paragraph(line, small=True), page.Strips(strips)]


def _considered(selection: UnitSelection) -> str:
    return text(
        "{considered} images considered, {selected} selected by taste; {share} of the training set are base images.",
        considered=selection.considered,
        selected=selection.count,
        share=percent(selection.base_share),
    )


def _growth(selection: UnitSelection, growth: Growth) -> str:
    return text(
        "{considered} candidates, {passed} passed the gate, {selected} were taken in: the set has {size} images. "
        "{copies} of the candidates were copies of an original; what the set grew lies at a mean cosine of {cosine} to "
        "its originals, at a depth of {deepest} at most.",
        considered=selection.considered,
        passed=growth.passed,
        selected=selection.count,
        size=growth.size,
        copies=percent(growth.copies),
        cosine=f"{growth.cosine:.2f}",
        deepest=growth.deepest,
    )


def _strip(reason: str, count: int, digests: Sequence[str], thumbnails: Thumbnails) -> page.Strip:
    return page.Strip(count, fate_of(reason), [thumbnails.picture(digest) for digest in digests])


def times(phases: Sequence[tuple[str, float]]) -> list[Block]:
    """Returns where the time went: recorded name and seconds of each phase."""
    total = sum(seconds for _, seconds in phases) or 1.0
    rows = [
        [Cell(work(name, language())), Cell(duration(seconds)), Cell(f"{100 * seconds / total:.1f}", style="bar")]
        for name, seconds in phases
    ]
    heading = text("Where the time went")
    table = Table([text("work"), text("time"), ""], rows, numeric=(1,), wide=2, label=heading)
    return [page.Fold(heading, [table])]


def cost(spent: Cost) -> list[Block]:
    """Returns what the night took, as far as it is known."""
    tiles = [Tile(text("working time"), duration(spent.seconds))]
    if spent.gpu_hours is not None:
        tiles.append(Tile(text("on the accelerator"), text("{hours} h", hours=f"{spent.gpu_hours:.2f}")))
    tiles.append(Tile(text("images"), f"{spent.images:,}"))
    if spent.disk_gib is not None:
        tiles.append(Tile(text("disk"), f"{spent.disk_gib * 1024:,.0f} MB"))
    if spent.collected:
        tiles.append(Tile(text("rejected candidates collected"), f"{spent.collected:,}"))
    if spent.kwh is not None:
        tiles.append(Tile(text("energy"), f"{spent.kwh:.2f} kWh"))
    if spent.price is not None:
        tiles.append(Tile(text("price"), f"{spent.price:.2f}"))
    return [Heading(text("What it cost")), page.Tiles(tiles, small=True)]


def lineage(units: Sequence[LineageUnit]) -> list[Block]:
    """Returns the graph of every unit of the taste; nothing before the first one."""
    if len(units) < 2:
        return []
    heading = text("Where every unit came from")
    words = {name: text(DECISIONS[name]) for name in DECISIONS} | {"served": text("in use")}
    return [Heading(heading), page.Drawing(lineage_svg(units, unit_name, words, heading), heading)]


def closing(night: NightFacts, notes: Sequence[str], command: Sequence[str]) -> list[Block]:
    """Returns the honest notes, the command that does it again with what it rests on, and every identifier.

    Args:
        night: the night.
        notes: what its figures are, and are not.
        command: the line to type, then sentences about it.
    """
    line, *about = command
    columns = [text("unit"), text("parent"), text("model"), text("adapter"), text("training set")]
    rows = []
    for unit in night.units:
        parent = "" if unit.parent is None else unit_name(unit.parent)
        manifest = unit.selection.manifest if unit.selection else ""
        values = (unit_name(unit.number), parent, unit.model, unit.adapter, manifest)
        rows.append([Cell(value, style="code") for value in values])
    identifiers = text("Identifiers: every number that names something")
    return [
        Heading(text("What these figures are, and are not")),
        page.Bullets(notes),
        Heading(text("Do it again")),
        page.Command(line),
        *(Paragraph(sentence, small=True) for sentence in about),
        page.Fold(
            identifiers,
            [Table(columns, rows, label=identifiers), Paragraph(text("This is night {night}.", night=night.night))],
        ),
    ]
