"""`konomi demo`: the main job, start to end, with a simulated person."""

import json
import os
import shlex
import time
from contextlib import suppress
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Annotated, TypedDict

import typer

from konomi.cli.console import Json, emit, note, say
from konomi.evaluation.demo import Demo, DemoSettings, spread_of
from konomi.evaluation.simulated_person import SimulatedPerson, starter
from konomi.home import Home, chosen
from konomi.host import extras
from konomi.host.session import open_session
from konomi.host.signals import stop_signals
from konomi.i18n import catalogue
from konomi.i18n.catalogue import percent, text
from konomi.night.engine import preparation
from konomi.night.engine.progress import View, showing
from konomi.night.records.store import NightStore
from konomi.night.report.again import assignments
from konomi.night.report.truth import DemoFacts
from konomi.night.settings import NightSettings
from konomi.night.systems.registry import night_settings

SAID_BY_THE_DEMO = frozenset({"units", "images", "reserve_gib", "guidance_scale"})
"""Settings of a night the demo takes from its options and from its own settings."""


class UnitResult(TypedDict):
    """A unit in the result of a demo."""

    unit: int
    images: int
    mean_utility: float
    ssr_rate: float
    ur_rate: float
    vendi: float
    seconds: float
    promoted: bool


class DemoResult(TypedDict):
    """What `konomi demo --json` prints last."""

    person: str
    labels: int
    seconds: float
    rater: dict[str, float]
    units: list[UnitResult]
    served_unit: int
    report: str


def demo(
    units: Annotated[int, typer.Option(min=1, max=5, help="Units the night makes.")] = 3,
    labels: Annotated[int, typer.Option(min=8, max=1000, help="Images the person grades before the night.")] = 64,
    images: Annotated[int | None, typer.Option(min=8, help="Images generated for each unit.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything, the random person too.")] = 0,
    system: Annotated[str, typer.Option(help="System of the night.")] = "converge",
    person: Annotated[
        Path | None, typer.Option(help="JSON file: name, weights, noise; default: a random person.")
    ] = None,
    attributes: Annotated[bool, typer.Option("--attributes", help="List what a person can like, and stop.")] = False,
    as_json: Json = False,
) -> None:
    """Run the main job, start to end, with a simulated person: grade, rate, generate, select, train, and the truth.

    Starts everything it needs, stops it again, and says where the report is. Without --home it works in a new folder.

    Example: konomi demo --units 3 --labels 64
    """
    if attributes:
        return _attributes(as_json)
    started = time.monotonic()
    extras.require("overnight", "rater", "generator", "trainer")
    home = Home.locate() if chosen() else own_home()
    try:
        night = _checked(home, system, units, images, seed, person)
    except BaseException:
        if not chosen():
            with suppress(OSError):  # something stands in it already: then it stays
                home.root.rmdir()
        raise
    note(text("the demo works in {home}", home=home.root))
    with showing(catalogue.language()) as show:
        result = _run(home, night, system, labels, seed, person, View(show, lambda beat: None), started)
    emit(result) if as_json else _say(result)


def own_home() -> Home:
    """Makes a home for this demo alone; a database that the environment names is the owner's, and stays without it."""
    os.environ.pop("KONOMI_DATABASE_URL", None)
    return Home(new_folder(Home.locate().root, time.time()))


def new_folder(root: Path, now: float) -> Path:
    """Makes a folder named by the moment, seconds since 1970, or by the first later second nobody else has taken.

    Two demos that begin at once have a folder each.
    """
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    for second in count():
        folder = root / time.strftime("demo-%Y%m%d-%H%M%S", time.localtime(now + second))
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            return folder
    raise AssertionError("seconds do not end")


def _checked(home: Home, system: str, units: int, images: int | None, seed: int, person: Path | None) -> NightSettings:
    """Returns the settings of the night. Raises InvalidArgument where the night or the person cannot be."""
    settings = DemoSettings(home=home.root)
    night: NightSettings = night_settings()(
        home=home.root,
        units=units,
        reserve_gib=settings.reserve_gib,
        guidance_scale=settings.guidance_scale,
        **({"images": images} if images else {}),  # type: ignore[arg-type]
    )
    preparation.new_request(system, "tastes/default", seed, night, preparation.guards_of(home.root), [])
    if person is not None:
        starter("check-person", "--person", str(person))
    return night


def _run(
    home: Home, night: NightSettings, system: str, labels: int, seed: int, file: Path | None, view: View, started: float
) -> DemoResult:
    from konomi.night.report.render import write_demo_report
    from konomi.taste.likes import likes_of

    settings, nights = DemoSettings(home=home.root), NightStore(home.root)
    view.beat("services", 0, 0)
    with nights.hold(), stop_signals() as stopped, open_session(home, stopped.is_set) as session:
        address = session.client.addresses["rater"]
        with SimulatedPerson(home.root, address, file, seed) as person:
            prompts = starter("prompts", "--count", str(settings.prompts), "--seed", str(seed))
            demo = Demo(session, person, prompts, seed, settings, night, view)
            demo.phases.append(("services", time.monotonic() - started))
            reference, graded = _before_the_night(demo, nights, labels)
            request = demo.request(nights, system, preparation.guards_of(home.root))
            state = demo.sleep(nights, request, stopped.is_set)
            demo.phases.append(("night", state.seconds))
            with demo.phase("truth"):
                truth = demo.truth(state, reference)
                quality = demo.quality(truth[0])
            facts = DemoFacts(
                person=person.introduction["name"],
                labels=graded,
                seconds=time.monotonic() - started,
                night_seconds=dict(demo.phases)["night"],
                **asdict(quality),
                units=truth,
                spread=spread_of(truth[0]),
                prompts=[draw.prompt for draw in demo.draws("reference", settings.reference)],
                command=_again(night, settings, system, labels, seed, file),
                phases=demo.phases,
                weights=person.introduction["weights"],
            )
            liked = likes_of(session.client, request.taste)
            path = write_demo_report(
                nights, request.id, facts, session.client.artifacts.get, catalogue.language(), liked
            )
    return result_of(facts, state.served.unit if state.served else 0, path, time.monotonic() - started)


def _before_the_night(demo: Demo, nights: NightStore, labels: int) -> tuple[list[str], int]:
    """Makes the reference images and a pool, has the person grade; returns the references and how many labels came."""
    with demo.phase("reference"):
        demo.choose_taste(nights)
        reference = demo.reference()
    with demo.phase("pool"):
        demo.pool()
    with demo.phase("label"):
        return reference, demo.label(labels)


def result_of(facts: DemoFacts, served: int, report: Path, seconds: float) -> DemoResult:
    """Returns what `konomi demo --json` prints last."""
    units: list[UnitResult] = [
        {
            "unit": unit.number,
            "images": len(unit.digests),
            "mean_utility": unit.utility["value"],
            "ssr_rate": unit.ssr["value"],
            "ur_rate": unit.ur["value"],
            "vendi": unit.vendi["value"],
            "seconds": round(unit.seconds, 2),
            "promoted": unit.promoted,
        }
        for unit in facts.units
    ]
    return {
        "person": facts.person,
        "labels": facts.labels,
        "seconds": round(seconds, 2),
        "rater": {
            "srcc": facts.rank["value"],
            "auc_ssr": facts.ssr_auc["value"],
            "ap_ur": facts.ur_precision["value"],
        },
        "units": units,
        "served_unit": served,
        "report": str(report),
    }


def _again(night: NightSettings, demo: DemoSettings, system: str, labels: int, seed: int, file: Path | None) -> str:
    """Returns the command that does the demo again: every option, and before it the settings that have none."""
    words = ["konomi", "demo", "--units", night.units, "--labels", labels, "--images", night.images, "--seed", seed]
    words += ["--system", system, *(["--person", file] if file else [])]
    of_night = frozenset(type(night).model_fields) - SAID_BY_THE_DEMO
    before = assignments(type(demo), demo.model_dump(mode="json"), frozenset(type(demo).model_fields))
    before += assignments(type(night), night.model_dump(mode="json"), of_night)
    return " ".join([*before, shlex.join(map(str, words))])


def _attributes(as_json: bool) -> None:
    attributes = starter("attributes")
    if as_json:
        return say(json.dumps(attributes, ensure_ascii=False))
    for name, values in attributes.items():
        say(f"{name}: {', '.join(values)}")
    return None


def _say(result: DemoResult) -> None:
    base = result["units"][0]
    served = next(unit for unit in result["units"] if unit["unit"] == result["served_unit"])
    say(
        text(
            "{person}: SSR or better {before} → {after}, UR {ur_before} → {ur_after}; {seconds:.0f} s",
            person=result["person"],
            before=percent(base["ssr_rate"]),
            after=percent(served["ssr_rate"]),
            ur_before=percent(base["ur_rate"]),
            ur_after=percent(served["ur_rate"]),
            seconds=result["seconds"],
        )
    )
    say(text("report: {path}", path=result["report"]))
