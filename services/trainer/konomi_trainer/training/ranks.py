"""Several processes that train one run together, each on a GPU of its own, by accelerate: they add up gradients.

Every rank holds the same weights, draws the same batch and takes its part of the rows; the gradients of all parts are
summed before the optimiser steps (synchronous data parallelism), so the result is that of one process but for the
order of additions. Only rank 0 writes. Whether to stop, and whether memory ran out, is agreed upon by all.
"""

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Protocol

import torch
from accelerate import PartialState
from accelerate.utils import patch_environment

from konomi.errors import Unavailable
from konomi_trainer.configuration import Configuration

HOST = "127.0.0.1"
PATIENCE = timedelta(hours=6)
"""How long a rank waits for the others; the first one encodes the set alone meanwhile."""


class Ranks(Protocol):
    """The processes of one run, as one of them sees them."""

    first: bool
    """This one writes checkpoints and reports."""

    def share(self, rows: int) -> range:
        """Returns which of a step's rows this one computes; may be none."""

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

    def any(self, flag: bool) -> bool:
        """Returns the flag."""
        return flag

    def total(self, value: torch.Tensor, weights: Iterable[torch.nn.Parameter]) -> torch.Tensor:
        """Returns the value."""
        return value


class Group:
    """One of several processes; see `joined`."""

    def __init__(self, state: PartialState) -> None:
        self._state, self.first = state, state.process_index == 0

    def share(self, rows: int) -> range:
        """Returns a contiguous part; the first ranks have a row more where they do not divide."""
        number, count = self._state.process_index, self._state.num_processes
        return range(number * rows // count, (number + 1) * rows // count)

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

    @staticmethod
    def _sum(tensor: torch.Tensor) -> None:
        try:
            torch.distributed.all_reduce(tensor)
        except RuntimeError as error:
            raise Unavailable(
                "Expected every process of the training run to go on; one of them has ended, its last words are in the"
                " trainer's log. Start the run again: it goes on from its newest checkpoint.",
                reason="RANK_LOST",
            ) from error


@contextmanager
def joined(number: int, count: int, port: int, cpu: bool) -> Iterator[Group]:
    """Joins a group on this machine and leaves it at the end.

    Args:
        number: of this process, from 0; also the number of its GPU.
        count: of processes, 2 or more.
        port: on the loopback where number 0 waits for the others.
        cpu: compute without GPUs.
    """
    threads = torch.get_num_threads()
    place = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    with patch_environment(**place, MASTER_ADDR=HOST, MASTER_PORT=port, OMP_NUM_THREADS=threads):
        try:
            yield Group(PartialState(cpu=cpu, timeout=PATIENCE))
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
            PartialState._reset_state()  # the trainer lives on and may join another group


def free_port() -> int:
    """Returns a port of the loopback nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


Gather = Callable[[str, str, Configuration], AbstractContextManager[Ranks]]
"""(run, manifest digest, configuration) → the ranks of that run, there until the context ends."""


@contextmanager
def alone(run: str, manifest_digest: str, configuration: Configuration) -> Iterator[Ranks]:
    """Gives the one process."""
    yield Alone()
