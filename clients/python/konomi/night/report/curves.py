"""The curves of a report: what changed from unit to unit, with 95 % intervals, and how good the rater is."""

from collections.abc import Sequence

from konomi.i18n.catalogue import text
from konomi.night.alarms import percent, unit_name
from konomi.night.metrics import Estimate, estimate
from konomi.night.report.charts import Series, curve, dots
from konomi.night.report.facts import NightFacts, Unit
from konomi.night.report.page import Block, Chart, Charts, Fold, Paragraph
from konomi.night.report.truth import DemoFacts


def curves(night: NightFacts, demo: DemoFacts | None) -> list[Block]:
    """Returns the curves over the units with their 95 % intervals."""
    scored = {unit.number: unit.scores for unit in night.units if unit.scores}
    numbers = [unit.number for unit in demo.units] if demo else list(scored)
    ticks = [unit_name(unit) for unit in numbers]
    if demo:
        caption = text("Share of fresh images {name} truly grades SSR or better, and UR", name=demo.person)
        ssr, ur = [unit.ssr for unit in demo.units], [unit.ur for unit in demo.units]
        vendi = [unit.vendi for unit in demo.units]
    else:
        caption = text("Share of images the rater expects to be SSR or better, and UR")
        ssr, ur = [scores.p_ssr for scores in scored.values()], [scores.p_ur for scores in scored.values()]
        vendi = [scores.vendi for scores in scored.values()]
    rates = [Series(text("SSR or better"), ssr), Series(text("UR"), ur)]
    floor = text("floor, {share} of the base model", share=percent(night.diversity_floor))
    limit = (night.diversity_floor * vendi[0]["value"], floor)
    diversity = text("Diversity: effective number of different images (Vendi score)")
    remark = text("Bars are 95 % intervals over {count} images a unit.", count=int(ssr[0]["n"]))
    charts = [
        Chart(curve(ticks, rates, percent=True, alt=caption), caption, remark),
        Chart(curve(ticks, [Series("Vendi", vendi)], floor=limit, alt=diversity), diversity, remark),
    ]
    if demo:
        charts.append(_gains(ticks, night, demo))
    measured = [unit for unit in night.units if unit.scores and unit.number in numbers]
    return [Fold(text("The curves"), [Charts([*charts, *_distances(measured)])])]


def _gains(ticks: Sequence[str], night: NightFacts, demo: DemoFacts) -> Chart:
    """Returns the chart of true utility beside what the rater expected, in spreads of the base model."""
    scored = {unit.number: unit.scores for unit in night.units}
    scores = [figures for unit in demo.units if (figures := scored.get(unit.number))]
    caption = text("True utility, and what the rater expected")
    series = [
        Series(text("truth"), _over_first([unit.utility for unit in demo.units], demo.spread)),
        Series(text("the rater's expectation"), _over_first([figures.utility for figures in scores], scores[0].spread)),
    ]
    remark = text(
        "Both as gains in spreads of the base model's images. Where the rater's curve rises and the truth does not, "
        "the rater is being fooled."
    )
    return Chart(curve(ticks, series, from_zero=False, alt=caption), caption, remark)


def _over_first(figures: Sequence[Estimate], spread: float) -> list[Estimate]:
    """Returns figures as gains over the first, in units of a spread."""
    base, unit = figures[0]["value"], spread or 1.0
    gains = [{end: (each[end] - base) / unit for end in ("value", "low", "high")} for each in figures]
    return [
        estimate(gain["value"], gain["low"], gain["high"], int(each["n"]))
        for gain, each in zip(gains, figures, strict=True)
    ]


def _distances(units: Sequence[Unit]) -> list[Chart]:
    """Returns further curves over the units: novelty, distance to the base model, the gap."""
    ticks = [unit_name(unit.number) for unit in units]
    scores = [unit.scores for unit in units if unit.scores]
    curves_of: Sequence[tuple[str, Sequence[Estimate | float | None]]] = (
        (text("Novelty: mean distance to the 15 nearest known images"), [each.novelty for each in scores]),
        (text("Distance to the base model (KID ×10³)"), [each.measures.get("kid") for each in scores]),
        (
            text("Gap: the rater's gain beyond what supports it, in spreads of the base model"),
            [estimate(unit.gap, unit.gap, unit.gap, 0) for unit in units],
        ),
    )
    charts = []
    for place, (caption, figures) in enumerate(curves_of):
        points = [point for point in figures if isinstance(point, dict)]
        if len(points) == len(ticks) > 1:
            drawing = curve(ticks, [Series(caption, points)], from_zero=place == 0, alt=caption)
            charts.append(Chart(drawing, caption, text("95 % intervals where they are known.")))
    return charts


def rater(demo: DemoFacts) -> list[Block]:
    """Returns how good the rater is, against the truth of a simulated person."""
    rows = [
        (text("ranks as {name} does (Spearman)", name=demo.person), demo.rank, 0.0),
        (text("tells SSR from the rest (AUC)"), demo.ssr_auc, 0.5),
        (text("finds UR first (average precision)"), demo.ur_precision, demo.ur_share),
    ]
    heading = text("How good the rater is")
    note = text(
        "After {labels} grades, on {count} fresh images of the base model it never saw, against the truth. The short "
        "mark is what a rater without any taste reaches.",
        labels=demo.labels,
        count=int(demo.rank["n"]),
    )
    remark = " · ".join(f"{name}: {value['value']:.2f}" for name, value, _ in rows)
    return [Fold(heading, [Paragraph(note), Charts([Chart(dots(rows, alt=heading), remark=remark)])])]
