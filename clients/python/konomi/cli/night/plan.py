"""`konomi night plan`: what a night would make and take; and how a night's words on the line become its settings."""

import math
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli import completion
from konomi.cli.console import Json, TasteId, emit, say
from konomi.cli.models.night_memory import memory_of, show_memory
from konomi.cli.night.trial import show_trial, tried_on
from konomi.client.messages import plain
from konomi.home import Home
from konomi.i18n.catalogue import listing, plural, text
from konomi.night.budgets import Forecast
from konomi.night.engine.preparation import plan_of, settings_of
from konomi.taste.prompts import read_prompts

System = Annotated[
    str,
    typer.Argument(
        help="A system, a chain such as longtail:2+golden:1, or a plan as a TOML file.",
        autocompletion=completion.systems,
    ),
]
Base = Annotated[
    str | None,
    typer.Option(
        "--base", metavar="NAME", help="Base model every unit starts from; see konomi models bases.",
        autocompletion=completion.bases,
    ),
]  # fmt: skip
Prompts = Annotated[Path | None, typer.Option(help="File of prompts, one a line; default: the taste's own.")]
Tried = Annotated[
    bool, typer.Option("--trial", help="Also make 16 images and say whether the base model can draw the taste.")
]
Units = Annotated[int | None, typer.Option(min=1, max=10, help="Units to make.")]
Images = Annotated[int | None, typer.Option(min=8, help="Images generated for each unit.")]
Seeds = Annotated[
    list[str] | None,
    typer.Option("--seed-image", metavar="PATH|DIGEST", help="propagate: an image to grow from; 1 to 5."),
]
Concepts = Annotated[
    list[str] | None,
    typer.Option("--concept", metavar="NAME=CLASS:FOLDER", help="concepts: a word to teach, and its images."),
]
Taught = Annotated[str | None, typer.Option("--concept-model", help="concepts: a model taught before, by id or name.")]
Regularisation = Annotated[
    str | None, typer.Option("--regularisation", metavar="FOLDER", help="Real images with captions (.txt).")
]

Contrast = Annotated[
    float | None,
    typer.Option(
        "--contrast", metavar="BETA", min=0, max=4,
        help="Also turn away from the worst of the same prompts: 0.35 to 4, the smaller the farther; 0.5 is usual.",
    ),
]  # fmt: skip
Hours = Annotated[float | None, typer.Option(min=0.001, help="Working hours the night may spend.")]
Budget = Annotated[int | None, typer.Option(min=1, help="Images the night may generate in all.")]
GpuHours = Annotated[
    float | None, typer.Option("--gpu-hours", min=0.000001, help="Hours on the accelerator the night may spend.")
]
Disk = Annotated[float | None, typer.Option("--disk", min=0.000001, help="GiB of disk the night may add.")]


def plan(
    system: System,
    units: Units = None,
    images: Images = None,
    seed_image: Seeds = None,
    concept: Concepts = None,
    concept_model: Taught = None,
    hours: Hours = None,
    budget_images: Budget = None,
    gpu_hours: GpuHours = None,
    disk: Disk = None,
    base: Base = None,
    contrast: Contrast = None,
    taste: TasteId = "default",
    prompts: Prompts = None,
    trial: Tried = False,
    as_json: Json = False,
) -> None:
    """Say what a night would make and take, without starting it.

    While konomi runs, also what it takes of this machine's memory, and whether it fits.

    Example: konomi night plan converge --units 3 --base sdxl --trial
    """
    home = Home.locate()
    learn = {"seed_images": seed_image, "concepts": concept, "concept_model": concept_model, "contrast_beta": contrast}
    spend = {"budget_hours": hours, "budget_images": budget_images, "budget_gpu_hours": gpu_hours}
    wish = {"units": units, "images": images, "base_model": base, "budget_disk_gib": disk, **spend, **learn}
    result, (chain, settings) = plan_of(home.root, system, **wish), settings_of(home.root, system, **wish)
    memory = memory_of(home, settings.base_model)
    tried = tried_on(home, chain, f"tastes/{taste}", settings, read_prompts(prompts)) if trial else None
    if as_json:
        more = {"memory": memory and plain(memory), "trial": tried and tried.plain()}
        return emit({**result.plain(), **{name: value for name, value in more.items() if value is not None}})
    for line in forecast_lines(result):
        say(line)
    if memory is not None:
        show_memory(memory)
    if tried is not None:
        show_trial(home, tried)


def forecast_lines(result: Forecast) -> list[str]:
    """Returns a forecast as lines for people."""
    amounts = [
        plural("{count} unit", "{count} units", result.units),
        plural("{count:,} image", "{count:,} images", result.images),
        plural("{count:,} training step", "{count:,} training steps", result.training_steps),
    ]
    lines = [listing(amounts)]
    if result.seconds is None:
        lines.append(text("how long: unknown until a first night has been measured here"))
    else:
        lines.append(
            text("about {minutes} minutes, as measured in the last night", minutes=math.ceil(result.seconds / 60))
        )
    if result.disk_bytes is not None:
        lines.append(text("about {size:.0f} MB of disk", size=result.disk_bytes / 1e6))
    if result.cost is not None:
        lines.append(text("about {cost:.2f} at the price of an hour in [night] hour_price", cost=result.cost))
    if result.gpu_hours is not None:
        lines.append(text("about {hours:.2f} hours on the accelerator", hours=result.gpu_hours))
    given = result.budgets
    sentences = {
        "hours": "{value:g} hours",
        "images": "{value:,} images",
        "gpu_hours": "{value:g} hours on the accelerator",
    }
    sentences |= {"disk_gib": "{value:g} GiB of disk"}
    parts = [text(sentences[name], value=value) for name, value in given.items() if value]
    lines.append(text("budgets: {parts}", parts=listing(parts)))
    lines += [
        text("the night would end early: more than {budget}", budget=text(sentences[name], value=given[name]))
        for name in result.ends_by
    ]
    if result.kwh is not None:
        lines.append(text("about {kwh:.2f} kWh at the watts in [night] watts", kwh=result.kwh))
    return lines
