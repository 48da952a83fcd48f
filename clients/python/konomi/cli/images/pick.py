"""`konomi pick`: the best images of a folder, one of each burst where that is wanted, as copies or links elsewhere."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, TasteId, attached, emit, note, progress, say, table
from konomi.cli.images.import_images import remark_on
from konomi.cli.images.score import INTERRUPTED
from konomi.client.services import taste_name
from konomi.datasets.reader import count_files, find_images
from konomi.datasets.tally import Tally
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.files import LONGEST_NAME, write_for_user
from konomi.home import Home
from konomi.host.signals import stop_signals
from konomi.i18n.catalogue import text
from konomi.taste.scoring import Scored, ScoreJournal, ScoreRun
from konomi.taste.scoring.picking import NEAR_COPY, Picked
from konomi.taste.scoring.picking import pick as picked_of

MOST = 100_000


def pick(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Folders, zips or images.")],
    count: Annotated[int, typer.Option(min=1, max=MOST, help="How many images at most.")] = 10,
    one_per_cluster: Annotated[
        bool, typer.Option("--one-per-cluster", help="Of a burst, or of near-copies, only the best one.")
    ] = False,
    near_copy: Annotated[
        float, typer.Option(min=0.5, max=1, help="Cosine from which two images are near-copies.")
    ] = NEAR_COPY,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Also put copies there, best first by name.")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="With --to: links to the images instead of copies.")] = False,
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Pick the best images of a folder as the owner would, each with the reason; nothing is ever moved or changed.

    What was scored once is kept for a week: the same command again only reads the files and asks about new ones.

    Example: konomi pick ~/shoot --count 10 --one-per-cluster --to best
    """
    _check(paths, to, link=link)
    scored = _scored(paths, taste)
    chosen = picked_of(scored, count, one_per_cluster=one_per_cluster, cosine=near_copy)
    written = _put(chosen, paths, to, link=link) if to is not None else {}
    failed = [image.as_dict() for image in scored if image.score is None]
    if as_json:
        rows = [one.as_dict() | ({"written": written[one.image.path]} if written else {}) for one in chosen]
        emit({"taste": taste_name(taste), "images": len(scored), "picked": rows, "failed": failed})
    else:
        table(("", "image", "grade", "why"), [_row(one) for one in chosen])
        say(text("picked {count} of {images} images", count=len(chosen), images=len(scored) - len(failed)))
        for image in scored:
            note(f"{image.path}: {image.error['message']}") if image.error is not None else None
    if failed:
        raise typer.Exit(FAILED)


def _row(one: Picked) -> Sequence[str]:
    return str(one.rank), one.image.path, one.image.grade, one.reason


def _check(paths: Sequence[Path], to: Path | None, *, link: bool) -> None:
    """Refuses a folder among the images it would be picked from: the next pick would take its own copies.

    Raises:
        InvalidArgument: there is such a folder, or links are wanted and no folder is named.
    """
    if to is None:
        if link:
            raise InvalidArgument(text("--link says how the images get into a folder: name it with --to"), field="link")
        return
    inside = next((path for path in paths if path.is_dir() and to.resolve().is_relative_to(path.resolve())), None)
    if inside is not None:
        line = text("expected a folder outside {path} to put the picked images into, got {to}", path=inside, to=to)
        raise InvalidArgument(line, field="to")


def _scored(paths: Sequence[Path], taste: str) -> list[Scored]:
    """Returns the scores of some paths, those that are known from an earlier pick taken over.

    Raises:
        typer.Exit: it was stopped; the same command goes on from there.
    """
    tally = Tally()
    results: list[Scored] = []
    with stop_signals() as stopped, attached() as client, progress(text("scoring"), count_files(paths)) as update:
        journal = ScoreJournal(Home.locate().root / "run" / "picks", taste, paths)
        run = ScoreRun(client, taste, journal, stopped, signatures=True)
        for scored in run.score(find_images(paths, tally, alone=True)):
            results.append(scored)
            update(completed=len(results))
        journal.keep(run.version)
    if stopped.is_set():
        note(text("stopped after {count} images; the same command goes on from there", count=len(results)))
        raise typer.Exit(INTERRUPTED)
    remark_on(tally)
    return results


def _put(chosen: Sequence[Picked], paths: Sequence[Path], to: Path, *, link: bool) -> dict[str, str]:
    """Puts the images into a folder, and returns where each is by its path; what lies there is never overwritten.

    Raises:
        FailedPrecondition: a file of that name with other bytes lies there; nothing was written then.
    """
    width = len(str(len(chosen)))
    places = {one.image.path: to / _name(one, width) for one in chosen}
    links = {path for path in places if link and Path(path).is_file()}
    loose = [path for path in places if path not in links]
    for path in links:
        there = places[path]
        if there.is_symlink() and there.resolve() == Path(path).resolve():
            continue
        if there.exists() or there.is_symlink():
            raise _taken(there)
    kept = dict(_bytes(loose, paths))
    for path, data in kept.items():
        if places[path].is_symlink() or (places[path].exists() and places[path].read_bytes() != data):
            raise _taken(places[path])
    to.mkdir(parents=True, exist_ok=True)
    for path, data in kept.items():
        if not places[path].exists():
            write_for_user(places[path], data)
    for path in links:
        if not places[path].is_symlink():
            places[path].symlink_to(Path(path).resolve())
    return {path: str(place) for path, place in places.items()}


def _bytes(wanted: Sequence[str], paths: Sequence[Path]) -> Iterator[tuple[str, bytes]]:
    """Yields images by their paths, those within archives too."""
    files = {path for path in wanted if Path(path).is_file()}
    yield from ((path, Path(path).read_bytes()) for path in files)
    inside = set(wanted) - files
    if inside:
        yield from ((image.name, image.data) for image in find_images(paths) if image.name in inside)


def _name(one: Picked, width: int) -> str:
    """Returns the name of an image in the folder: its rank, then its own, shortened where that is too long."""
    rank, own = f"{one.rank:0{width}}-", Path(one.image.path.replace("!", "/").replace("#", "/")).name
    stem, dot, ending = own.rpartition(".")
    tail = f".{ending}" if dot and stem else ""
    room = LONGEST_NAME - len(rank.encode()) - len(tail.encode())
    return rank + (stem if tail else own).encode()[:room].decode(errors="ignore") + tail


def _taken(place: Path) -> FailedPrecondition:
    line = text("{path} is another file already, and nothing is overwritten; name another folder with --to", path=place)
    return FailedPrecondition(line, reason="FILE_EXISTS")
