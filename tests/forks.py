"""Processes forked from one that has read chosen modules already; every choice has a server of its own.

multiprocessing has one fork server for a process, so the first choice would hold for every test a worker runs.
"""

import io
from collections.abc import Callable
from multiprocessing import context, forkserver, popen_forkserver, reduction, spawn
from typing import Any

SERVERS: dict[tuple[str, ...], forkserver.ForkServer] = {}


class Forked(context.ForkServerProcess):
    """A process of the server that has read some modules."""

    def __init__(self, modules: tuple[str, ...], target: Callable[..., None], args: tuple[Any, ...]) -> None:
        """Takes the modules, and what runs in the child, both importable there."""
        super().__init__(target=target, args=args)
        self.modules = modules

    @staticmethod
    def _Popen(process_obj: "Forked") -> "Launch":
        return Launch(process_obj)


class Launch(popen_forkserver.Popen):
    """Starts a process at its own server."""

    def _launch(self, process_obj: Forked) -> None:
        if process_obj.modules not in SERVERS:
            SERVERS[process_obj.modules] = forkserver.ForkServer()
            SERVERS[process_obj.modules].set_forkserver_preload(list(process_obj.modules))
        buffer = io.BytesIO()
        context.set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj._name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            context.set_spawning_popen(None)
        self.sentinel, write = SERVERS[process_obj.modules].connect_to_new_process(self._fds)
        self.finalizer = None
        with open(write, "wb", closefd=True) as child:
            child.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)
