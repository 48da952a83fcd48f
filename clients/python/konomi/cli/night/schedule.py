"""`konomi night schedule`: wait for an hour of the day, start a night then, and do so every day until stopped.

What the night would refuse at its hour is refused at once, while somebody is there to put it right.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Annotated

import typer

from konomi.cli.console import note
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.host.signals import stop_signals
from konomi.i18n.catalogue import text
from konomi.night.report.notification import offer

LOOK_SECONDS = 30.0
"""How long one wait is at most: the clock may be set, and the machine may sleep, while the command waits."""


def schedule(
    context: typer.Context,
    at: Annotated[str, typer.Argument(metavar="HH:MM", help="Hour of the day, by this machine's clock.")],
    once: Annotated[bool, typer.Option("--once", help="End after one night.")] = False,
) -> None:
    """Wait for an hour of the day and start a night then, every day; what follows the hour is given to night start.

    What the night would refuse is refused at once; what may change until then, such as a service that is away, is only
    said. An unfinished night is gone on with first. Ctrl-C ends the wait, or the night after the step under way.

    Example: konomi night schedule 22:00 converge --units 3
    """
    hour = parsed(at)
    if not context.args:
        raise InvalidArgument(text("expected the system after the hour, for example: schedule {at} converge", at=at))
    command = [sys.executable, "-m", "konomi", "night", "start", *context.args]
    home = Home.locate()
    begin = following(datetime.now(), hour)  # of the moment it was asked for: the check may last beyond the hour
    with stop_signals() as stopped:
        refused = _run([*command, "--check"], stopped, stdout=subprocess.DEVNULL)
        if refused or stopped.is_set():
            raise typer.Exit(refused)
        while True:
            note(text("the next night begins at {time}; Ctrl-C ends the wait", time=begin.strftime("%Y-%m-%d %H:%M")))
            if not wait_until(begin, datetime.now, stopped, lambda: offer(home.root)):
                return
            code = _run(command, stopped)
            if once or stopped.is_set():
                raise typer.Exit(code)
            begin = following(datetime.now(), hour)


def parsed(at: str) -> time:
    """Returns an hour of the day.

    Raises:
        InvalidArgument: it is not one.
    """
    try:
        return datetime.strptime(at, "%H:%M").time()
    except ValueError as error:
        raise InvalidArgument(text("expected an hour as HH:MM, for example 22:00, got {at}", at=at)) from error


def following(now: datetime, hour: time) -> datetime:
    """Returns the first moment after `now` at which the clock shows an hour."""
    today = now.replace(hour=hour.hour, minute=hour.minute, second=0, microsecond=0)
    return today if today > now else today + timedelta(days=1)


def wait_until(
    begin: datetime, clock: Callable[[], datetime], stopped: threading.Event, meanwhile: Callable[[], object]
) -> bool:
    """Waits for a moment of the wall clock; returns false where the wait was ended before.

    A clock that is set back in the meantime does not make the wait longer than to the next such hour of its day.

    Args:
        begin: when to return.
        clock: tells the time of day.
        stopped: ends the wait.
        meanwhile: called at every look at the clock.
    """
    while (left := (begin - (now := clock())).total_seconds()) > 0:
        begin = min(begin, following(now, begin.time()))
        meanwhile()
        if stopped.wait(min(left, (begin - now).total_seconds(), LOOK_SECONDS)):
            return False
    return not stopped.is_set()


def _run(command: list[str], stopped: threading.Event, stdout: int | None = None) -> int:
    """Runs a night as a child process, which frees everything at its end; passes the wish to stop on.

    Where that wish finds it before it listens, or past its report, the signal itself ends it: that is no failure. It
    reads nothing: at its hour nobody is there to be asked.

    Args:
        command: the words of the child.
        stopped: the wish to stop.
        stdout: where the child's results go, as subprocess names it.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout, start_new_session=True)
    while child.poll() is None:
        if stopped.wait(0.2):
            child.terminate()
            code = child.wait()
            return 0 if code == -signal.SIGTERM else code
    return child.returncode
