"""`konomi population fit | list | show | remove`: other people's ratings as a prior of every taste it helps."""

from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, say, table
from konomi.client import Client
from konomi.client.messages import plain
from konomi.client.paging import pages
from konomi.client.services import taste_name
from konomi.datasets.tally import Tally
from konomi.errors import InvalidArgument, NotFound
from konomi.i18n.catalogue import plural, text
from konomi.taste.others_ratings import Gathered, digests_of, gather_ratings, read_others
from konomi.v1 import rater_pb2 as rater

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The population, by its name.")]
SHOWN = 5
"""Images that are not at hand, named on the terminal; all the rater names are in the JSON."""


@app.command()
def fit(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]…", help="CSV or JSON lines of image, rater and rating; or taste bundles."),
    ] = None,
    consented: Annotated[
        list[str] | None,
        typer.Option("--from", metavar="TASTE", help="A taste of this home whose owner consented; repeatable."),
    ] = None,
    consent: Annotated[
        list[str] | None,
        typer.Option(metavar="WORDS", help="What the consent, or the licence, says: once for all, or once for each."),
    ] = None,
    name: Annotated[str, typer.Option(help="What it is called here.")] = "others",
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Learn what other people like, as a prior of new rater versions while labels are few.

    Only images this home knows count: import them first. Neither ratings nor names are kept, and three people at least
    must be heard. A version stands on it only where your own held-out grades gain by it; konomi rater show says how
    much.

    Example: konomi population fit ratings.csv --consent "CC-BY-4.0, Example et al."
    """
    paths, others = list(files or []), list(consented or [])
    said = _consents(list(consent or []), len(paths) + len(others))
    tally = Tally()
    read = [read_others(path, tally) for path in paths]
    with attached() as client:
        finders = [digests_of(client, taste, path.absolute().parent) for path in paths]
        gathered = gather_ratings(list(zip(read, said[: len(read)], finders, strict=True)))
        heard = zip(others, said[len(read) :], strict=True)
        request = rater.FitPopulationRequest(name=_full(name), taste=taste_name(taste), digests=gathered.digests)
        request.groups.extend(gathered.groups)
        request.tastes.extend(rater.ConsentedTaste(taste=taste_name(one), consent=words) for one, words in heard)
        answer = client.rater.fit_population(request)
    _tell(answer, gathered, tally, as_json)


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the populations of this home.

    Example: konomi population list
    """
    with attached() as client:
        found = _all(client)
    if as_json:
        return emit({"populations": [plain(population) for population in found]})
    if not found:
        return note(text("no populations yet: konomi population fit FILE --consent WORDS"))
    table(("population", "people", "ratings", "images", "embedder"), [_row(one) for one in found])
    for one in found:
        tell_revoked(one)
    return None


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show where a population comes from, on whose word, and how well it tells what its people like.

    Example: konomi population show others
    """
    with attached() as client:
        found = next((one for one in _all(client) if one.name == _full(name)), None)
    if found is None:
        line = text(
            "expected a population of this home, found none called {name}; see: konomi population list", name=name
        )
        raise NotFound(line, reason="POPULATION_NOT_FOUND")
    if as_json:
        return emit(plain(found))
    return _describe(found)


@app.command()
def remove(name: Name, as_json: Json = False) -> None:
    """Remove a population: no later version stands on it, and those that do keep what they need.

    Example: konomi population remove others
    """
    with attached() as client:
        gone = client.rater.remove_population(name=_full(name))
    emit(plain(gone)) if as_json else say(text("removed: {name}", name=gone.name))


def _consents(given: list[str], sources: int) -> list[str]:
    """Returns what the consent says of each source."""
    if not sources:
        raise InvalidArgument(text("expected files of ratings, or tastes with --from, got neither"))
    if len(given) not in (1, sources):
        line = "expected --consent once, or once for each of {count} sources, got it {got} times"
        raise InvalidArgument(text(line, count=sources, got=len(given)))
    return given * sources if len(given) == 1 else given


def _all(client: Client) -> list[rater.Population]:
    return [one for page in pages(client.rater.list_populations) for one in page.populations]


def _row(one: rater.Population) -> tuple[str, ...]:
    counts = (one.rater_count, one.rating_count, one.image_count)
    return (one.name.removeprefix("populations/"), *(str(count) for count in counts), one.embedder)


def _describe(one: rater.Population) -> None:
    line = "{name}: {people} people, {ratings} ratings of {images} images, for {embedder}"
    counts = {"people": one.rater_count, "ratings": one.rating_count, "images": one.image_count}
    say(text(line, name=one.name, embedder=one.embedder, **counts))
    if one.HasField("srcc"):
        figure = f"{one.srcc.value:.2f} ({one.srcc.low:.2f} – {one.srcc.high:.2f})"
        say(text("rank agreement with their mean on images left out: {figure}", figure=figure))
    rows = [(source.kind, str(source.rater_count), source.consent) for source in one.sources]
    table(("source", "people", "consent"), rows)
    tell_revoked(one)


def tell_revoked(one: rater.Population) -> None:
    """Says which of a population's images were revoked since: it keeps what they taught it."""
    count, name = one.revoked_image_count, one.name.removeprefix("populations/")
    if not count:
        return
    line = (
        "{name}: {count} of its {images} images was revoked since, and what its {ratings} ratings taught is still in "
        "it; without it: konomi population remove {name}, then konomi population fit again"
    )
    lines = (
        "{name}: {count} of its {images} images were revoked since, and what their {ratings} ratings taught is still "
        "in it; without them: konomi population remove {name}, then konomi population fit again"
    )
    note(plural(line, lines, count, name=name, images=one.image_count, ratings=one.revoked_rating_count))


def _full(name: str) -> str:
    return f"populations/{name.removeprefix('populations/')}"


def _tell(answer: rater.FitPopulationResponse, gathered: Gathered, tally: Tally, as_json: bool) -> None:
    count, unheard = answer.absent_count + len(gathered.unknown), answer.unheard_count
    absent = [*gathered.unknown, *(gathered.names[place] for place in answer.absent)]
    if as_json:
        facts: dict[str, object] = {"population": plain(answer.population), "unheard": unheard, "absent": count}
        unread = [one.as_dict() for one in tally.unread]
        return emit(facts | {"absent_images": absent, "unread": unread, "unread_count": tally.unread_counts.total()})
    _describe(answer.population)
    if count:
        names = ", ".join(absent[:SHOWN]) + (" …" if count > SHOWN else "")
        line = "{count} rated image is not at hand: {names}"
        note(plural(line, "{count} rated images are not at hand: {names}", count, names=names))
    if unheard:
        note(_unheard(unheard))
    for unreadable in tally.unread[:SHOWN]:
        note(f"{unreadable.path}: {unreadable.message}")
    return note(text("the next version weighs it: konomi rater fit"))


def _unheard(count: int) -> str:
    one = "{count} person was not heard: fewer than five ratings at hand, or all the same"
    return plural(one, "{count} people were not heard: fewer than five ratings at hand, or all the same", count)
