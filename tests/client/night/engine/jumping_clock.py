"""A wall clock that is set two days back or forward at every step of a night; what counts seconds is left alone."""

import itertools
import time
import types

DAYS = 2 * 86400.0
JUMPS = itertools.cycle((-DAYS, DAYS, 0.0, DAYS, -DAYS))


def jump() -> None:
    """Replaces the clock of this process, for konomi and for its libraries, and sets it before every step.

    grpc alone keeps the true one: a deadline is made by Python's clock and read by the machine's, at one moment, so a
    clock of Python's own would be no clock that was set.
    """
    from grpc import _channel

    from konomi.night.engine import workflow

    _channel.time = types.ModuleType("time")
    _channel.time.__dict__.update(time.__dict__)
    offset = 0.0
    clock, clock_ns, attempt = time.time, time.time_ns, workflow.NightWorkflow._attempt

    def jumping(self, name, body, arguments):
        nonlocal offset
        offset = next(JUMPS)
        return attempt(self, name, body, arguments)

    workflow.NightWorkflow._attempt = jumping
    time.time = lambda: clock() + offset
    time.time_ns = lambda: clock_ns() + int(offset * 1e9)
