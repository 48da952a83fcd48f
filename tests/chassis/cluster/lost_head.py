"""A cluster whose head dies, and services in processes of their own that outlive it.

Of their own, since Ray may end whoever is in a cluster that has lost its head.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tests.chassis.cluster.ray_cluster import ADDRESS, RayPlace


def free_port() -> int:
    """Returns a port for a head, which the next one takes too."""
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def kill_head(place: RayPlace) -> None:
    """Kills what makes a machine the head, and its part of the cluster, as a machine that dies does."""
    processes = place.cluster.head_node.all_processes
    for kind in ("gcs_server", "raylet"):
        os.kill(processes[kind][0].process.pid, signal.SIGKILL)


def on_cluster(port: int, **settings: str) -> dict[str, str]:
    """Returns the environment of a service whose head is at a port, with more settings of [scale]."""
    scale = {"address": f"{ADDRESS}:{port}", "patience_seconds": "300", **settings}
    return {**os.environ, **{f"KONOMI_SCALE_{name.upper()}": value for name, value in scale.items()}}


@contextmanager
def own_process(command: list[str], environment: dict[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """Runs `python -m COMMAND` with pipes to write to and to read from, and kills what is left of it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-m", *command], text=True, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def served(role: str, home: Path, environment: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Gives a role's service on a home, as a person starts it, and its address."""
    with own_process([f"konomi_{role}", "--home", str(home)], environment) as process:
        yield process, json.loads(lines_until(process.stdout, "{")[-1])["address"]


def lines_until(output: IO[str] | None, *ends: str) -> list[str]:
    """Returns the lines of a process up to the first that begins with one of these words, or fails where it ends."""
    assert output is not None
    lines = []
    for line in output:
        lines.append(line.rstrip("\n"))
        if line.startswith(ends):
            return lines
    raise AssertionError(f"the process ended after {lines[-3:]}")
