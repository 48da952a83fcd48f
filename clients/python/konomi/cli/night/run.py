"""`konomi night ...`: plan, start, watch, stop, resume and report the overnight loop."""

import time
from typing import Annotated

import typer

from konomi import errors
from konomi.cli import completion
from konomi.cli.console import Json, TasteId, emit, note, say, table
from konomi.cli.night import queue
from konomi.cli.night.ahead import look_ahead
from konomi.cli.night.plan import (
    Base,
    Budget,
    Concepts,
    Contrast,
    Disk,
    GpuHours,
    Hours,
    Images,
    Prompts,
    Regularisation,
    Seeds,
    System,
    Taught,
    Units,
    plan,
)
from konomi.cli.night.schedule import schedule
from konomi.cli.night.trial import FirstLook
from konomi.cli.night.verdict import lines, verdict
from konomi.home import Home
from konomi.host.session import open_session
from konomi.host.signals import stop_signals
from konomi.i18n import catalogue
from konomi.i18n.catalogue import percent, text
from konomi.night.alarms import sentence, unit_name, work
from konomi.night.engine import preparation, runner
from konomi.night.engine.progress import View, showing
from konomi.night.records.request import NightRequest
from konomi.night.records.state import ENDED, NightState, Reason, StateName
from konomi.night.records.store import NightStore
from konomi.night.report.notification import NotifySettings, Outbox, announce, receivers
from konomi.night.report.status import NightSummary, summary_of
from konomi.night.systems.checkpoints import why
from konomi.taste.likes import likes_of
from konomi.taste.prompts import read_prompts

HALTED = 5
"""Exit code of a night a guard halted: the last good unit is served, and a person should look."""

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Plan, start, watch, stop and report a night.")

app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(schedule)

Seed = Annotated[int, typer.Option(help="Seed everything is derived from.")]
RequestId = Annotated[str, typer.Option("--request-id", help="Id of the night; the same id never runs twice.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Start although the base model cannot draw the taste.")]
Check = Annotated[bool, typer.Option("--check", help="Say what the night would refuse; start none.")]
NightId = Annotated[
    str,
    typer.Option("--night", help="The night, by its id; default: the newest.", autocompletion=completion.nights),
]


app.add_typer(queue.app, name="queue")
app.command()(plan)
app.command()(verdict)


@app.command()
def start(
    system: System,
    taste: TasteId = "default",
    units: Units = None,
    images: Images = None,
    hours: Hours = None,
    budget_images: Budget = None,
    gpu_hours: GpuHours = None,
    disk: Disk = None,
    seed: Seed = 0,
    prompts: Prompts = None,
    seed_image: Seeds = None,
    concept: Concepts = None,
    concept_model: Taught = None,
    regularisation: Regularisation = None,
    base: Base = None,
    contrast: Contrast = None,
    anyway: Anyway = False,
    request_id: RequestId = "",
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Start a night, or go on with the one this same command began.

    Uses the services of konomi up where it runs, otherwise starts its own. Ctrl-C or konomi night stop ends it
    after the step under way. Exit code 5: a guard halted it. Where images made elsewhere are graded, 16 trial images
    come first: a base model that cannot draw them is said, and asked about in a terminal.

    Example: konomi night start converge --units 3
    """
    home = Home.locate()
    system, settings = preparation.settings_of(
        home.root, system, units=units, images=images, budget_hours=hours, budget_images=budget_images,
        budget_gpu_hours=gpu_hours, budget_disk_gib=disk, base_model=base, contrast_beta=contrast,
        seed_images=seed_image, concepts=concept, concept_model=concept_model, regularisation=regularisation,
    )  # fmt: skip
    asked = preparation.new_request(
        system, f"tastes/{taste}", seed, settings, preparation.guards_of(home.root), read_prompts(prompts), request_id
    )
    look_ahead(home, asked, as_json, anyway) if check else _run(home, asked, as_json, anyway)


@app.command()
def resume(as_json: Json = False) -> None:
    """Go on with the unfinished night; where [database] url is set, also with one that another host left when it died.

    Example: konomi night resume
    """
    home = Home.locate()
    nights = NightStore(home.root)
    nights.refresh(note)
    _warn(nights)
    night = nights.unfinished()
    if night is None:
        raise errors.NotFound(text("there is no unfinished night; to begin one: konomi night start converge"))
    _run(home, nights.request(night), as_json)


@app.command()
def status(night: NightId = "", as_json: Json = False) -> None:
    """Show where the newest night is.

    Example: konomi night status --json
    """
    nights = NightStore(Home.locate().root)
    _warn(nights)
    chosen = night or nights.latest()
    if chosen is None:
        if as_json:
            return emit({"state": "none"})
        return say(text("no night has been started here"))
    nights.request(chosen)
    summary = summary_of(nights, chosen)
    return emit(summary.plain()) if as_json else show(summary)


@app.command()
def stop(
    abandon: Annotated[bool, typer.Option("--abandon", help="Also give the unfinished night up for good.")] = False,
    seconds: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for its end.")] = 600.0,
) -> None:
    """Ask the night that runs to end after its step, and wait until it has.

    Example: konomi night stop
    """
    nights = NightStore(Home.locate().root)
    _warn(nights)
    night = nights.unfinished()
    if night is None:
        raise errors.NotFound(text("there is no unfinished night"))
    if nights.runner() is not None:
        nights.ask_to_stop(night)
        note(text("stopping after the step under way…"))
    with nights.hold(seconds, note):
        if abandon and nights.unfinished() == night:
            abandoned = Reason(name=StateName.ABANDONED.value, numbers={})
            nights.write(night, nights.state(night).changed(state=StateName.ABANDONED, reason=abandoned))
    say(text("the night {night} is {state}", night=night, state=nights.state(night).state))


@app.command()
def report(night: NightId = "", as_json: Json = False) -> None:
    """Write the report of a night anew and say where it is.

    Example: konomi night report
    """
    from konomi.night.report.render import write_night_report

    home = Home.locate()
    nights = NightStore(home.root)
    _warn(nights)
    chosen = night or nights.latest()
    if chosen is None:
        raise errors.NotFound(text("no night has been started here"))
    nights.request(chosen)
    with open_session(home) as session:
        liked = likes_of(session.client, nights.request(chosen).taste)
        path = write_night_report(nights, chosen, session.client.artifacts.get, catalogue.language(), liked)
    emit({"report": str(path)}) if as_json else say(str(path))


def show(summary: NightSummary) -> None:
    """Prints a summary for people."""
    language = catalogue.language()
    say(f"{summary.night}  {summary.system}  {summary.state}")
    if summary.running and summary.step:
        say(f"{work(summary.step, language)}  {summary.done}/{summary.total}")
    if summary.eta_seconds is not None:
        say(text("about {minutes} minutes left", minutes=max(1, round(summary.eta_seconds / 60))))
    rows = [
        (
            unit_name(unit.unit),
            unit.decision or "…",
            "" if unit.win_rate is None else percent(unit.win_rate),
            "" if unit.vendi is None else f"{unit.vendi:.1f}",
            f"{unit.seconds or 0:.0f} s",
        )
        for unit in summary.units
    ]
    if rows:
        table(("unit", "decision", "won (rater)", "Vendi", "time"), rows)
    for unit in summary.units:
        if unit.checkpoints is not None:
            say(sentence(why(unit.unit, unit.checkpoints), language))
    if summary.reason is not None:
        say(summary.reason.told(language))
    if summary.way_on is not None:
        say(summary.way_on.told(language))
    if summary.in_use is not None and summary.state in ENDED:
        say(text("in use after this night: {unit}", unit=unit_name(summary.in_use.unit)))
    if summary.verdict.pairs:
        for line in lines(summary.verdict):
            say(line)


def _run(home: Home, asked: NightRequest, as_json: bool, anyway: bool = True) -> None:
    nights, language = NightStore(home.root), catalogue.language()
    receivers(NotifySettings(home=home.root))  # an address that cannot work is refused tonight, not in the morning
    reading = runner.read_ahead()
    with nights.hold(say=note), stop_signals() as stopped, open_session(home, stopped.is_set) as session:
        reading.join()
        from konomi.night.engine.rebuild import mend

        for sentence in mend(nights):
            note(sentence)
        look = FirstLook(home, session, nights, asks=not (anyway or as_json), anyway=anyway)
        request = nights.begin(asked.asked, lambda: look(preparation.complete_request(asked, session, nights)))
        look.keep(request.id)
        note(text("night {night}; Ctrl-C stops it safely; to look at it: konomi night status", night=request.id))
        with showing(language) as progress:
            view = View(progress, lambda heartbeat: nights.beat(request.id, heartbeat))
            state = runner.run(nights, request, session, stopped.is_set, view)
        path = None
        if state.state in ENDED:
            from konomi.night.report.render import write_night_report

            liked = likes_of(session.client, request.taste)
            path = str(write_night_report(nights, request.id, session.client.artifacts.get, language, liked))
    summary = summary_of(nights, request.id)
    if as_json:
        emit({**summary.plain(), "report": path})
    else:
        show(summary)
        say(text("report: {path}", path=path) if path else "")
    if path:
        _announce(home, request.id, state, path)
        nights.deliver(request.id)
    if state.state == StateName.HALTED:
        raise typer.Exit(HALTED)


def _warn(nights: NightStore) -> None:
    """Says which nights cannot be read; the others are shown all the same."""
    for why_not in nights.damaged().values():
        note(why_not)


def _announce(home: Home, night: str, state: NightState, report: str) -> None:
    """Sends the morning's message; one that finds no receiver awake is kept, and the night has ended all the same."""
    announce(home.root, night, state, report, time.time())
    if Outbox(home.root).waiting():
        note(text("the message could not be delivered yet; it is kept and tried again"))
