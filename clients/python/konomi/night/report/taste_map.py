"""The map of a taste as a file: an SVG of points and regions, or an HTML page with pictures of the regions."""

from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING

from konomi.client.messages import GRADES
from konomi.i18n.catalogue import percent, text
from konomi.v1 import rater_pb2 as rater

if TYPE_CHECKING:
    from konomi.night.report import page

WIDE, HIGH, MARGIN = 900.0, 640.0, 40.0
LIKED = 3
"""Images graded SSR or better that make a region a liked one, as many as make an island."""
SURE, UNSURE = 0.5, 0.9
"""Doubt in grades below which a point is full, and half full."""
SHOWN_REGIONS, SHOWN_PICTURES = 12, 8

STYLE = """
.km{font-family:system-ui,sans-serif;font-size:13px;--n:#77726a;--r:#3f718d;--sr:#2f7640;--ssr:#7443a0;--ur:#96650a;
--kmi:#211f1c;--kms:#645f58;--kma:#b3341d}
@media (prefers-color-scheme:dark){.km{--n:#aaa49a;--r:#84b3cc;--sr:#7cc08a;--ssr:#c39be6;--ur:#ecbb55;
--kmi:#ece8e0;--kms:#aaa398;--kma:#f0866c}}
.km text{fill:var(--kms)}.km .g1{--g:var(--n)}.km .g2{--g:var(--r)}.km .g3{--g:var(--sr)}.km .g4{--g:var(--ssr)}
.km .g5{--g:var(--ur)}.km .g0{--g:var(--kms)}
.km .said{fill:var(--g);stroke:var(--kmi);stroke-width:1}.km .guessed{fill:var(--g)}.km .open{fill:none;stroke:var(--g)}
.km .new{fill:none;stroke:var(--kma);stroke-width:1.5}
.km .liked{fill:var(--ssr);fill-opacity:.1;stroke:var(--ssr);stroke-opacity:.6}
.km .island{fill:none;stroke:var(--ur);stroke-width:2;stroke-dasharray:6 4}
"""


def svg(found: rater.ImageMap) -> str:
    """Returns the map as an SVG that stands alone and follows the reader's light or dark theme."""
    place = _scaled(found)
    alt = text("Map of {count} images; {shown}", count=len(found.points), shown=share_shown(found))
    parts = [_region(region, place) for region in found.regions if region.island or region.liked >= LIKED]
    parts += [_point(point, place, found.newest_unit) for point in found.points]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="km" role="img" viewBox="0 0 {WIDE:.0f} {HIGH + 60:.0f}">'
        f"<title>{escape(alt)}</title><style>{STYLE}</style>{''.join(parts)}{_legend(found)}</svg>"
    )


def html(found: rater.ImageMap, fetch: Callable[[str], bytes]) -> str:
    """Returns the map as one HTML file: the picture, a table of the regions, and pictures of those liked most.

    Args:
        found: the map.
        fetch: returns the bytes of an image.
    """
    from markupsafe import Markup

    from konomi.night.report import page
    from konomi.night.report.thumbnails import Thumbnails

    thumbnails, regions = Thumbnails(fetch), ranked(found)
    by_region: dict[int, list[rater.MapPoint]] = {}
    for point in found.points:
        by_region.setdefault(point.region, []).append(point)
    strips = [
        page.Strip(
            region.images,
            _about(region),
            [thumbnails.picture(point.digest, grade=int(point.grade)) for point in _best(by_region[region.region])],
        )
        for region in regions[:SHOWN_REGIONS]
        if region.region in by_region
    ]
    columns = [text(name) for name in ("region", "images", "graded", "SSR or better", "expected")]
    title = text("Map of a taste")
    blocks: list[page.Block] = [
        page.Opening("konomi map", title, " ".join(remarks(found)) or text("No images yet.")),
        page.Drawing(Markup(svg(found)), title),
        page.Heading(text("Regions")),
        page.Strips(strips),
        page.Table(columns, _rows(found, regions), numeric=(1, 2, 3, 4), label=text("Regions")),
    ]
    return page.Page(title, blocks).html()


def _rows(found: rater.ImageMap, regions: list[rater.MapRegion]) -> "list[list[page.Cell]]":
    """Returns the regions as rows of a table."""
    from konomi.night.report import page

    return [
        [
            page.Cell(str(region.region)),
            page.Cell(str(region.images)),
            page.Cell(str(region.graded)),
            page.Cell(str(region.liked)),
            page.Cell(expected(found, region.region) or "–"),
        ]
        for region in regions
    ]


def remarks(found: rater.ImageMap) -> list[str]:
    """Returns what must be known to read the map: what it shows, and what it leaves out."""
    lines = [share_shown(found)] if found.points else []
    if found.left_out:
        line = "{shown} of {total} images are on it; {graded} graded ones are not"
        counts = {"shown": len(found.points), "total": found.total_size, "graded": found.graded_left_out}
        lines.append(text(line, **counts))
    if found.without_pixels:
        lines.append(text("images whose pixels are gone, not on it: {count}", count=found.without_pixels))
    return lines


def share_shown(found: rater.ImageMap) -> str:
    """Returns how much of the images' differences the two directions show."""
    shown = [percent(share) for share in found.explained_variance] or ["0 %", "0 %"]
    return text("across {first} and up {second} of the differences between the images", first=shown[0], second=shown[1])


def ranked(found: rater.ImageMap) -> list[rater.MapRegion]:
    """Returns the regions: islands, then those liked most, then the largest."""
    return sorted(found.regions, key=lambda one: (not one.island, -one.liked, -one.images, one.region))


def expected(found: rater.ImageMap, region: int) -> str:
    """Returns the mean utility expected of a region's points; empty before the first fit."""
    values = [point.utility for point in found.points if point.region == region and point.HasField("utility")]
    return f"{sum(values) / len(values):.1f}" if values else ""


def _about(region: rater.MapRegion) -> str:
    words = text(
        "region {number}, liked {liked} of {graded}", number=region.region, liked=region.liked, graded=region.graded
    )
    return f"{words} · {text('island')}" if region.island else words


def _best(points: list[rater.MapPoint]) -> list[rater.MapPoint]:
    return sorted(points, key=lambda point: (-point.grade, -point.utility, point.digest))[:SHOWN_PICTURES]


def _scaled(found: rater.ImageMap) -> Callable[[float, float], tuple[float, float, float]]:
    """Returns what turns a place into pixels, one scale for both directions; the third number is pixels a unit."""
    xs, ys = [point.x for point in found.points] or [0.0], [point.y for point in found.points] or [0.0]
    spans = (max(xs) - min(xs)) or 1e-6, (max(ys) - min(ys)) or 1e-6
    scale = min((WIDE - 2 * MARGIN) / spans[0], (HIGH - 2 * MARGIN) / spans[1])
    middle = (max(xs) + min(xs)) / 2, (max(ys) + min(ys)) / 2
    return lambda x, y: (WIDE / 2 + scale * (x - middle[0]), HIGH / 2 - scale * (y - middle[1]), scale)


def _point(point: rater.MapPoint, place: Callable[[float, float], tuple[float, float, float]], newest: str) -> str:
    """Returns a point: rimmed where graded, else as full as the rater is sure, empty where nothing is expected."""
    x, y, _ = place(point.x, point.y)
    at = f'cx="{x:.1f}" cy="{y:.1f}"'
    number = int(point.grade) or (round(point.utility) if point.HasField("utility") else 0)
    if point.grade:
        kind, fill = "said", ""
    elif not number:
        kind, fill = "open", ""
    else:
        opacity = 0.95 if point.std < SURE else 0.55 if point.std < UNSURE else 0.25
        kind, fill = "guessed", f' fill-opacity="{opacity}"'
    said = GRADES[point.grade - 1] if point.grade else text("not graded")
    guess = f", {point.utility:.1f} ± {point.std:.1f}" if point.HasField("utility") else ""
    ring = f'<circle {at} r="6.5" class="new"/>' if newest and point.unit == newest else ""
    title = f"<title>{point.digest[:12]} {escape(said)}{guess}</title>"
    return f'{ring}<circle {at} r="4" class="{kind} g{min(5, max(0, number))}"{fill}>{title}</circle>'


def _region(region: rater.MapRegion, place: Callable[[float, float], tuple[float, float, float]]) -> str:
    x, y, scale = place(region.x, region.y)
    kinds = [kind for kind, is_so in (("liked", region.liked >= LIKED), ("island", region.island)) if is_so]
    radius = max(12.0, scale * region.radius)
    circles = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{kind}"/>' for kind in kinds]
    return f"<g>{''.join(circles)}<title>{escape(_about(region))}</title></g>"


def _legend(found: rater.ImageMap) -> str:
    """Returns what the signs mean, in two lines under the picture."""
    marks = [(f"said g{number}", name) for number, name in enumerate(GRADES, 1)] + [("open g0", text("not graded"))]
    marks += [("guessed g4", text("expected, the fainter the less sure"))] if found.rater_version else []
    line = _marks(marks, HIGH + 14)
    others = [("liked", text("a region you like")), ("island", text("island"))]
    return line + _marks(others + ([("new", text("the newest unit"))] if found.newest_unit else []), HIGH + 40)


def _marks(marks: list[tuple[str, str]], y: float) -> str:
    x, parts = MARGIN, []
    for kind, words in marks:
        parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" class="{kind}"/>')
        parts.append(f'<text x="{x + 12:.0f}" y="{y + 4.5:.0f}">{escape(words)}</text>')
        x += 36 + sum(13 if ord(letter) > 0x2E80 else 7.2 for letter in words)
    return "".join(parts)
