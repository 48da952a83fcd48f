"""The services a night works with: those of `konomi up` where it runs, otherwise its own, looked after."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from konomi.client import Client, connect_home
from konomi.errors import DeadlineExceeded, Unavailable
from konomi.home import Home
from konomi.host.logs import turn_over
from konomi.host.supervisor import Role, Services, running
from konomi.i18n.catalogue import text

RESTARTS = 5
"""How often one role is started again before the night is interrupted."""

LOOK_SECONDS = 1.0
"""How often a night looks whether `konomi up` came back at other addresses."""


class OwnServices:
    """Services this process started; one that dies is started again at its address."""

    def __init__(self, home: Home, services: Services) -> None:
        self.home = home
        self.services = services
        self.client = Client.from_addresses(services.addresses, home=home.root)
        self._restarts = dict.fromkeys(services.addresses, 0)

    def tend(self) -> None:
        """Starts dead roles again.

        Raises:
            KonomiError: a role refused its configuration, or died too often.
        """
        for index, role in enumerate(self.services.roles):
            turn_over(role.log)
            if role.process.poll() is None:
                continue
            failure = role.failure()
            self._restarts[role.name] += 1
            if self._restarts[role.name] > RESTARTS:
                raise failure
            port = int(self.services.addresses[role.name].rpartition(":")[2])
            self.services.roles[index] = Role(role.name, self.home, port=port)

    @property
    def starting(self) -> bool:
        """Whether a role that was started again has not said yet that it serves."""
        return any(role.starting for role in self.services.roles)

    def replace(self, seconds: float) -> None:
        """Kills all roles, one of which made no progress for some seconds; `tend` starts them again."""
        for role in self.services.roles:
            role.kill()


class AttachedServices:
    """Services of a running `konomi up`; followed when it comes back at other addresses."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.client = connect_home(home.root)
        self._next_look = time.monotonic() + LOOK_SECONDS

    def tend(self) -> None:
        """Connects anew where the addresses have changed; a home that is down for the moment is waited for."""
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + LOOK_SECONDS
        try:
            addresses = self.home.running()
        except Unavailable:
            return
        if any(addresses.get(role) != address for role, address in self.client.addresses.items()):
            self.client = Client.from_addresses(addresses, home=self.home.root)

    @property
    def starting(self) -> bool:
        """Whether a service is about to serve: never known of those another process started."""
        return False

    def replace(self, seconds: float) -> None:
        """Gives up: services another process started are not this one's to kill.

        Raises:
            DeadlineExceeded: always.
        """
        self.client.close()
        message = text(
            "A service of konomi up made no progress for {seconds:g} seconds; stop and start it, then go on with: "
            "konomi night resume",
            seconds=seconds,
        )
        raise DeadlineExceeded(message, reason="SERVICE_HANGS")


Session = OwnServices | AttachedServices


@contextmanager
def open_session(home: Home, give_up: Callable[[], bool] = lambda: False) -> Iterator[Session]:
    """Holds services ready for a night.

    Args:
        home: home folder.
        give_up: asked while services start; true ends the wait.

    Raises:
        KonomiError: no service could be started.
    """
    if home.is_up():
        attached = AttachedServices(home)
        try:
            yield attached
        finally:
            attached.client.close()
        return
    with running(home, give_up=give_up) as services:
        own = OwnServices(home, services)
        try:
            yield own
        finally:
            own.client.close()
