"""`konomi night schedule`: wait for an hour of the day, start a night then, and do so every day until stopped.

What the night would refuse at its hour is refused at once, while somebody is there to put it right.
"""

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import datetime, time, timedelta
from typing import Annotated

import typer

from konomi.cli.console import note
from konomi.cli.night.end_action import QueueSettings, refuse
from konomi.cli.night.queue import run_night
from konomi.errors import InvalidArgument
from konomi.home import Home
from konomi.host.signals import stop_signals
from konomi.i18n.catalogue import text
from konomi.night.records.queue import NightQueue
from konomi.night.report.notification import offer

LOOK_SECONDS = 30.0
"""How long one wait is at most: the clock may be set, and the machine may sleep, while the command waits."""


def schedule(
    context: typer.Context,
    at: Annotated[str, typer.Argument(metavar="HH:MM", help="Hour of the day, by this machine's clock.")],
    once: Annotated[bool, typer.Option("--once", help="End after one night.")] = False,
) -> None:
    """Wait for an hour of the day and start a night then, every day; what follows the hour is given to night start.

    Without a system it is the queue that begins at that hour: konomi night queue add fills it, also while this waits.
    What the night would refuse is refused at once; what may change until then, such as a service that is away, is only
    said. An unfinished night is gone on with first. Ctrl-C ends the wait, or the night after the step under way.

    Example: konomi night schedule 22:00 converge --units 3
    """
    hour = parsed(at)
    night = [sys.executable, "-m", "konomi", "night"]
    command = [*night, "start", *context.args] if context.args else [*night, "queue", "run"]
    home = Home.locate()
    begin = following(datetime.now(), hour)  # of the moment it was asked for: the check may last beyond the hour
    with stop_signals() as stopped:
        refused = _looked_at(command, stopped) if context.args else _queue_looked_at(home)
        if refused or stopped.is_set():
            raise typer.Exit(refused)
        while True:
            note(text("the next night begins at {time}; Ctrl-C ends the wait", time=begin.strftime("%Y-%m-%d %H:%M")))
            if not wait_until(begin, datetime.now, stopped, lambda: offer(home.root)):
                return
            code = run_night(command, stopped)
            if once or stopped.is_set():
                raise typer.Exit(code)
            begin = following(datetime.now(), hour)


def _looked_at(command: list[str], stopped: threading.Event) -> int:
    return run_night([*command, "--check"], stopped, stdout=subprocess.DEVNULL)


def _queue_looked_at(home: Home) -> int:
    """Refuses what the queue could not do at its end, and says where nothing waits so far."""
    refuse(QueueSettings(home=home.root))
    if not NightQueue(home.root).waiting():
        note(text("no night waits so far; to add one: konomi night queue add converge"))
    return 0


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
