"""`konomi night queue ...`: nights that wait their turn, over tastes and bases, and what is done after the last."""

import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, emit, note, say, table
from konomi.cli.night.end_action import QueueSettings, perform, refuse
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.host.signals import stop_signals
from konomi.i18n.catalogue import text
from konomi.night.records.queue import NightQueue, QueuedNight, QueueState
from konomi.night.records.state import ENDED, StateName
from konomi.night.records.store import NightStore

HALTED = 5
NIGHT = (sys.executable, "-m", "konomi", "night")
app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Nights that wait their turn, one after another.")

Id = Annotated[str, typer.Argument(metavar="ID", help="The night, by its id or how it begins.")]
ThenRun = Annotated[str | None, typer.Option("--then-run", metavar="COMMAND", help="Run this once all have ended.")]
ThenCall = Annotated[
    str | None,
    typer.Option("--then-call", metavar="ADDRESS", help="Tell this address how they ended, for example json://host."),
]
ThenSuspend = Annotated[bool | None, typer.Option("--then-suspend", help="Send this machine to sleep at the end.")]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def add(context: typer.Context, as_json: Json = False) -> None:
    """Add a night at the end of the queue; what follows is given to night start.

    What the night would refuse is refused at once; what may change until then is only said.

    Example: konomi night queue add converge --taste default --base sdxl
    """
    if not context.args or context.args[0].startswith("-"):
        got = context.args[0] if context.args else text("nothing")
        raise InvalidArgument(
            text("expected the system first, as in konomi night queue add converge; got {got}", got=got)
        )
    home = Home.locate()
    with stop_signals() as stopped:
        refused = run_night([*NIGHT, "start", *context.args, "--check"], stopped, stdout=subprocess.DEVNULL)
    if refused or stopped.is_set():
        raise typer.Exit(refused)
    queue = NightQueue(home.root)
    night = queue.add(context.args, Path.cwd())
    place = [one.id for one in queue.waiting()].index(night.id) + 1
    if as_json:
        return emit({"id": night.id, "place": place})
    return say(text("{id} waits at place {place}; konomi night queue run begins", id=night.id[:8], place=place))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Show the nights that wait, the one that runs, and how the last ones ended.

    Example: konomi night queue list
    """
    nights = NightQueue(Home.locate().root).nights()
    if as_json:
        return emit({"nights": [night.model_dump(mode="json") for night in nights]})
    if not nights:
        return say(text("no night waits; to add one: konomi night queue add converge"))
    return table(("id", "state", "night"), [(night.id[:8], night.told, night.said) for night in nights])


@app.command()
def move(id: Id, place: Annotated[int, typer.Argument(min=1, help="1 is the next one.")]) -> None:
    """Put a night at another place among those that wait.

    Example: konomi night queue move 3f2a 1
    """
    for number, night in enumerate(NightQueue(Home.locate().root).move(id, place), 1):
        say(f"{number}. {night.id[:8]}  {night.said}")


@app.command()
def remove(id: Id) -> None:
    """Take a night out of the queue.

    Example: konomi night queue remove 3f2a
    """
    say(text("removed: {night}", night=NightQueue(Home.locate().root).remove(id).said))


@app.command()
def run(then_run: ThenRun = None, then_call: ThenCall = None, then_suspend: ThenSuspend = None) -> None:
    """Work through the queue, one night after another, then do what is asked for at its end.

    An unfinished night is gone on with first. A night that is refused does not keep the next from starting; one that
    is stopped or cut off does, and goes on when this runs again. Nights may be
    added, moved and removed meanwhile. Ctrl-C ends the night after the step under way; the same command goes on. Exit
    code 5: a guard halted one. What is done at the end can also be set, in [queue] of konomi.toml.

    Example: konomi night queue run --then-suspend
    """
    home = Home.locate()
    flags = {"then_run": then_run, "then_call": then_call, "then_suspend": then_suspend}
    settings = QueueSettings.recorded(
        {"home": home.root, **{name: value for name, value in flags.items() if value is not None}}
    )
    refuse(settings)
    queue = NightQueue(home.root)
    with queue.running(), stop_signals() as stopped:
        ended = work_through(home, queue, stopped)
        if queue.waiting():
            note(text("nights still wait, so nothing of what was to follow the last one is done"))
        done = bool(queue.waiting()) or perform(settings, ended, stopped)
    codes = {night.code for night in ended}
    raise typer.Exit(FAILED if not done or codes - {0, HALTED} else HALTED if HALTED in codes else 0)


def work_through(home: Home, queue: NightQueue, stopped: threading.Event) -> list[QueuedNight]:
    """Runs the nights of a queue until none waits, or until it is to stop; returns those that ended, with their codes.

    A night that was cut off, by a kill too, begins again under its own id, so that it goes on where it was. One that is
    stopped by `konomi night stop`, or that cannot go on, ends the work: while it is unfinished no other may begin.
    """
    ended: list[QueuedNight] = []
    nights = NightStore(home.root)
    while not stopped.is_set():
        waiting = sorted(queue.waiting(), key=lambda night: night.state is not QueueState.RUNNING)
        unfinished = nights.unfinished()
        if unfinished is not None and unfinished not in {night.id for night in waiting}:
            note(text("going on with the unfinished night {night} first", night=unfinished))
            if _ended(run_night([*NIGHT, "resume"], stopped), nights, stopped):
                continue
            break
        if not waiting:
            break
        night = next((one for one in waiting if one.id == unfinished), waiting[0])
        code = _end_on_record(night, nights)
        if code is None:
            queue.note(night.id, QueueState.RUNNING)
            line = "night {number}, {left} after it: {night}"
            note(text(line, number=len(ended) + 1, left=len(waiting) - 1, night=night.said))
            code = run_night([*NIGHT, "start", *night.words, "--request-id", night.id], stopped, folder=_folder(night))
            queue.note(night.id, QueueState.WAITING)  # until it is known that it has ended
            if not _ended(code, nights, stopped):
                break
        state = QueueState.FINISHED if code == 0 else QueueState.HALTED if code == HALTED else QueueState.FAILED
        queue.note(night.id, state, code)
        ended.append(night.changed(state=state, code=code))
    return ended


def _end_on_record(night: QueuedNight, nights: NightStore) -> int | None:
    """Returns the exit code of a night whose end was told already, and not noted here before a kill; None of others."""
    state = nights.state(night.id).state
    if state not in ENDED or not nights.delivered(night.id):
        return None
    note(text("this night had come to its end already: {night}", night=night.said))
    return HALTED if state == StateName.HALTED else 0


def _ended(code: int, nights: NightStore, stopped: threading.Event) -> bool:
    """Says whether a night has come to its end; one that was stopped, here or by its owner, has not.

    Raises:
        typer.Exit: it was cut off by what its command has said: no other may begin before it.
    """
    ended = not stopped.is_set() and nights.unfinished() is None
    if not ended and not stopped.is_set() and code not in (0, HALTED):
        raise typer.Exit(code)
    return ended


def _folder(night: QueuedNight) -> str | None:
    """Returns where a night was asked for; None where that is gone: a file it names is then refused by its name."""
    return night.folder if Path(night.folder).is_dir() else None


def run_night(
    command: Sequence[str], stopped: threading.Event, stdout: int | None = None, folder: str | None = None
) -> int:
    """Runs a night's command and returns its exit code; passes the wish to stop on.

    Where that wish finds it before it listens, or past its report, the signal itself ends it: that is no failure. It
    reads nothing: at its hour nobody is there to be asked.

    Args:
        command: the words of the child.
        stopped: the wish to stop.
        stdout: where the child's results go, as subprocess names it.
        folder: where it runs; None here.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True, cwd=folder)
    while child.poll() is None:
        if stopped.wait(0.2):
            child.terminate()
            code = child.wait()
            return 0 if code == -signal.SIGTERM else code
    return child.returncode
