"""The command line in a child forked from a process that has read its largest libraries already.

Reading them takes two seconds of every `konomi night` and is the same every time; what follows is the same as in a
fresh interpreter: konomi's own code, arguments, environment, session, standard streams and exit code.
"""

import contextlib
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection

from tests.forks import Forked

READ = (
    *("dbos", "typer", "pydantic_settings", "filelock", "rich.console", "PIL.Image", "konomi.v1.rater_pb2"),
    *("numpy", "matplotlib.figure", "matplotlib.backends.backend_svg", "matplotlib.backends.backend_agg", "jinja2"),
)
"""What is read once. Nothing that imports grpc: in a child of such a process no broken connection is made anew."""


class Child:
    """A running `konomi`, with what these tests use of subprocess.Popen."""

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], before: Callable[[], None] | None = None
    ) -> None:
        """Forks it.

        Args:
            arguments: of the command line, without `konomi`.
            environment: all of it.
            before: called in the child before its command line; a function of an importable module.
        """
        receive, send = multiprocessing.Pipe(duplex=False)
        self._err = tempfile.NamedTemporaryFile(mode="r", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = Forked(READ, _run, (arguments, dict(environment), send, self._err.name, before))
        self._process.start()
        send.close()
        self.stdout = open(os.dup(receive.fileno()), encoding="utf-8", errors="replace")  # noqa: SIM115
        receive.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Returns the exit code, None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end and returns the exit code."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("konomi", timeout)
        return self._process.exitcode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end and returns what it wrote on standard output and standard error."""
        said: list[str] = []
        reader = threading.Thread(target=lambda: said.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(timeout)
        self.wait(timeout)
        return "".join(said), self._err.read()

    def send_signal(self, number: int) -> None:
        """Sends a signal; one that has ended is no matter."""
        with contextlib.suppress(ProcessLookupError):
            if self._process.exitcode is None:
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it the hard way."""
        self.send_signal(signal.SIGKILL)


def _run(
    arguments: Sequence[str],
    environment: dict[str, str],
    out: Connection,
    err: str,
    before: Callable[[], None] | None,
) -> None:
    """Becomes `konomi ARGUMENTS`."""
    os.setsid()
    os.dup2(out.fileno(), 1)
    os.dup2(os.open(err, os.O_WRONLY | os.O_APPEND), 2)
    out.close()
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.argv = ["konomi", *arguments]
    importlib.invalidate_caches()
    if before is not None:
        before()
    importlib.import_module("konomi.cli").main()
