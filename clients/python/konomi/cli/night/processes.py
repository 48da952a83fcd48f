"""A night as a child process, which frees everything at its end."""

import signal
import subprocess
import threading
from collections.abc import Sequence


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
