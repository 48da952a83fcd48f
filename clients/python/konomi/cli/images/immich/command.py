"""`konomi immich check | score | import`: the pictures of an Immich server, read by its API; written to where asked."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, TasteId, attached, emit, note, progress, say, table
from konomi.cli.images.immich.assets import Asset, AssetReader, Selection
from konomi.cli.images.immich.marks import MarkPlan, WrittenMarks, planned, write
from konomi.cli.images.immich.scoring import AssetJournal, fetched, rated, until_failure
from konomi.cli.images.immich.server import ImmichServer, ImmichSettings
from konomi.client.messages import GRADES
from konomi.client.services import taste_name
from konomi.errors import InvalidArgument, KonomiError
from konomi.home import Home
from konomi.host.signals import stop_signals
from konomi.i18n.catalogue import N_, plural, text
from konomi.taste.importing import ImportRun, ImportSummary
from konomi.taste.scoring import Scored, ScoreRun
from konomi.taste.scoring.picking import best
from konomi.v1 import rater_pb2 as rater

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

INTERRUPTED = 130
REASONS = {
    "video": N_("videos"),
    "other": N_("neither pictures nor videos"),
    "away": N_("in the trash, or their file is away"),
    "own rating": N_("stars that are not konomi's, which stay"),
    "taken off": N_("konomi's stars were taken off"),
    "guess": N_("unlike anything graded: a grade would be a guess"),
    "not scored": N_("not scored"),
    "already": N_("marked so already"),
}
"""Why a picture was passed over, in words."""


class Mark(Enum):
    """What a predicted grade becomes in Immich."""

    rating = "rating"
    tag = "tag"


Albums = Annotated[
    list[str] | None, typer.Option("--album", help="Only this album, by name or id; may be given again.")
]
Favourites = Annotated[bool, typer.Option("--favourites", help="Only what is marked as a favourite.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many pictures, oldest first.")]
Original = Annotated[bool, typer.Option("--original", help="Fetch the files themselves, not Immich's previews.")]


@app.command()
def check(as_json: Json = False) -> None:
    """Say which Immich answers, and whether the key may read its pictures.

    The address is immich_url in [immich] of konomi.toml, or KONOMI_IMMICH_URL. The key stands in IMMICH_API_KEY, or in
    tokens/immich.key of the home, which its owner alone may read; it needs the permissions asset.read and asset.view.

    Example: konomi immich check
    """
    server = _server()
    version = server.version()
    assets = list(AssetReader(server).read(Selection(limit=1)))
    for asset in assets:
        server.bytes_of(f"/assets/{asset.id}/thumbnail?size=preview")
    if as_json:
        emit({"address": server.address, "version": version, "readable": bool(assets)})
        return
    say(text("Immich {version} answers at {address}", version=version, address=server.address))
    say(text("its pictures can be read") if assets else text("it shows this key no picture"))


@app.command()
def score(
    albums: Albums = None,
    favourites: Favourites = False,
    limit: Limit = None,
    original: Original = False,
    write_: Annotated[Mark | None, typer.Option("--write", help="Also write the predictions into Immich.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --write: say what would be written.")] = False,
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Grade pictures of Immich the way the owner would: best lower bound first. Nothing is written unless asked.

    --write rating gives stars, 1 for N to 5 for UR, where nobody gave any; stars that are not konomi's stay. --write
    tag gives one of the tags konomi/N to konomi/UR. Pictures unlike anything graded get neither. Look first with
    --dry-run. The key then needs asset.update, or tag.create and tag.asset, as well.

    Stopped or killed, the same command goes on where it was; a picture that cannot be read is that picture's own error.

    Example: konomi immich score --album Holiday --write tag --dry-run
    """
    if dry_run and write_ is None:
        raise InvalidArgument(text("--dry-run says what would be written: it needs --write"), field="dry-run")
    server, reader = _reader()
    assets = {asset.id: asset for asset in reader.read(Selection(albums or (), favourites, limit))}
    asked = f"{server.address} {Selection(albums or (), favourites, limit).key()} {original}"
    work = _Work(server, assets, taste, original, asked)
    scored, version = work.scored()
    plan = planned(write_.value, scored, assets, _written(server)) if write_ is not None else None
    if plan is not None and not dry_run:
        work.write(plan)
    passed_over = reader.passed_over + (plan.passed_over if plan is not None else Counter())
    if as_json:
        emit(_said(taste, version, scored, assets, passed_over) | _planned_json(plan, dry_run))
    else:
        _show(scored, assets)
        _show_plan(plan, dry_run)
        _show_passed_over(passed_over)
    if any(one.score is None for one in scored):
        raise typer.Exit(FAILED)


@app.command("import")
def import_(
    albums: Albums = None,
    favourites: Favourites = False,
    limit: Limit = None,
    original: Original = False,
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Bring pictures of Immich into a taste, their stars with them as grades. Immich itself is only read.

    One to five stars become the grades N to UR of pictures nobody has graded in the taste yet; stars that konomi wrote
    there are not taken. Previews are fetched unless --original asks for the files, for which the key needs
    asset.download.

    Example: konomi immich import --favourites
    """
    server, reader = _reader()
    assets = {asset.id: asset for asset in reader.read(Selection(albums or (), favourites, limit))}
    summary = ImportSummary()
    with attached() as client, progress(text("importing"), len(assets)) as update:
        client.rater.ensure_taste(taste)
        files = rated(fetched(server, assets.values(), original=original), assets, _written(server).ratings())
        given = rater.Image(source=rater.SOURCE_IMPORTED)
        ImportRun(client, taste, given, summary).add_all(files, lambda done: update(completed=done))
    for failure in summary.failed:
        note(f"{failure['path']}: {failure['message']}")
    if as_json:
        passed_over = dict(sorted(reader.passed_over.items()))
        emit({"taste": taste_name(taste)} | summary.counts() | {"passed_over": passed_over})
    else:
        line = "{added} added, {known} known already, {failed} refused"
        say(text(line, added=summary.added, known=summary.already_known, failed=len(summary.failed)))
        if summary.rated:
            say(plural("{count} rating was taken over", "{count} ratings were taken over", summary.rated))
        _show_passed_over(reader.passed_over)
    if summary.failed or not summary.images:
        raise typer.Exit(FAILED)


@dataclass(frozen=True)
class _Work:
    """One command that scores.

    Attributes:
        server: is asked.
        assets: id → picture.
        taste: which scores.
        original: fetch the files, not the previews.
        asked: what tells this command from others.
    """

    server: ImmichServer
    assets: Mapping[str, Asset]
    taste: str
    original: bool
    asked: str

    def scored(self) -> tuple[list[Scored], str]:
        """Returns the scores and the rater version.

        Raises:
            KonomiError: Immich cannot be reached, or refused; what came before is noted.
            typer.Exit: it was stopped; the same command goes on from there.
        """
        results: list[Scored] = []
        failures: list[KonomiError] = []
        journal = AssetJournal(Home.locate().root / "run" / "scores", self.taste, self.asked, self.assets)
        with stop_signals() as stopped, attached() as client, progress(text("scoring"), len(self.assets)) as update:
            run = ScoreRun(client, self.taste, journal, stopped)
            pictures = self.assets.values()
            files = fetched(self.server, pictures, original=self.original, known=journal, version=run.version)
            for scored in run.score(until_failure(files, failures)):
                results.append(scored)
                update(completed=len(results))
        if failures:
            raise failures[0]
        if stopped.is_set():
            note(text("stopped after {count} images; the same command goes on from there", count=len(results)))
            raise typer.Exit(INTERRUPTED)
        journal.keep(run.version)
        return results, run.version

    def write(self, plan: MarkPlan) -> None:
        """Writes a plan into Immich."""
        with progress(text("writing"), plan.count) as update:
            for done in write(self.server, plan, _written(self.server)):
                update(completed=done)


def _server() -> ImmichServer:
    return ImmichServer.of(ImmichSettings(home=Home.locate().root))


def _reader() -> tuple[ImmichServer, AssetReader]:
    server = _server()
    return server, AssetReader(server)


def _written(server: ImmichServer) -> WrittenMarks:
    return WrittenMarks(Home.locate().root / "immich", server.address)


def _said(
    taste: str, version: str, scored: Sequence[Scored], assets: Mapping[str, Asset], passed_over: Counter[str]
) -> dict[str, object]:
    scores = [{"id": one.path, **one.as_dict(), "path": assets[one.path].name} for one in scored]
    return {
        "taste": taste_name(taste),
        "rater_version": version,
        "scores": scores,
        "passed_over": dict(sorted(passed_over.items())),
    }


def _planned_json(plan: MarkPlan | None, dry_run: bool) -> dict[str, object]:
    if plan is None:
        return {}
    counts = {grade: len(plan.by_grade.get(grade, ())) for grade in GRADES}
    return {"write": plan.kind, "dry_run": dry_run, "would_write" if dry_run else "written": counts}


def _show(scored: Sequence[Scored], assets: Mapping[str, Asset]) -> None:
    ranked = [(assets[one.path].name, one, one.score) for one in best(scored, None) if one.score is not None]
    rows = [
        (name, one.grade + (" ?" if score.unknown else ""), f"{score.utility:.2f}", f"{score.std:.2f}")
        for name, one, score in ranked
    ]
    table(("image", "grade", "utility", "±"), rows)
    for one in scored:
        if one.score is None:
            note(f"{assets[one.path].name}: {one.error['message'] if one.error else ''}")


def _show_plan(plan: MarkPlan | None, dry_run: bool) -> None:
    if plan is None:
        return
    counts = ", ".join(f"{grade} {len(ids)}" for grade, ids in plan.by_grade.items())
    if dry_run:
        said = plural("{count} picture would get a mark", "{count} pictures would get a mark", plan.count)
    else:
        said = plural("{count} picture got a mark", "{count} pictures got a mark", plan.count)
    say(f"{said}: {counts}" if counts else said)


def _show_passed_over(passed_over: Mapping[str, int]) -> None:
    for reason, count in sorted(passed_over.items()):
        say(text("passed over, {reason}: {count}", reason=text(REASONS[reason]), count=count))
