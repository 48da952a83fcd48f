"""One base model as its owner sees it: what it is, and how it draws and learns where nobody says otherwise."""

from konomi.cli.console import note, say, table
from konomi.cli.models.night_memory import show_memory
from konomi.cli.storage.command import size
from konomi.client import Client
from konomi.client.messages import plain
from konomi.errors import InvalidArgument, NotFound, Unavailable, Unimplemented
from konomi.i18n.catalogue import text
from konomi.v1 import generator_pb2 as generator

HALVES = ("drawing", "training")
FACTS = ("id", "layout", "format", "size_bytes", "resolution", "prediction_type", "zero_terminal_snr", "digest")


def find_base(client: Client, name: str, missing: NotFound) -> generator.BaseModel:
    """Returns a base model by its id.

    Raises:
        NotFound: there is none, or no generator to ask: what was missing before.
        FailedPrecondition: it cannot be used, or its settings cannot be read.
    """
    try:
        return client.generator.inspect_model(id=name)
    except (NotFound, InvalidArgument, Unavailable, Unimplemented) as error:
        raise missing from error


def show_base(base: generator.BaseModel) -> None:
    """Prints a base model's facts and its settings, each with where it comes from."""
    facts = plain(base)
    for name in FACTS:
        if facts[name] not in ("", 0, False):
            say(f"{name:<17} {facts[name]}")
    table(("setting", "value", "from"), _rows(base))
    if base.HasField("memory"):
        show_memory(base.memory)
    for line in _companions(base):
        say(line)
    note(text("settings are changed in models/{id}.toml of the home", id=base.id))


def _companions(base: generator.BaseModel) -> list[str]:
    """Returns what stands beside a base model, a line each: what draws its drafts, and what lets it look at images."""
    lines = []
    if base.HasField("draft"):
        draft = base.draft
        ways = {"steps": draft.drawing.steps, "scheduler": draft.drawing.scheduler or text("its own scheduler")}
        if draft.missing:
            lines.append(draft.missing)
        elif draft.adapter:
            figures = {"adapter": draft.adapter, "size": size(draft.adapter_bytes), "scale": draft.scale}
            lines.append(
                text("drafts: {adapter} ({size}) at {scale:g}, {steps} steps by {scheduler}", **figures, **ways)
            )
        else:
            lines.append(text("drafts: as it always draws, {steps} steps by {scheduler}", **ways))
    if base.HasField("image_prompt"):
        images = base.image_prompt
        figures = {"adapter": images.adapter, "encoder": images.image_encoder, "size": size(images.size_bytes)}
        sentence = "images as a prompt: {adapter} with {encoder} ({size}), strength {scale:g}"
        lines.append(images.missing or text(sentence, scale=images.scale, **figures))
    return lines


def _rows(base: generator.BaseModel) -> list[tuple[str, str, str]]:
    """Returns setting, value and origin of every setting."""
    sources = {True: text("the file"), False: text("the model")}
    settings = {half: plain(getattr(base, half)) for half in HALVES}
    return [
        (f"{half}.{name}", _shown(value), sources[f"{half}.{name}" in base.settings_in_file])
        for half in HALVES
        for name, value in settings[half].items()
    ]


def _shown(value: object) -> str:
    """Returns a value as it stands in the file."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
