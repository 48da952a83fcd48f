"""Several processes that train one run together, each on a GPU of its own, by accelerate: they add up gradients.

Every rank holds the same weights, draws the same batch and takes its part of the rows; the gradients of all parts are
summed before the optimiser steps (synchronous data parallelism), so the result is that of one process but for the
order of additions. Only rank 0 writes. Whether to stop, and whether memory ran out, is agreed upon by all.
"""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import torch
from accelerate import PartialState
from accelerate.utils import patch_environment

from konomi.errors import KonomiError, Unavailable
from konomi_chassis.memory_shortage import is_shortage
from konomi_trainer.configuration import Configuration

HOST = "127.0.0.1"
PATIENCE = timedelta(hours=6)
"""How long a rank waits for the first one, which encodes the set alone; it waits on a socket and not on the GPU."""
NCCL_PATIENCE = timedelta(minutes=30)
"""How long a GPU waits in one sum; the first rank publishes checkpoints meanwhile. A rank that dies is seen at once."""
LOOK_SECONDS, GRACE_SECONDS = 0.5, 10.0
ENCODED = "encoded"


class Ranks(Protocol):
    """The processes of one run, as one of them sees them."""

    first: bool
    """This one writes checkpoints and reports."""

    def share(self, rows: int) -> range:
        """Returns which of a step's rows this one computes; may be none."""

    def after_first(self) -> AbstractContextManager[None]:
        """Lets the first one go through the context alone, then the others."""

    def any(self, flag: bool) -> bool:
        """Says whether any rank says so; waits for all."""

    def total(self, value: torch.Tensor, weights: Iterable[torch.nn.Parameter]) -> torch.Tensor:
        """Returns the sum of all ranks' scalars and leaves the sum of their gradients in every rank's weights."""


class Alone:
    """One process."""

    first = True

    def share(self, rows: int) -> range:
        """Returns all rows."""
        return range(rows)

    def after_first(self) -> AbstractContextManager[None]:
        """Waits for nobody."""
        return nullcontext()

    def any(self, flag: bool) -> bool:
        """Returns the flag."""
        return flag

    def total(self, value: torch.Tensor, weights: Iterable[torch.nn.Parameter]) -> torch.Tensor:
        """Returns the value."""
        return value


class Group:
    """One of several processes; see `joined`."""

    def __init__(self, state: PartialState, store: torch.distributed.Store | None = None) -> None:
        self._state, self.first = state, state.process_index == 0
        self._store, self._lost = store, threading.Event()

    def share(self, rows: int) -> range:
        """Returns a contiguous part; the first ranks have a row more where they do not divide."""
        number, count = self._state.process_index, self._state.num_processes
        return range(number * rows // count, (number + 1) * rows // count)

    @contextmanager
    def after_first(self) -> Iterator[None]:
        """Lets the first one go through the context alone, then the others."""
        if self._store is not None and not self.first:
            self._store.wait([ENCODED], PATIENCE)
        yield
        if self._store is not None and self.first:
            self._store.set(ENCODED, "yes")

    def abort(self) -> None:
        """Ends the sum this process waits in: another rank is gone. gloo ends it by itself, NCCL waits."""
        self._lost.set()
        with suppress(RuntimeError, ValueError, AttributeError):  # it has ended, or this backend knows no such end
            torch.distributed.distributed_c10d._abort_process_group()

    def any(self, flag: bool) -> bool:
        """Says whether any rank says so."""
        flags = torch.tensor([float(flag)], device=self._state.device)
        self._sum(flags)
        return bool(flags.item() > 0)

    def total(self, value: torch.Tensor, weights: Iterable[torch.nn.Parameter]) -> torch.Tensor:
        """Sums a scalar and the gradients of float32 weights in one message, in the order of the weights."""
        parameters = list(weights)
        for weight in parameters:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        flat = torch.cat([value.reshape(1).float(), *(gradient.flatten().float() for gradient in gradients)])
        self._sum(flat)
        parts = flat[1:].split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return flat[0].to(value)

    def _sum(self, tensor: torch.Tensor) -> None:
        try:
            torch.distributed.all_reduce(tensor)
        except (RuntimeError, ValueError) as error:  # ValueError: the group was ended by `abort`
            if is_shortage(error):
                raise
            raise rank_lost() from error
        if self._lost.is_set():
            raise rank_lost()


def rank_lost() -> Unavailable:
    """Returns the error of a run one of whose processes has ended."""
    return Unavailable(
        "Expected every process of the training run to go on; one of them has ended, its last words are in the"
        " trainer's log. Start the run again: it goes on from its newest checkpoint.",
        reason="RANK_LOST",
    )


@contextmanager
def watched(
    others: Sequence[subprocess.Popen[bytes]],
    abort: Callable[[], None],
    last_resort: Callable[[KonomiError], None] | None = None,
    grace: float = GRACE_SECONDS,
) -> Iterator[None]:
    """Watches the other processes of a run in a thread, and ends the run in seconds when one of them fails.

    Args:
        others: the processes; one that ends well has done its part.
        abort: ends what this process waits in.
        last_resort: ends this process, where it still waits after that.
        grace: seconds it has to leave the context by itself.
    """

    def look(over: threading.Event) -> bool:
        lost = any(other.poll() for other in others)
        if lost:
            abort()
            if not over.wait(grace) and last_resort is not None:
                last_resort(rank_lost())
        return lost

    with looking(look, "ranks"):
        yield


@contextmanager
def looking(look: Callable[[threading.Event], bool], name: str, every: float = LOOK_SECONDS) -> Iterator[None]:
    """Looks again and again in a thread, as long as the context lasts or until there is nothing more to look for.

    Args:
        look: takes what is set once the context is left; says whether it has seen what it looked for.
        name: of the thread.
        every: seconds between two looks.
    """
    over = threading.Event()

    def repeat() -> None:
        while not over.wait(every):
            if look(over):
                return

    thread = threading.Thread(target=repeat, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a run meet: ports on the loopback, for their sums and for waiting."""

    sums: int
    waiting: int

    @staticmethod
    def anywhere() -> "Meeting":
        """Returns two ports nobody listens on now."""
        with socket.socket() as first, socket.socket() as second:
            first.bind((HOST, 0))
            second.bind((HOST, 0))
            return Meeting(int(first.getsockname()[1]), int(second.getsockname()[1]))


@contextmanager
def joined(number: int, count: int, meeting: Meeting, gpu: int | None) -> Iterator[Group]:
    """Joins a group on this machine and leaves it at the end.

    Args:
        number: of this process, from 0.
        count: of processes, 2 or more.
        meeting: where number 0 waits for the others.
        gpu: number of its GPU among those it sees; None computes without.
    """
    threads = torch.get_num_threads()
    local = number if gpu is None else gpu  # accelerate computes on the GPU of this number
    place = {"RANK": number, "LOCAL_RANK": local, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    with patch_environment(**place, MASTER_ADDR=HOST, MASTER_PORT=meeting.sums, OMP_NUM_THREADS=threads):
        try:
            state = PartialState(cpu=gpu is None, timeout=PATIENCE if gpu is None else NCCL_PATIENCE)
            store = torch.distributed.TCPStore(HOST, meeting.waiting, count, number == 0, PATIENCE)
            yield Group(state, store)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            PartialState._reset_state()  # the trainer lives on and may join another group


Gather = Callable[[str, str, Configuration], AbstractContextManager[Ranks]]
"""(run, manifest digest, configuration) → the ranks of that run, there until the context ends."""


@contextmanager
def alone(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
    """Gives the one process."""
    yield Alone()
