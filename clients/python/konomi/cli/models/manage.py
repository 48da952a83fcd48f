"""`konomi models ...`: the units of a taste and the way back."""

import uuid
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli import completion
from konomi.cli.console import Json, TasteId, attached, emit, note, say, table
from konomi.cli.models import compare
from konomi.cli.models.base_model import find_base, show_base
from konomi.cli.models.bases import bases
from konomi.cli.models.fetch import fetch_
from konomi.cli.models.import_model import import_
from konomi.client import Client, paging
from konomi.client.messages import plain
from konomi.client.services import taste_name
from konomi.datasets.media import KINDS, media_type_of
from konomi.datasets.spelling import lines_of, text_in
from konomi.errors import InvalidArgument, NotFound
from konomi.files import open_regular, write_for_user
from konomi.i18n.catalogue import text
from konomi.v1 import trainer_pb2 as trainer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.command("import")(import_)
app.command("fetch")(fetch_)
app.command("bases")(bases)

ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model, by its name or id.", autocompletion=completion.models)
]


class ModelFormat(Enum):
    """What other tools load."""

    peft = "peft"
    diffusers = "diffusers"
    kohya = "kohya"
    merged = "merged"
    merged_folder = "merged-folder"
    model_card = "model-card"


@app.command("list")
def list_(taste: TasteId = "default", as_json: Json = False) -> None:
    """List the units of a taste, newest first; the current one is marked.

    Example: konomi models list
    """
    with attached() as client:
        models = list(paging.models(client, taste))
    if as_json:
        emit({"taste": taste_name(taste), "models": [plain(model) for model in models]})
        return
    rows = [
        (
            "*" if model.current else "",
            model.display_name,
            model.name.removeprefix("models/"),
            model.base_model,
            model.create_time.ToJsonString()[:19].replace("T", " "),
            ", ".join(f"{name} {value:.3g}" for name, value in sorted(model.metrics.items())),
        )
        for model in models
    ]
    table(("", "name", "id", "base model", "made", "figures"), rows)
    if not any(model.current for model in models):
        note(text("current: the base model itself"))


@app.command()
def show(model: ModelName, taste: TasteId = "default", as_json: Json = False) -> None:
    """Show where a model came from: base, parents, data, rater version, seed.

    Of a base model it shows what it is, and how it draws and learns where nobody says otherwise.

    Example: konomi models show unit-1
    """
    with attached() as client:
        try:
            facts, base = plain(find_model(client, taste, model)), None
        except NotFound as missing:
            base = find_base(client, model, missing)
            facts = plain(base)
    if as_json:
        emit(facts)
        return
    if base is not None:
        show_base(base)
        return
    for name, value in facts.items():
        if value not in ("", [], {}, 0):
            say(f"{name:<16} {value}")


@app.command()
def export(
    model: ModelName,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it.")],
    to: Annotated[
        ModelFormat, typer.Option("--format", help="For kohya read A1111, Forge and ComfyUI.")
    ] = ModelFormat.kohya,
    taste: TasteId = "default",
    as_json: Json = False,
    thumbnail: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Shown by other tools; default: the run's last sample.")
    ] = None,
    author: Annotated[str, typer.Option(help="Who made it, for the file's header.")] = "",
) -> None:
    """Write a model as a file that other tools load.

    Example: konomi models export unit-1 --format kohya --out unit-1.safetensors
    """
    with attached() as client:
        source = find_model(client, taste, model)
        export_format = trainer.ExportFormat.Value(f"EXPORT_FORMAT_{to.name.upper()}")
        picture = client.artifacts.put(thumbnail.read_bytes(), _kind(thumbnail)).digest if thumbnail else ""
        artifact = client.trainer.export_model(
            name=source.name, format=export_format, thumbnail_digest=picture, author=author
        )
        write_for_user(out, client.artifacts.get(artifact.digest))
    if as_json:
        emit({"file": str(out), "digest": artifact.digest, "size_bytes": artifact.size_bytes})
    else:
        say(text("{file}: {size} bytes, sha256 {digest}", file=out, size=artifact.size_bytes, digest=artifact.digest))


@app.command()
def merge(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Two models or more, by name or id.", autocompletion=completion.models),
    ],
    name: Annotated[str, typer.Option(help="Name of the merged model.")],
    captions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Captions that must stay as they are, one a line.")
    ] = None,
    keep: Annotated[float, typer.Option(min=0, max=1, help="Share of each change to keep, 0..1; 0 keeps all.")] = 0.0,
    taste: TasteId = "default",
    as_json: Json = False,
) -> None:
    """Merge models that know concepts into a new one that knows those of all.

    Example: konomi models merge unit-1 unit-2 --name both
    """
    if len(models) < 2:
        raise InvalidArgument(text("expected two models or more, got {count}", count=len(models)))
    with attached() as client:
        names = [find_model(client, taste, model).name for model in models]
        merged = client.trainer.merge_models(
            names=names, display_name=name, captions=_lines(captions), keep_mass=keep, request_id=str(uuid.uuid4())
        )
    if as_json:
        emit(plain(merged))
    else:
        say(text("merged into {name}", name=merged.display_name))


@app.command()
def rollback(taste: TasteId = "default", as_json: Json = False) -> None:
    """Return to the model that was current before; to the base model when there was none.

    Example: konomi models rollback
    """
    with attached() as client:
        reply = client.trainer.rollback_model(taste=taste_name(taste))
    current = reply.model.display_name if reply.HasField("model") else ""
    if as_json:
        emit({"taste": taste_name(taste), "current": plain(reply.model) if current else None})
    else:
        say(text("current: {name}", name=current) if current else text("current: the base model itself"))


def _lines(path: Path | None) -> list[str]:
    """Returns the lines of a file that say something."""
    if path is None:
        return []
    try:
        return [line.strip() for line in lines_of(text_in(path)) if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidArgument(text("cannot read {file}: {why}", file=path, why=error), field="captions") from error


def find_model(client: Client, taste: str, name: str) -> trainer.Model:
    """Returns a model by its id, its resource name, or the newest of its display name."""
    for model in paging.models(client, taste):
        if name in (model.name, model.name.removeprefix("models/"), model.display_name):
            return model
    raise NotFound(
        text("there is no model {name} in this taste; to see those there are: konomi models list", name=name)
    )


def _kind(path: Path) -> str:
    with open_regular(path) as file:
        kind = media_type_of(file.read(12))
    if not kind:
        raise InvalidArgument(text("expected an image ({kinds}), got {path}", kinds=KINDS, path=path))
    return kind


app.command()(compare.command(find_model))
