"""`konomi models import`: a base model from this machine into the home, pickles only by a sandboxed conversion."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from konomi.cli.console import Json, emit, note, say
from konomi.errors import Internal, from_item
from konomi.home import Home
from konomi.host import extras
from konomi.i18n.catalogue import text


class ImportedModel(TypedDict):
    """What the importer says of a model it put into the home."""

    id: str
    layout: str
    digest: str
    size_bytes: int
    settings_file: str


def import_(
    source: Annotated[
        Path,
        typer.Argument(metavar="PATH", help="A diffusers folder, a checkpoint file, or what stands beside a base."),
    ],
    name: Annotated[str, typer.Option(help="What to call it; its own name where none is given.")] = "",
    convert: Annotated[bool, typer.Option("--convert", help="Read a pickle, in a sandbox, once.")] = False,
    as_json: Json = False,
) -> None:
    """Put a base model of this machine among those of the home.

    A .safetensors file or a diffusers folder is checked and copied. A .ckpt can run code: with --convert a child
    without network, files or privileges reads its tensors once; afterwards only the safetensors copy is used. How the
    model draws and learns where nobody says is read from it and its name, and stands in a file beside it.

    A few-step LoRA, an IP-Adapter or the folder of its image encoder goes beside the base models.

    Example: konomi models import anything-v3.ckpt --convert
    """
    extras.require("generator")
    if convert:
        note(text("converting in a sandbox; this takes a while"))
    result = put(source, Home.locate(), name, convert=convert)
    if as_json:
        emit({**result, "next": next_step(result["id"])} if result["settings_file"] else result)
    else:
        line = text("{id}: {layout}, {size} bytes, sha256 {digest}", size=result["size_bytes"], **_shown(result))
        say(line)
        if result["settings_file"]:
            say(text("how it draws and learns, yours to change: {file}", file=result["settings_file"]))
            say(text("next: {command}", command=next_step(result["id"])))
        else:
            say(text("it stands beside the base models now: konomi models show NAME says which of them use it"))


def next_step(name: str) -> str:
    """Returns the command that shows what an imported model makes of the taste."""
    return f"konomi night plan converge --base {name} --trial"


def put(source: Path, home: Home, name: str, *, convert: bool) -> ImportedModel:
    """Runs the generator's importer and returns what it says of the model.

    Raises:
        KonomiError: what the importer said went wrong.
    """
    command = [sys.executable, "-m", "konomi_generator.model_import.importer", "--home", str(home.root), "--id", name]
    command += ["--convert"] if convert else []
    command += ["--", str(source.expanduser().absolute())]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        last = (done.stderr.strip().splitlines() or [text("it said nothing")])[-1]
        line = text("the importer ended with exit code {code}: {why}", code=done.returncode, why=last)
        raise Internal(line, reason="IMPORT") from error
    if "error" in answer:
        raise from_item(answer["code"], answer["reason"], answer["error"])
    model: ImportedModel = answer
    return model


def _shown(result: ImportedModel) -> dict[str, str]:
    return {"id": result["id"], "layout": result["layout"], "digest": result["digest"]}
