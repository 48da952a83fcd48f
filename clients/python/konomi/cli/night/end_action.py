"""What is done once the queue is through: a command, a message to an address, the machine sent to sleep."""

import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from konomi import errors
from konomi.cli.console import note
from konomi.i18n.catalogue import text
from konomi.night.records.queue import QueuedNight
from konomi.night.report.notification import NotifySettings, Send, receivers
from konomi.settings import KonomiSettings

SLEEP = {"linux": ("systemctl", "suspend"), "darwin": ("pmset", "sleepnow")}
"""The command that sends a machine to sleep, by the platform."""


class QueueSettings(KonomiSettings):
    """What happens once every night of the queue has ended."""

    model_config = SettingsConfigDict(
        env_prefix="KONOMI_QUEUE_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )
    toml_table: ClassVar[str] = "queue"

    then_run: str = ""
    """A command that is run, without a shell; its failure is said, and changes nothing about the nights."""

    then_call: SecretStr | None = None
    """An address that is told how the nights ended, as apprise names it, for example "json://host/path" for a webhook.
    It may hold a secret, so it is never printed or logged."""

    then_suspend: bool = False
    """Sends this machine to sleep, after the command and the message."""

    then_seconds: float = Field(default=60.0, ge=0)
    """Time before it is sent to sleep in which Ctrl-C keeps it awake."""


def refuse(settings: QueueSettings) -> None:
    """Refuses tonight what could not be done in the morning.

    Raises:
        InvalidArgument: the command or the address is none.
        FailedPrecondition: this machine has no such command, or cannot be sent to sleep by one.
    """
    if settings.then_run:
        _known(_words(settings.then_run)[0], "then_run")
    if settings.then_call is not None:
        _receivers(settings)
    if settings.then_suspend:
        _known(_sleep()[0], "then_suspend")


def perform(settings: QueueSettings, ended: Sequence[QueuedNight], stopped: threading.Event) -> bool:
    """Does what the settings ask for; returns whether all of it could be done.

    Args:
        settings: what is asked for.
        ended: the nights that ended, for the message.
        stopped: the wish to stop, which keeps the machine awake.
    """
    done = True
    if settings.then_call is not None:
        done &= _told(settings, ended)
    if settings.then_run:
        done &= _succeeds(_words(settings.then_run))
    if settings.then_suspend:
        seconds = settings.then_seconds
        note(text("this machine goes to sleep in {seconds} s; Ctrl-C keeps it awake", seconds=f"{seconds:g}"))
        if not stopped.wait(seconds):
            done &= _succeeds(_sleep())
    return done


def lines(ended: Sequence[QueuedNight]) -> list[str]:
    """Returns a line for every night that ended."""
    return [f"{night.said}: {night.told}" for night in ended]


def _told(settings: QueueSettings, ended: Sequence[QueuedNight]) -> bool:
    title, body = text("konomi: the queue of nights is through"), "\n".join(lines(ended))
    taken = all(send(title, body) for send in _receivers(settings).values())
    if not taken:
        note(text("the address of then_call did not take the message"))
    return taken


def _receivers(settings: QueueSettings) -> dict[str, Send]:
    address = () if settings.then_call is None else (settings.then_call,)
    try:
        return receivers(NotifySettings(home=settings.home, urls=address))
    except errors.InvalidArgument as error:
        why = text('then_call is no address apprise knows; a webhook is "json://host/path"')
        raise errors.InvalidArgument(why, field="then_call", reason="NOTIFY_ADDRESS") from error


def _succeeds(words: Sequence[str]) -> bool:
    note(text("running: {command}", command=shlex.join(words)))
    try:
        code = subprocess.run(words, stdin=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        note(text("{command} could not be run: {why}", command=words[0], why=error.strerror or error))
        return False
    if code:
        note(text("{command} ended with exit code {code}", command=words[0], code=code))
    return code == 0


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        why = text("then_run cannot be read as a command: {why}", why=error)
        raise errors.InvalidArgument(why, field="then_run") from error
    if not words:
        raise errors.InvalidArgument(text("then_run is empty: leave it out, or name a command"), field="then_run")
    return words


def _known(command: str, field: str) -> None:
    if shutil.which(command) is None:
        why = text("{field}: this machine has no command {command}", field=field, command=command)
        raise errors.FailedPrecondition(why, field=field, reason="COMMAND_MISSING")


def _sleep() -> tuple[str, ...]:
    if sys.platform not in SLEEP:
        why = text("konomi cannot send this machine to sleep: name the command that does with then_run")
        raise errors.FailedPrecondition(why, field="then_suspend", reason="COMMAND_MISSING")
    return SLEEP[sys.platform]
