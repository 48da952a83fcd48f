"""Lanes of calls: each kind has threads of its own, so that none can keep another waiting for one.

| lane | calls | threads |
|---|---|---|
| LABELS | a person's labels, comparisons and audits | as many as calls at once, and some that refuse |
| READS | listing, and the bytes of artifacts | the same |
| WORK | everything else: scoring, fitting, generating, training | the same |
| HEALTH | probes, the newest first; the oldest one still unread makes way for a new one | few |
| WATCH | watches of health, each of which keeps a thread | few |
| OPEN | reflection without a token, on loopback | few |
| REFUSED | calls that will be refused whatever they carry; no message of theirs is ever read | two |
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from queue import LifoQueue

from konomi_chassis.auth.policy import LABELLING, READING

HEALTH_RPCS = "/grpc.health.v1.Health/"
HEALTH_WATCH = HEALTH_RPCS + "Watch"

PROBES = 16
"""Probes of health whose message may be missing at once."""

PROBE_SECONDS = 10.0
"""Given to a probe to send its message, and to take its answer."""

WATCHES_AT_ONCE = 64
"""Watches of health at once."""

OPEN_AT_ONCE = 16
"""Calls without a token at once, where one needs none."""

REFUSING_THREADS = 1
SPARE_THREADS = 8
"""Threads of a lane beyond its calls at once: they refuse, quickly, what comes when it is full."""


class CallLane(Enum):
    """Which threads serve a call."""

    LABELS = "labels"
    READS = "reads"
    WORK = "work"
    HEALTH = "health"
    WATCH = "watch"
    OPEN = "open"
    REFUSED = "refused"


NAMED = (CallLane.LABELS, CallLane.READS, CallLane.WORK)
"""Lanes of callers with a name: a draining server waits for their calls."""


def lane_of(rpc: str) -> CallLane:
    """Returns the lane of an rpc for a caller that may call it."""
    if rpc == HEALTH_WATCH:
        return CallLane.WATCH
    if rpc.startswith(HEALTH_RPCS):
        return CallLane.HEALTH
    if rpc in LABELLING:
        return CallLane.LABELS
    return CallLane.READS if rpc in READING else CallLane.WORK


def thread_pools(max_in_flight: int) -> Mapping[CallLane, ThreadPoolExecutor]:
    """Makes the threads of every lane; a thread starts when it is first needed.

    Args:
        max_in_flight: calls of callers with a name that a lane serves at once.
    """
    at_once = dict.fromkeys(NAMED, max_in_flight) | {
        CallLane.HEALTH: 4 * PROBES,
        CallLane.WATCH: WATCHES_AT_ONCE,
        CallLane.OPEN: OPEN_AT_ONCE,
        CallLane.REFUSED: REFUSING_THREADS - SPARE_THREADS,
    }
    pools = {
        lane: ThreadPoolExecutor(count + SPARE_THREADS, thread_name_prefix=f"rpc-{lane.value}")
        for lane, count in at_once.items()
    }
    # A probe is answered before those that came earlier and stall; the executor has no other way to say so.
    pools[CallLane.HEALTH]._work_queue = LifoQueue()  # type: ignore[assignment]
    return pools
