"""The figures of a night's units: what was decided, how they score, how far they moved, and what each figure says."""

from collections.abc import Mapping, Sequence

from konomi.i18n.catalogue import N_, text
from konomi.night.alarms import percent, unit_name
from konomi.night.metrics import Estimate
from konomi.night.report import page
from konomi.night.report.facts import NightFacts
from konomi.night.report.page import Block, Cell, Meaning, Meanings, Paragraph, Table, duration

DECISIONS: Mapping[str, str] = {
    "start": N_("base model"),
    "promote": N_("promoted"),
    "keep": N_("parent kept"),
    "halt": N_("halted"),
    "unfinished": N_("not finished"),
}
"""What became of a unit, by its recorded decision."""

MEASURES: Mapping[str, str] = {
    "kid": N_("KID ×10³"),
    "cmmd": N_("CMMD ×10³"),
    "precision": N_("precision"),
    "recall": N_("recall"),
    "density": N_("density"),
    "coverage": N_("coverage"),
    "likes_covered": N_("known likes reached"),
    "near_copies": N_("near-copies"),
    "largest_cell_share": N_("largest kind"),
    "cell_entropy": N_("evenness"),
}
"""Heads of the table of measures."""
SHARES = ("precision", "recall", "coverage", "likes_covered", "near_copies", "largest_cell_share", "cell_entropy")


MEANINGS: Mapping[str, str] = {
    "pairs won (rater)": N_(
        "share of pairs, of the same prompt and seed, in which the rater puts the unit above its parent; no person was "
        "asked"
    ),
    "Vendi score": N_("how many truly different images the set amounts to; more is more varied"),
    "doubt σ": N_("how unsure the rater is of what it predicts; where it grows, the unit leaves what the rater knows"),
    "untypical": N_("share of the images that are unlike anything known"),
    "pressure": N_(
        "how hard the rater's choice pressed, in nats: at 1 about every third image was kept, at 3 every twentieth; "
        "a rater that is pressed too hard gets fooled"
    ),
    "KID ×10³": N_("how far the unit's images are from the base model's on the whole; 0 is no difference"),
    "CMMD ×10³": N_("the same question, measured another way; 0 is no difference"),
    "precision": N_("share of the unit's images that the base model could have made as well"),
    "recall": N_("share of the base model's images that the unit could make as well; low means it forgot"),
    "density": N_("how close the unit's images are to the base model's; 1 is as close as these are to each other"),
    "coverage": N_("share of the base model's images with one of the unit's near"),
    "known likes reached": N_("share of the kinds of image you are known to like that the unit still makes"),
    "near-copies": N_("share of the images that almost repeat an image the unit was trained on"),
    "largest kind": N_("share of the images that are of the commonest kind; high means sameness"),
    "evenness": N_("how evenly the images spread over the kinds; 1 is quite evenly"),
}
"""Head of a column to what it says, in one plain line."""


def meanings(columns: Sequence[str]) -> Meanings:
    """Returns one plain line for each head, in English, of a column that has one."""
    return Meanings([Meaning(text(name), text(MEANINGS[name])) for name in columns if name in MEANINGS])


def units(night: NightFacts) -> list[Block]:
    """Returns the table of the units, and what its figures say."""
    figures = [N_("pairs won (rater)"), N_("Vendi score"), N_("doubt σ"), N_("untypical"), N_("pressure")]
    columns = [text("unit"), text("decision"), *map(text, figures), text("images made"), text("time")]
    rows = []
    for unit in night.units:
        scores = unit.scores
        rows.append(
            [
                Cell(unit_name(unit.number)),
                Cell(text(DECISIONS[unit.decision]), style=unit.decision),
                page.share(unit.wins) if unit.wins else Cell(""),
                page.number(scores.vendi, 1) if scores else Cell(""),
                Cell(f"{scores.doubt:.2f}" if scores else ""),
                Cell(percent(scores.untypical) if scores else ""),
                Cell(nats(unit.selection.nats) if unit.selection else ""),
                Cell(f"{unit.images:,}"),
                Cell(duration(unit.seconds)),
            ]
        )
    table = Table(columns, rows, numeric=range(2, 9), label=text("The units"))
    return [page.Fold(text("The units"), [table, meanings(figures)])]


def checkpoints(night: NightFacts) -> list[Block]:
    """Returns which checkpoint of each fit was kept and what spoke for it; nothing where nobody chose."""
    chosen = [(unit.number, unit.checkpoints) for unit in night.units if unit.checkpoints is not None]
    if not chosen:
        return []
    heading = text("Where each fit was stopped")
    columns = [text("unit"), text("after step"), text("pairs won against the base model"), text("diversity"), ""]
    rows = []
    for unit, choice in chosen:
        for one in choice.tried:
            kept = one.step == choice.kept
            rows.append(
                [
                    Cell(unit_name(unit)),
                    Cell(text("{step} of {steps}", step=f"{one.step:,}", steps=f"{choice.steps:,}")),
                    page.share(one.wins),
                    Cell(percent(one.vendi), remark="" if one.vendi >= choice.floor else text("too much alike")),
                    Cell(text("kept") if kept else "", style="promote" if kept else ""),
                ]
            )
    images = max(int(one.wins.get("n", 0)) for _, choice in chosen for one in choice.tried)
    about = text(
        "A fit on few images goes on learning them by heart after it has stopped getting better. So its checkpoints "
        "each drew {images} images, and the rater said how often they are better than the base model's of the same "
        "prompts and seeds. Diversity is the Vendi score as a share of the base model's, and must not fall below "
        "{floor}.",
        images=images,
        floor=percent(max(choice.floor for _, choice in chosen)),
    )
    doubt = text(
        "Where the intervals overlap, the checkpoints may well be equally good. The best of several always looks a "
        "little better than it is; the figures of the unit rest on other images."
    )
    table = Table(columns, rows, numeric=(1, 2, 3), label=heading)
    return [page.Fold(heading, [Paragraph(about), table, Paragraph(doubt, small=True)])]


def measures(night: NightFacts) -> list[Block]:
    """Returns how far each unit moved from the base model; nothing where it was not measured."""
    measured = [(unit.number, unit.scores) for unit in night.units if unit.scores and unit.scores.measures]
    if not measured:
        return []
    last, heading = measured[-1][1], text("How far each unit moved")
    about: list[Block] = [
        Paragraph(
            text(
                "Against the base model's images of the same prompts and seeds (for the base model itself: against the "
                "taste's base images), in the rater's embedding."
            )
        )
    ]
    if not last.enough:
        few = text("Only {count} images a side: KID and CMMD need 500; read them as a direction.", count=last.compared)
        about.append(Paragraph(few, small=True))
    names = [name for name in MEASURES if any(name in scores.measures for _, scores in measured)]
    rows = []
    for name in names:
        figures = [_measure(scores.measures.get(name), name) for _, scores in measured]
        rows.append([Cell(text(MEASURES[name]), remark=text(MEANINGS[MEASURES[name]])), *figures])
    columns = [text("measure"), *(unit_name(unit) for unit, _ in measured)]
    table = Table(columns, rows, numeric=range(1, len(columns)), label=heading)
    return [page.Fold(heading, [*about, table, *_islands(night)])]


def _measure(value: Estimate | float | None, name: str) -> Cell:
    if value is None:
        return Cell("–")
    if isinstance(value, dict):
        return page.number(value, 1)
    return Cell(percent(value) if name in SHARES else f"{value:.2f}")


def _islands(night: NightFacts) -> list[Block]:
    searched = [unit.selection for unit in night.units if unit.selection and unit.selection.islands is not None]
    if not searched:
        return []
    last = searched[-1]
    unseen = "–" if last.unseen_likes is None else percent(last.unseen_likes)
    words = text(
        "Islands found: {islands}. Chance that the next liked image is of a region not liked before: {unseen}.",
        islands=last.islands,
        unseen=unseen,
    )
    return [Paragraph(words, strong=True)]


def nats(value: float) -> str:
    """Returns a selection pressure with its unit."""
    return text("{nats} nats", nats=f"{value:.1f}")
