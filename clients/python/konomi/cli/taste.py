"""`konomi taste export | import | verify`: a whole taste in one file, and back on any machine."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from konomi.cli.console import Json, TasteId, attached, emit, note, progress, say
from konomi.client import Client
from konomi.client.services import taste_name
from konomi.errors import FailedPrecondition, NotFound
from konomi.home import Home
from konomi.i18n.catalogue import N_, text
from konomi.night.records.store import NightStore
from konomi.taste import prompts as written_prompts
from konomi.taste.bundle import Wish, gather, own_parts, restore
from konomi.taste.bundle_format import Manifest, read_bundle, read_manifest
from konomi.taste.suggested_prompts import suggested

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Bundle = Annotated[Path, typer.Argument(metavar="FILE", help="The bundle.")]


@app.command()
def export(
    file: Bundle,
    taste: TasteId = "default",
    without_images: Annotated[
        bool, typer.Option("--without-images", help="Leave the images out: it scores and fits, but shows none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a whole taste into one file: grades, rater versions, images, models, ledger, nights, prompts.

    The same taste makes the same bytes. The base model and the embedder are named in it, not held.

    Example: konomi taste export my-taste.konomi
    """
    with attached() as client, progress(text("writing"), None) as update:
        manifest = gather(client, _own(Home.locate(), taste), taste, file, not without_images, _bar(update))
    _tell(file, manifest, as_json, "{file}: {count} artifacts, {size} bytes")


@app.command("import")
def import_(
    file: Bundle,
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="Name it gets here; else the one it had.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="Replace the taste of that name.")] = False,
    without_models: Annotated[bool, typer.Option("--without-models", help="Leave the models out.")] = False,
    with_settings: Annotated[
        bool, typer.Option("--settings", help="Also write konomi.toml, where there is none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore a taste from a bundle, whole or not at all, after every byte of it was checked.

    A taste of the same name is never overwritten unless you say --replace; it is then written to a bundle first.

    Example: konomi taste import my-taste.konomi
    """
    home = Home.locate()
    with attached() as client, progress(text("restoring"), None) as update:
        kept = _keep(client, home, name or read_manifest(file).taste) if replace else None
        wish = Wish(name, replace, not without_models, with_settings)
        remarks: list[str] = []
        manifest = restore(client, home, file, wish, _bar(update), remarks.append)
    if kept is not None:
        note(text("the taste that was there is kept in {file}", file=kept))
    for remark in remarks:
        note(remark)
    _tell(file, manifest, as_json, "{file}: restored as {taste}", taste=taste_name(name) if name else manifest.taste)


@app.command()
def verify(file: Bundle, as_json: Json = False) -> None:
    """Check every byte of a bundle; nothing needs to run.

    Example: konomi taste verify my-taste.konomi
    """
    _tell(file, read_bundle(file), as_json, "{file}: whole, {count} artifacts, {size} bytes")


@app.command()
def prompts(
    taste: TasteId = "default",
    write: Annotated[Path | None, typer.Option("--set", metavar="FILE", help="Write down a file's prompts.")] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Write down prompts that say what you liked, where none are.")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Forget what was written down.")] = False,
    as_json: Json = False,
) -> None:
    """Show the prompts nights of this taste draw with, or write them down.

    Without any written down, a night takes those its pictures carry. A suggestion is made by holding words against the
    pictures you liked; read it, and change it where it is wrong.

    Example: konomi taste prompts --suggest
    """
    home = Home.locate()
    if write is not None or clear:
        written_prompts.keep(home.root, taste, written_prompts.read_prompts(write))
    lines, origin = written_prompts.kept(home.root, taste), "kept"
    if not lines and not clear:
        with attached() as client:
            lines, origin = written_prompts.at_hand(client, home.root, taste)
            if not lines and suggest:
                lines, origin = suggested(client, taste), "suggested"
        if suggest and lines:
            lines = written_prompts.keep(home.root, taste, lines)
    if as_json:
        return emit({"taste": taste_name(taste), "prompts": lines, "from": origin if lines else ""})
    for line in lines:
        say(line)
    if not lines:
        return note(text("no prompts yet: konomi taste prompts --suggest, or --set FILE"))
    where = {"pictures": N_("these are the prompts of its pictures"), "suggested": N_("suggested by what you liked")}
    if origin in where:
        note(text(where[origin]))
    return note(text("yours to change: {file}", file=written_prompts.file_of(home.root, taste)))


def _keep(client: Client, home: Home, taste: str) -> Path | None:
    """Writes the taste that is about to be replaced to a bundle in the home; None where there is none."""
    name = taste_name(taste)
    try:
        client.rater.get_taste(name=name)
    except NotFound:
        return None
    rows = next(iter(client.rater.export_taste(taste=name))).artifact.digest
    path = home.root / "bundles" / f"{name.removeprefix('tastes/')}-{rows[:12]}.konomi"
    gather(client, _own(home, taste), name, path, True, lambda done, total: None)
    return path


def _own(home: Home, taste: str) -> dict[str, bytes]:
    """Returns what a bundle of a taste holds of this home: its nights that are over, settings, written prompts."""
    nights = NightStore(home.root)
    with suppress(FailedPrecondition), nights.lock():  # where a night runs, its own process sees to the records
        from konomi.night.engine.rebuild import mend

        for sentence in mend(nights):
            note(sentence)
    return own_parts(home, nights.ended(taste_name(taste)), taste)


def _bar(update: Callable[..., None]) -> Callable[[int, int], None]:
    return lambda done, total: update(completed=done, total=total)


def _tell(file: Path, manifest: Manifest, as_json: bool, line: str, **values: Any) -> None:
    kinds = sorted({entry.part for entry in manifest.entries})
    size = file.stat().st_size
    if as_json:
        parts = {kind: manifest.count(kind) for kind in kinds}
        taste = values.get("taste", manifest.taste)
        emit({"file": str(file), "taste": taste, "size_bytes": size, "artifacts": parts})
    else:
        say(text(line, file=file, count=len(manifest.entries), size=size, **values))
