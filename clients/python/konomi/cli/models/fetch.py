"""`konomi models fetch`: a known model from the hub, once; the only command that uses the network."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from konomi.cli.console import Json, emit, note, progress, say, table
from konomi.errors import AlreadyExists, DataLoss, InvalidArgument
from konomi.files import make_folder, sync_folder, write_json
from konomi.home import Home
from konomi.host.hub import Facts, FetchSettings, address, check_safetensors, facts, fetch, newest
from konomi.host.hub_folder import bring_folder
from konomi.host.hub_models import DOWNLOADS, Download, Remote
from konomi.host.hub_token import read_token
from konomi.i18n.catalogue import text


class KeptFile(TypedDict):
    """What is remembered of a file that was fetched once."""

    digest: str
    size_bytes: int
    pinned: bool


class FetchedFile(KeptFile):
    """A file of a model on this machine, and whether it came just now."""

    file: str
    fetched: bool


class FetchedModel(TypedDict):
    """What is there of a model, as JSON has it; `next`: the command that uses it, "" where it is used by itself."""

    name: str
    revision: str
    licence: str
    files: list[FetchedFile]
    next: str


def fetch_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A known embedder or base model; none lists them.")] = "",
    as_json: Json = False,
) -> None:
    """Get a known embedder or base model once; the only command that uses the network.

    Only safetensors come, of one revision: konomi's own list says which, else the hub at the first fetch. Digest and
    size are shown first; an interrupted fetch goes on where it ended.

    Example: konomi models fetch sd15
    """
    if not name:
        _list(as_json)
        return
    model = find(name)
    result = bring(model, Home.locate(), FetchSettings(home=Home.locate().root), quiet=as_json)
    if as_json:
        emit(result)
    else:
        say(text("{name} is there: {files}", name=name, files=", ".join(item["file"] for item in result["files"])))
        if result["next"]:
            say(text("next: {command}", command=result["next"]))


def find(name: str) -> Download:
    """Returns a model of the list. Raises InvalidArgument, naming them all, where there is none of that name."""
    for model in DOWNLOADS:
        if model.name == name:
            return model
    names = ", ".join(model.name for model in DOWNLOADS)
    raise InvalidArgument(text("no model is called {name}; known are {known}", name=name, known=names))


def bring(model: Download, home: Home, settings: FetchSettings, *, quiet: bool) -> FetchedModel:
    """Fetches what of a model is missing and returns what is there; every file complete or not there."""
    kept, token = _kept(home), read_token(settings.token_file())
    if not model.revision:
        revision = _revision_of(kept, model) or newest(settings.hub, model, token)
        model = replace(model, revision=revision)
    if not quiet:
        words = {"name": model.name, "repository": model.repository, "revision": model.revision}
        note(text("{name}: {repository} at {revision}, licence {licence}", licence=model.licence, **words))
        if model.bound:
            note(text(model.bound))
    files = _bring_folder(model, home, settings, quiet=quiet) if model.folder else []
    files += [_bring_file(model, file, home, settings, quiet=quiet) for file in model.files]
    return {
        "name": model.name,
        "revision": model.revision,
        "licence": model.licence,
        "files": files,
        "next": next_step(model),
    }


def _bring_folder(model: Download, home: Home, settings: FetchSettings, *, quiet: bool) -> list[FetchedFile]:
    """Fetches a diffusers folder, which gets its name among the models once all of it is there.

    Raises:
        AlreadyExists: there is a model of that name that was not fetched.
    """
    target = home.models / model.folder
    if target.exists():
        return _fetched_before(model, home)
    aside = f".fetch/{model.folder}"
    files: list[FetchedFile] = []

    def bring(file: Remote) -> Path:
        files.append(_bring_file(model, file, home, settings, quiet=quiet))
        return home.models / file.target

    bring_folder(bring, aside)
    (home.models / aside).rename(target)
    sync_folder(home.models)
    moved = str(home.models / aside)
    return [{**file, "file": str(target) + file["file"].removeprefix(moved)} for file in files]


def _fetched_before(model: Download, home: Home) -> list[FetchedFile]:
    head, target = f"{model.repository}@{model.revision}/", home.models / model.folder
    before = {key.removeprefix(head): facts for key, facts in _kept(home).items() if key.startswith(head)}
    if not before:
        raise AlreadyExists(
            text("this home has a model {name} that did not come by this command; rename it first", name=model.folder),
            reason="MODEL_EXISTS",
        )
    return [{"file": str(target / path), **facts, "fetched": False} for path, facts in before.items()]


def _bring_file(model: Download, file: Remote, home: Home, settings: FetchSettings, *, quiet: bool) -> FetchedFile:
    """Has one file, complete or not at all; what is there already is not asked for again."""
    kept = _kept(home)
    target, key = home.models / file.target, f"{model.repository}@{model.revision}/{file.path}"
    if target.is_file() and key in kept:
        return {"file": str(target), **kept[key], "fetched": False}
    url = address(settings.hub, model, file)
    token = read_token(settings.token_file())
    offered = facts(settings.hub, model, file, token)
    _compare(kept.get(key), offered, file.path)
    if not quiet:
        note(_announcement(file.path, offered))
    part = home.models / ".fetch" / f"{model.name}-{file.path.replace('/', '-') if model.folder else target.name}.part"
    part.parent.mkdir(parents=True, exist_ok=True)
    with progress(file.path, offered.size) as update:
        fetch(url, part, offered, settings.fetch_tries, update, token)
    if target.suffix == ".safetensors":
        check_safetensors(part, file.path)
    make_folder(target.parent)
    digest = offered.sha256 or f"git:{offered.git}"
    kept |= {key: {"digest": digest, "size_bytes": offered.size, "pinned": offered.pinned}}
    write_json(_record(home), kept)
    part.replace(target)
    sync_folder(target.parent)
    return {"file": str(target), **kept[key], "fetched": True}


def _revision_of(kept: dict[str, KeptFile], model: Download) -> str:
    """Returns the revision a file of a model was fetched of before; "" where none was."""
    before = (key.removeprefix(f"{model.repository}@") for key in kept if key.startswith(f"{model.repository}@"))
    return next(before, "").partition("/")[0]


def next_step(model: Download) -> str:
    """Returns the command that uses a fetched model; "" for one that is used by itself."""
    if model.draws:
        return f"konomi night plan converge --base {model.name} --trial"
    embedder = next((file.target for file in model.files if file.target.startswith("open_clip/")), "")
    if not embedder:
        return ""
    name, tag = embedder.removeprefix("open_clip/").split("/")[:2]
    return f"konomi rater embedder open_clip:{name}/{tag.removesuffix('.safetensors')}"


def _announcement(path: str, facts: Facts) -> str:
    values = {"file": path, "size": facts.size, "digest": facts.sha256 or f"git:{facts.git}"}
    if facts.pinned:
        return text("{file}: {size} bytes, digest {digest} (konomi's own list)", **values)
    return text("{file}: {size} bytes, digest {digest} (the hub's word; kept for next time)", **values)


def _compare(before: KeptFile | None, facts: Facts, path: str) -> None:
    """Raises DataLoss where the hub now says another digest than the first time."""
    now = facts.sha256 or f"git:{facts.git}"
    if before is not None and before["digest"] != now:
        raise DataLoss(
            text(
                "{file}: the hub said {before} at first and says {now} now", file=path, before=before["digest"], now=now
            ),
            reason="DIGEST",
        )


def _list(as_json: bool) -> None:
    if as_json:
        rows = [{"name": m.name, "what": m.what, "licence": m.licence, "size_bytes": m.size} for m in DOWNLOADS]
        emit({"models": rows})
        return
    table(
        ("name", "what", "size", "licence"),
        [(m.name, m.what, f"{m.size / 1e9:.2f} GB" if m.size else "", m.licence) for m in DOWNLOADS],
    )


def _record(home: Home) -> Path:
    return home.models / ".fetch" / "fetched.json"


def _kept(home: Home) -> dict[str, KeptFile]:
    try:
        return dict(json.loads(_record(home).read_text("utf-8")))
    except (OSError, ValueError):
        return {}
