"""Child processes: the three roles on this machine, started together, watched, and stopped together."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO

from konomi.client.channel import is_loopback
from konomi.errors import Cancelled, DeadlineExceeded, FailedPrecondition, Internal, KonomiError
from konomi.home import Home
from konomi.host import extras
from konomi.host.logs import turn_over
from konomi.i18n.catalogue import text

ROLES = ("rater", "generator", "trainer")
START_SECONDS = 180.0
STOP_SECONDS = 35.0
"""A role drains for at most 30 s; after this it is killed."""


class Role:
    """One role as a child of this interpreter; its log is appended to HOME/logs/<role>.log."""

    def __init__(self, name: str, home: Home, *, port: int = 0, environment: Mapping[str, str] | None = None) -> None:
        """Starts `python -m konomi_<name>`.

        Args:
            name: "rater", "generator" or "trainer".
            home: home folder.
            port: port to listen on; 0 lets the system choose.
            environment: variables to set besides this process's own.
        """
        self.name = name
        self.log = home.log(name)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        turn_over(self.log)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        command = [sys.executable, "-m", f"konomi_{name}", "--home", str(home.root), "--port", str(port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(environment or {}), "KONOMI_PARENT_PID": str(os.getpid())},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then stops everything in order
            )
        self._began = time.monotonic()
        self._address: str | None = None
        self._spoke = threading.Event()
        threading.Thread(target=self._listen, name=f"{name}-ready-line", daemon=True).start()

    @property
    def starting(self) -> bool:
        """Whether it has not said yet that it serves, and may still take its time."""
        return self._address is None and time.monotonic() < self._began + START_SECONDS

    def address(self, deadline: float, give_up: Callable[[], bool]) -> str:
        """Waits for the ready line and returns the address in it.

        Args:
            deadline: monotonic time after which waiting ends.
            give_up: asked ten times a second; true ends waiting.

        Raises:
            FailedPrecondition: the role refused its configuration.
            Internal: it ended, or said something else.
            DeadlineExceeded: it was not ready in time.
            Cancelled: `give_up` said so.
        """
        while not self._spoke.wait(0.1):
            if give_up():
                raise Cancelled(text("starting the {role} was interrupted", role=self.name))
            if time.monotonic() > deadline:
                late = text("the {role} was not ready in time; its log is {log}", role=self.name, log=self.log)
                raise DeadlineExceeded(late)
        if self._address is None:
            self.process.wait(timeout=STOP_SECONDS)
            raise self.failure()
        return self._address

    def failure(self) -> KonomiError:
        """Returns why the role ended, with the last line of its log."""
        last_words = self._last_words()
        if self.process.returncode == os.EX_CONFIG:
            message = text("the {role} refused to start: {why}", role=self.name, why=last_words)
            return FailedPrecondition(message, reason="REFUSED_TO_START")
        line, how = "the {role} ended with exit code {how}: {why} (log: {log})", str(self.process.returncode)
        if self.process.returncode is not None and self.process.returncode < 0:
            line = "the {role} ended by signal {how}: {why} (log: {log})"
            how = signal.Signals(-self.process.returncode).name
        return Internal(text(line, role=self.name, how=how, why=last_words, log=self.log), reason="ROLE_ENDED")

    def stop(self, deadline: float) -> None:
        """Waits for the end after SIGTERM; past the monotonic deadline the whole process group is killed."""
        try:
            self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kills the whole process group and waits for its end; what it had acknowledged is durable."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def _listen(self) -> None:
        output = self.process.stdout
        assert output is not None
        self._address = _ready_address(output)
        self._spoke.set()
        for _ in output:  # drained, so that a chatty library can never block the role
            continue

    def _last_words(self) -> str:
        with self.log.open("rb") as file:
            size = self.log.stat().st_size
            file.seek(max(self._log_start if self._log_start <= size else 0, size - 4096))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return readable_line(lines[-1])[:500] if lines else text("it said nothing")


class Services:
    """The roles that run, and their addresses."""

    def __init__(self, roles: list[Role], addresses: dict[str, str]) -> None:
        self.roles = roles
        self.addresses = addresses
        """Role to "HOST:PORT"."""

    def check(self) -> None:
        """Raises why a role ended, if one did; a log that has grown too large is turned over."""
        for role in self.roles:
            turn_over(role.log)
            if role.process.poll() is not None:
                raise role.failure()


@contextmanager
def running(
    home: Home,
    *,
    ports: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> Iterator[Services]:
    """Holds a home up: installs the starter models where they are missing, runs all roles, stops them at the end.

    Enter it in a thread that outlives it: the children die with the thread that started them.

    Args:
        home: home folder; no other process may hold it up.
        ports: role to port; 0 or none lets the system choose.
        environment: variables for the roles.
        give_up: asked while waiting; true ends it with Cancelled.

    Raises:
        FailedPrecondition: an extra is missing, the home is held, a port is taken, a role refused to start, or the
            settings give the services an address or a certificate of their own (reason SERVICES_OPEN).
        KonomiError: a role did not become healthy.
    """
    extras.require(*ROLES)
    check_reach(home, os.environ | (environment or {}))
    with home.held():
        check_ports(ports or {})
        roles = [Role(role, home, port=(ports or {}).get(role, 0), environment=environment) for role in ROLES]
        try:
            deadline = time.monotonic() + START_SECONDS
            install_starter(home)  # while the roles start; nobody asks for a model before they are announced
            services = Services(roles, {role.name: role.address(deadline, give_up) for role in roles})
            home.announce(services.addresses | {"token_file": str(home.token_file)})
            yield services
        finally:
            stop(roles)


def check_reach(home: Home, environment: Mapping[str, str]) -> None:
    """Refuses services that page and commands could not ask: they ask on this machine, without TLS.

    Args:
        home: home folder, whose konomi.toml is read.
        environment: variables of the roles.

    Raises:
        FailedPrecondition: [server] or the environment opens the services to others, or gives them a certificate.
    """
    try:
        table = tomllib.loads(home.configuration.read_text("utf-8-sig")).get("server", {})
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError):
        table = {}  # what cannot be read a role refuses in words
    server = table if isinstance(table, dict) else {}
    host, certificate = (
        str(environment.get(f"KONOMI_{name.upper()}") or server.get(name) or "") for name in ("host", "tls_certificate")
    )
    if certificate or (host and not is_loopback(f"{host}:0")):
        why = text(
            "the services of konomi up are asked on this machine alone and without TLS: take host and tls_certificate "
            "out of [server] in {path}, or KONOMI_HOST and KONOMI_TLS_CERTIFICATE. Others reach konomi by the page: "
            "page_host and page_certificate in [page]",
            path=home.configuration,
        )
        raise FailedPrecondition(why, reason="SERVICES_OPEN")


def stop(roles: list[Role], seconds: float = STOP_SECONDS) -> None:
    """Asks all roles to end, waits for them, and kills what is left after `seconds`."""
    for role in roles:
        if role.process.poll() is None:
            role.process.terminate()
    deadline = time.monotonic() + seconds
    for role in roles:
        role.stop(deadline)


def install_starter(home: Home, seconds: float = 300.0) -> None:
    """Puts the starter models into the home where they are missing, in a child process.

    Raises:
        Internal: the child failed; the message is its last line.
    """
    if home.has_starter():
        return
    command = [sys.executable, "-m", "konomi_starter", "install", "--home", str(home.root)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [text("it said nothing")]
        why = text("the starter models could not be installed: {why}", why=lines[-1])
        raise Internal(why, reason="STARTER_NOT_INSTALLED")


def check_ports(ports: Mapping[str, int]) -> None:
    """Raises FailedPrecondition where a port asked for cannot be had; a shared one would mix two servers up silently.

    Args:
        ports: role, or "page", to its port; 0 lets the system choose.
    """
    owners: dict[int, str] = {}
    for role, port in ports.items():
        if port and owners.setdefault(port, role) != role:
            line = "port {port} was asked for twice: choose another --port-{role} than the {other} has, or 0 for any"
            raise FailedPrecondition(text(line, port=port, role=role, other=owners[port]), reason="PORT_TAKEN")
        why = obstacle(port) if port else None
        if why == errno.EADDRINUSE:
            line = "port {port} of the {role} is taken: choose another --port-{role}, or 0 for any"
            raise FailedPrecondition(text(line, port=port, role=role), reason="PORT_TAKEN")
        if why is not None:
            line = "port {port} of the {role} cannot be had ({why}): choose another --port-{role}, or 0 for any"
            raise FailedPrecondition(text(line, port=port, role=role, why=os.strerror(why)), reason="PORT_REFUSED")


def is_free(port: int) -> bool:
    """Says whether nothing listens on a port of the loopback address, and this user may."""
    return obstacle(port) is None


def obstacle(port: int) -> int | None:
    """Returns the system's error number for a port of the loopback address, None where it can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno
    return None


def readable_line(line: str) -> str:
    """Returns the sentence of a log line: its event where it is JSON, the line itself otherwise."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line
    return str(entry.get("event", line)) if isinstance(entry, dict) else line


def _ready_address(output: IO[bytes]) -> str | None:
    for line in output:
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and isinstance(message.get("address"), str):
            return str(message["address"])
    return None
