"""The base models a night can start from, at hand or to be fetched, and what each is good for here."""

from typing import TypedDict

from konomi.client import Client
from konomi.client.messages import plain
from konomi.client.refusals import told
from konomi.errors import KonomiError
from konomi.home import Home
from konomi.host.hub_models import DOWNLOADS, Download
from konomi.i18n.catalogue import N_, text
from konomi.night import budgets
from konomi.night.engine.preparation import settings_of
from konomi.night.records.store import NightStore
from konomi.v1 import generator_pb2 as generator

STARTER = "starter"
STARTER_DRAWS = N_("illustrated portraits of one small world only; no places, no animals, nothing else")
STARTER_LICENCE = "Apache-2.0"
PUBLISHED = N_("its family as published: {licence}")
PUBLISHED_LICENCES = {
    "FLUX1": "FLUX.1 [dev] non-commercial, [schnell] Apache-2.0",
    "FLUX2_KLEIN": "4B Apache-2.0, 9B non-commercial",
    "CHROMA": "Apache-2.0",
    "QWEN_IMAGE": "Apache-2.0",
    "Z_IMAGE": "Apache-2.0",
    "LUMINA2": "Apache-2.0",
    "SD3": "Stability AI Community",
}
"""Layout → the licences its authors published its models under, which another's copy may have changed."""
OTHER_DRAWS = N_("what its makers trained it for, at about {pixels} pixels")


class BaseLine(TypedDict):
    """One base model, as JSON has it; None for what is not known.

    `here`: it is on this machine. `licence`: "" where its file does not say. `draws`: what it can draw, one plain line.
    `hours`: of a night with this home's settings, as measured here. `next`: the command that uses or fetches it.
    """

    id: str
    here: bool
    layout: str
    size_bytes: int
    resolution: int
    licence: str
    draws: str
    memory: dict[str, object] | None
    fit: str | None
    hours: float | None
    next: str


def base_lines(client: Client, home: Home) -> list[BaseLine]:
    """Returns the base models of this machine, then those that can be fetched.

    Args:
        client: of a running generator.
        home: the home.
    """
    here = [_here(client, home, model) for model in client.generator.list_base_models().base_models]
    known = {line["id"] for line in here}
    return [*here, *(_there(model) for model in DOWNLOADS if model.draws and model.name not in known)]


def _here(client: Client, home: Home, model: generator.BaseModel) -> BaseLine:
    why = ""
    try:
        model = client.generator.inspect_model(id=model.id)
    except KonomiError as error:  # one that cannot be used is listed all the same, and says why
        why = told(error)
    memory = model.memory if model.HasField("memory") else None
    fit = "" if memory is None else generator.NightFit.Name(memory.fit).removeprefix("NIGHT_FIT_")
    return {
        "id": model.id,
        "here": True,
        "layout": _layout(model),
        "size_bytes": model.size_bytes,
        "resolution": model.resolution,
        "licence": licence_of(model),
        "draws": why or draws_of(model),
        "memory": None if memory is None else plain(memory),
        "fit": fit if fit in ("WHOLE", "REDUCED", "NONE") else None,
        "hours": hours_of(home, model.id),
        "next": f"konomi night plan converge --base {model.id} --trial",
    }


def _there(model: Download) -> BaseLine:
    return {
        "id": model.name, "here": False, "layout": "", "size_bytes": model.size,
        "resolution": 0, "licence": model.licence, "draws": text(model.draws), "memory": None, "fit": None,
        "hours": None, "next": f"konomi models fetch {model.name}",
    }  # fmt: skip


def draws_of(model: generator.BaseModel) -> str:
    """Returns what a base model at hand can draw, in one plain line."""
    if model.id == STARTER:
        return text(STARTER_DRAWS)
    known = next((download for download in DOWNLOADS if download.name == model.id and download.draws), None)
    return text(OTHER_DRAWS, pixels=model.resolution or "?") if known is None else text(known.draws)


def licence_of(model: generator.BaseModel) -> str:
    """Returns the licence of a base model at hand, else that of its family as published; "" where nobody said it."""
    if model.id == STARTER:
        return STARTER_LICENCE
    known = next((download.licence for download in DOWNLOADS if download.name == model.id), "")
    published = PUBLISHED_LICENCES.get(_layout(model), "")
    return known or (text(PUBLISHED, licence=published) if published else "")


def hours_of(home: Home, name: str) -> float | None:
    """Returns the hours a night on a base model takes here; None where none was measured."""
    _, settings = settings_of(home.root, "converge", base_model=name)
    rates = budgets.measured(NightStore(home.root), name)
    seconds = budgets.forecast(settings, rates, None).seconds
    return None if seconds is None else round(seconds / 3600, 2)


def _layout(model: generator.BaseModel) -> str:
    name = generator.ModelLayout.Name(model.layout).removeprefix("MODEL_LAYOUT_")
    return "" if name == "UNSPECIFIED" else name
