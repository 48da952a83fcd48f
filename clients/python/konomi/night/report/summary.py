"""The first screen of a report: what came of the night, what it cost, and what its person likes."""

import re
from collections.abc import Sequence

from konomi.i18n.catalogue import language, listing, text
from konomi.night.alarms import percent, unit_name
from konomi.night.metrics import Estimate
from konomi.night.report import page
from konomi.night.report.facts import Cost, NightFacts, Unit
from konomi.night.report.page import Block, Paragraph, Tile, Tiles, duration
from konomi.night.report.thumbnails import Thumbnails
from konomi.night.report.truth import DemoFacts
from konomi.night.systems.registry import SYSTEMS
from konomi.taste.likes import Likes, Word

UNNAMED = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A taste whose id nobody chose."""


def kicker(night: NightFacts) -> str:
    """Returns the name of the taste, where it is one for people, the system and the date."""
    name = "" if UNNAMED.fullmatch(night.taste) else night.taste
    return " · ".join(filter(None, (name, _system(night.system), night.began.isoformat())))


def _system(chain: str) -> str:
    """Returns the titles of a system, or of a chain of them."""
    names = [part.partition(":")[0] for part in chain.split("+")]
    return " → ".join(text(SYSTEMS[name].title) if name in SYSTEMS else name for name in names)


def tiles(night: NightFacts, cost: Cost) -> Tiles:
    """Returns what is in use, what changed in the rater's eyes, and what it cost."""
    base, served = _unit(night, 0), _unit(night, night.served)
    figures = [_in_use(night)]
    if base and served and base.scores and served.scores and night.served == night.in_use:
        if served is not base:
            if served.wins_base:
                won = text("pairs won against the base model, in the rater's eyes")
                figures.append(Tile(won, percent(served.wins_base["value"])))
            before = _was(percent(base.scores.p_ssr["value"]))
            expected = text("SSR or better, as the rater expects")
            figures.append(Tile(expected, percent(served.scores.p_ssr["value"]), before))
        figures += _diversity(night, base.scores.vendi, served.scores.vendi)
    images = text("{images} images", images=f"{cost.images:,}")
    disk = "" if cost.disk_gib is None else f" · {cost.disk_gib * 1024:,.0f} MB"
    return Tiles([*figures, Tile(text("time in all"), duration(night.seconds), images + disk)])


def true_tiles(night: NightFacts, truth: DemoFacts) -> Tiles:
    """Returns what is in use after a demo, and what changed in the eyes of its simulated person."""
    base = truth.units[0]
    served = next(unit for unit in truth.units if unit.number == night.served)
    figures = [_in_use(night)]
    for name, now, before in (
        (text("truly SSR or better"), served.ssr["value"], base.ssr["value"]),
        (text("truly UR"), served.ur["value"], base.ur["value"]),
    ):
        times = text("{value} times", value=f"{now / before:.1f}") + " · " if before and served is not base else ""
        figures.append(Tile(name, percent(now), times + _was(percent(before)) if served is not base else ""))
    figures += _diversity(night, base.vendi, served.vendi)
    slept = text("of which the night {time}", time=duration(truth.night_seconds))
    slept = slept if truth.night_seconds <= truth.seconds else ""  # it slept before, and was gone on with now
    return Tiles([*figures, Tile(text("time in all"), duration(truth.seconds), slept)])


def _in_use(night: NightFacts) -> Tile:
    remark = "" if night.in_use == night.served else text("you rolled {unit} back", unit=unit_name(night.served))
    return Tile(text("In use after this night"), unit_name(night.in_use), remark)


def _unit(night: NightFacts, number: int) -> Unit | None:
    return next((unit for unit in night.units if unit.number == number and unit.scores), None)


def _was(value: str) -> str:
    return text("was {value}", value=value)


def _diversity(night: NightFacts, before: Estimate, now: Estimate) -> list[Tile]:
    """Returns what is left of the diversity, and beside it how much of what the unit makes only repeats."""
    if not night.served:
        return []
    kept = now["value"] / max(before["value"], 1e-9)
    vendi = text(
        "as if {now} different images, were {before} (Vendi score)",
        now=f"{now['value']:.0f}",
        before=f"{before['value']:.0f}",
    )
    figures = [Tile(text("diversity kept"), percent(kept), vendi)]
    unit = _unit(night, night.served)
    copies = unit.scores.measures.get("near_copies") if unit and unit.scores else None
    if unit and unit.scores and isinstance(copies, float | int):
        chance = text("{share} of the base model's do so by chance", share=percent(unit.scores.copies_by_chance))
        figures.append(Tile(text("nearly repeat an image it learnt from"), percent(copies), chance))
    return figures


def outcome(night: NightFacts) -> page.Statements:
    """Returns why each unit was decided as it was, with its warnings, and how the night ended."""
    sentences = [reason.told(language()) for reason in night.reasons]
    warned = [reason.told(language()) for unit in night.units for reason in unit.reasons]
    return page.Statements(list(dict.fromkeys([*sentences, *warned])))


def likes(liked: Likes | None, thumbnails: Thumbnails, truth: DemoFacts | None = None) -> list[Block]:
    """Returns what the person likes, in a line and a row of pictures; nothing where nobody looked.

    Args:
        liked: what the grades say.
        thumbnails: makes the pictures.
        truth: what a simulated person truly likes, to be held against it.
    """
    if liked is None or not liked.graded:
        return []
    heading = text("What you like") if truth is None else text("What {name} likes", name=truth.person)
    blocks: list[Block] = [page.Heading(heading), Paragraph(_liked(liked))]
    if liked.images:
        blocks.append(page.Row([thumbnails.picture(digest) for digest in liked.images]))
    return [*blocks, *_hidden(truth)] if truth else blocks


def _liked(liked: Likes) -> str:
    count = text(
        "{liked} of {graded} graded images are SSR or better.", liked=f"{liked.liked:,}", graded=f"{liked.graded:,}"
    )
    told = count
    if not liked.words and not liked.shunned:
        told = _after(told, text("No word of their prompts surely tells them from the others; the pictures do."))
    if liked.words:
        told = _after(told, text("More often with {words}.", words=listing(_word(word) for word in liked.words)))
    if liked.shunned:
        told = _after(told, text("Less often with {words}.", words=listing(_word(word) for word in liked.shunned)))
    return told


def _after(first: str, second: str) -> str:
    """Returns two sentences as the language in use sets one after the other."""
    return text("{first} {second}", first=first, second=second)


def _word(word: Word) -> str:
    return text(
        "{words} ({liked} of the liked, {rest} of the others)",
        words=word.words,
        liked=percent(word.liked),
        rest=percent(word.rest),
    )


def _hidden(truth: DemoFacts) -> Sequence[Block]:
    """Returns what a simulated person truly likes, which konomi was never told."""
    by_weight = sorted(truth.weights.items(), key=lambda pair: -pair[1])
    names = {name: name.replace("=", ": ").replace("_", " ") for name in truth.weights}
    more = listing(names[name] for name, weight in by_weight[:3] if weight > 0)
    fewer = listing(names[name] for name, weight in by_weight[:-4:-1] if weight < 0)
    if not more and not fewer:
        return []
    words = text(
        "The truth konomi was never told: {name} likes {more}, and does not like {fewer}.",
        name=truth.person,
        more=more or "–",
        fewer=fewer or "–",
    )
    return [Paragraph(words, small=True)]
