"""`konomi explore`: images far from everything known and yet plausible; those like words or an image; or favourites."""

from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, say, table
from konomi.client import Client
from konomi.client.messages import GRADES, plain
from konomi.client.services import taste_name
from konomi.datasets.media import ENDINGS, media_type_of
from konomi.errors import InvalidArgument
from konomi.files import write_for_user
from konomi.i18n.catalogue import percent, text
from konomi.night.systems.longtail import LEAST_SHOWINGS
from konomi.taste import search
from konomi.v1 import rater_pb2 as rater

Words = Annotated[
    str | None, typer.Option("--text", metavar="WORDS", help="Find the images these words describe best instead.")
]
Like = Annotated[
    str | None, typer.Option("--like", metavar="FILE|DIGEST", help="Find the images most like this one instead.")
]
Save = Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also write the images there, to look at.")]
Elites = Annotated[int, typer.Option(min=0, max=4096, help="Also show the best image of each of this many regions.")]
Favourites = Annotated[
    bool, typer.Option("--favourites", help="List the images you keep in mind (★ on the page) instead.")
]


def explore(
    words: Words = None,
    like: Like = None,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many images.")] = 10,
    skip: Annotated[
        int, typer.Option(min=0, max=9999, help="With --text or --like: leave out so many of the nearest.")
    ] = 0,
    taste: TasteId = "default",
    save: Save = None,
    elites: Elites = 0,
    favourites: Favourites = False,
    as_json: Json = False,
) -> None:
    """Find images far from everything known, worth a look, most novel first; or those like words or an image.

    --text needs an embedder that reads words, as CLIP models do. The file of --like does not become an image of
    the taste. The next page of either: --skip 10.

    Example: konomi explore --count 20 --save look

    Example: konomi explore --text "a red hat in the snow"

    Example: konomi explore --like sketch.png --count 5

    Example: konomi explore --favourites --save look
    """
    if favourites:
        if words is not None or like is not None or skip or elites:
            raise InvalidArgument(text("--favourites goes with --count and --save alone"))
        return _kept(taste, count, save, as_json=as_json)
    if words is not None or like is not None:
        return _search(words, like, taste, (count, skip), save, elites=elites, as_json=as_json)
    if skip:
        raise InvalidArgument(text("--skip goes with --text or --like; the long tail has no pages"))
    return _far(taste, count, save, elites=elites, as_json=as_json)


def _far(taste: str, count: int, save: Path | None, *, elites: int, as_json: bool) -> None:
    """Prints the images least like anything known that are still plausible, and the best of each region where asked."""
    with attached() as client:
        response = client.rater.explore_novelty(taste=taste_name(taste), count=count, cells=elites)
        best = [elite.image for elite in response.archive.elites]
        saved = [write_image(client, image.digest, save) for image in [*response.images, *best]] if save else []
    if as_json:
        archive = {"archive": plain(response.archive)} if response.HasField("archive") else {}
        archive |= {"discovery": plain(response.discovery)} if response.HasField("discovery") else {}
        images = [plain(image) for image in response.images]
        return emit({"taste": taste_name(taste), "images": images, "saved": saved, **archive})
    if response.images:
        _print_far(response)
    else:
        note(text("nothing novel and plausible yet: make or import more images"))
    if elites:
        _print_elites(response)
    if response.HasField("discovery"):
        say(_discovery(response.discovery))
    for path in saved:
        say(path)
    return None


def _kept(taste: str, count: int, save: Path | None, *, as_json: bool) -> None:
    """Prints the favourites, newest first."""
    name = taste_name(taste)
    with attached() as client:
        found = client.rater.list_favourites(taste=name, page_size=count)
        images = [client.rater.get_image(taste=name, digest=one.image_digest) for one in found.favourites]
        there = [image.digest for image in images if not image.pixels_collected]
        saved = [write_image(client, digest, save) for digest in there] if save else []
    if as_json:
        return emit(
            {"taste": name, "total": found.total_size, "images": [plain(one) for one in images], "saved": saved}
        )
    if not images:
        return note(text("no favourites yet: press f in the page's library, or ★ in a picture's details"))
    rows = [(image.digest[:12], str(plain(image)["grade"]) if image.grade else "", _about(image)) for image in images]
    table(("image", "your grade", "prompt or file"), rows)
    if found.total_size > len(images):
        note(text("the newest {count} of {total}; more with --count", count=len(images), total=found.total_size))
    for path in saved:
        say(path)
    return None


def _search(
    words: str | None,
    like: str | None,
    taste: str,
    page: tuple[int, int],
    save: Path | None,
    *,
    elites: int,
    as_json: bool,
) -> None:
    """Prints the images nearest to words or to an image; `page` is how many, and how many before them are left out."""
    if words is not None and like is not None:
        raise InvalidArgument(text("--text and --like are two searches; give one of them"))
    if elites:
        raise InvalidArgument(text("--elites goes with the long tail, not with --text or --like"))
    name, (count, skip) = taste_name(taste), page
    with attached() as client:
        if words is not None:
            found = search.by_text(client, name, words, count, skip)
        else:
            found = search.by_image(client, name, search.query_image(client, name, like or ""), count, skip)
        there = [hit.image.digest for hit in found.hits if not hit.image.pixels_collected]
        saved = [write_image(client, digest, save) for digest in there] if save else []
    if as_json:
        images = [plain(hit.image) | {"similarity": hit.similarity} for hit in found.hits]
        about = {"text": words} if words is not None else {"like": like}
        return emit({"taste": name, **about, "skip": skip, "total": found.total_size, "images": images, "saved": saved})
    _print_hits(found, skip)
    for path in saved:
        say(path)


def _print_hits(found: rater.SearchImagesResponse, skip: int) -> None:
    if not found.hits:
        return note(text("no more images: there are {total}", total=found.total_size))
    rows = [
        (
            hit.image.digest[:12],
            f"{hit.similarity:.3f}",
            str(plain(hit.image)["grade"]) if hit.image.grade else "",
            f"{hit.image.score.utility:.2f}" if hit.image.HasField("score") else "",
            _about(hit.image),
        )
        for hit in found.hits
    ]
    table(("image", "similarity", "your grade", "score", "prompt or file"), rows)
    last = skip + len(found.hits)
    if last < found.total_size:
        line = text(
            "{first} to {last} of {total}; the next with --skip {last}",
            first=skip + 1,
            last=last,
            total=found.total_size,
        )
        note(line)
    return None


def _print_far(response: rater.ExploreNoveltyResponse) -> None:
    ranks = {row.digest: percent(row.local_rank) for row in response.findings if row.HasField("local_rank")}
    rows = [
        (
            image.digest[:12],
            f"{image.score.novelty:.3f}",
            likeliest_grade(image.score),
            ranks.get(image.digest, ""),
            _about(image),
        )
        if image.HasField("score")
        else (image.digest[:12], "", "", "", _about(image))
        for image in response.images
    ]
    table(("image", "novelty", "grade", "beats near", "prompt or file"), rows)


def _print_elites(response: rater.ExploreNoveltyResponse) -> None:
    if not response.HasField("archive"):
        note(text("no rater yet, so no region has a best image; run: konomi rater fit"))
        return
    archive = response.archive
    rows = [
        (str(elite.cell), elite.image.digest[:12], f"{elite.image.score.lower_bound:.2f}", _about(elite.image))
        for elite in archive.elites
    ]
    table(("region", "image", "lower bound", "prompt or file"), rows)
    line = "{filled} of {cells} regions hold an image; QD-score {score:.1f}, Vendi {vendi:.1f}"
    figures = {"score": archive.qd_score, "vendi": archive.diversity.vendi}
    say(text(line, filled=len(archive.elites), cells=archive.cells, **figures))


def _discovery(tail: rater.Discovery) -> str:
    """Returns what slates have found; of what is still unseen, only where enough was liked to tell."""
    islands, labels = len(tail.islands), tail.labels_since_island
    if tail.liked_showings < LEAST_SHOWINGS:
        return text("{islands} islands found, {labels} labels since", islands=islands, labels=labels)
    return text(
        "{islands} islands found, {labels} labels since; {share} of your likes are estimated to be still unseen",
        islands=islands,
        labels=labels,
        share=percent(tail.unseen_likes),
    )


def _about(image: rater.Image) -> str:
    """Returns what tells an image from others: the file it came from, and what it shows."""
    return "  ".join(part for part in (image.path, image.prompt) if part)


def likeliest_grade(score: rater.Score) -> str:
    """Returns the grade a score holds for the likeliest; empty where it says nothing of grades."""
    chances = list(score.grade_probabilities)
    return GRADES[chances.index(max(chances))] if len(chances) == len(GRADES) else ""


def write_image(client: Client, digest: str, folder: Path) -> str:
    """Writes an image into a folder, to look at, and returns where."""
    data = client.artifacts.get(digest)
    path = folder / (digest[:16] + ENDINGS.get(media_type_of(data[:12]), ".bin"))
    write_for_user(path, data)
    return str(path)
