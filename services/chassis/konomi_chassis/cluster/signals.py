"""What a process does about signals, kept as it is while it joins or leaves a cluster.

Ray puts its own handlers in the place of the process's when it joins, and none at all when it leaves: a service that
had left once would then end at SIGTERM in the middle of what it does. Python itself lets only the main thread say what
a signal does, and services join from the threads of their requests; so the system is asked.
"""

import ctypes
import signal
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV)
"""Those Ray handles."""
ACTION_BYTES = 256
"""More than any system's `struct sigaction` has."""


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Puts back what the process does at each of those signals, from whatever thread; safe to nest.

    Raises:
        OSError: the system refuses, which it does for no signal of these.
    """
    before = {number: ctypes.create_string_buffer(ACTION_BYTES) for number in SIGNALS}
    for number, action in before.items():
        _sigaction(number, None, action)
    try:
        yield
    finally:
        for number, action in before.items():
            _sigaction(number, action, None)


Action = ctypes.Array[ctypes.c_char]


def _sigaction(number: int, new: Action | None, old: Action | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.sigaction(ctypes.c_int(number), new, old):
        raise OSError(ctypes.get_errno(), f"the action of signal {number} can be neither read nor set")
