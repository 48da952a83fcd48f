"""The head of the cluster dies while images are drawn: the service stays, says so, and goes on with a new head."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from konomi_generator.settings import GeneratorSettings
from tests.chassis.cluster.ray_cluster import ADDRESS, RayPlace, ray_place

IMAGES = 400
"""More than two actors draw in the time that passes before the head is given up."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


@contextmanager
def drawing(settings: GeneratorSettings, address: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.generator.executors.headless_driver", str(settings.home), address]
    command.append(str(settings.single_file_configs))
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(output: IO[str], *ends: str) -> list[str]:
    lines = []
    for line in output:
        lines.append(line.rstrip("\n"))
        if line.split()[0] in ends:
            return lines
    raise AssertionError(f"the process ended after {lines[-3:]}")


def kill_head(place: RayPlace) -> None:
    """Kills what makes a machine the head, and its part of the cluster, as a machine that dies does."""
    processes = place.cluster.head_node.all_processes
    for kind in ("gcs_server", "raylet"):
        os.kill(processes[kind][0].process.pid, signal.SIGKILL)


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_service_outlives_the_head_and_goes_on_with_the_next_one(settings: GeneratorSettings) -> None:
    port = free_port()
    with ray_place(2, gcs_server_port=port) as place, drawing(settings, f"{ADDRESS}:{port}") as process:
        assert process.stdin is not None and process.stdout is not None

        def ask() -> None:
            process.stdin.write(f"{IMAGES}\n")
            process.stdin.flush()

        lines_until(process.stdout, "ready")
        ask()
        before = lines_until(process.stdout, "made")
        kill_head(place)
        *during, refused = lines_until(process.stdout, "refused", "done")
        assert refused.startswith("refused CLUSTER_AWAY The head of the Ray cluster is away."), refused
        assert "what was made is kept" in refused and process.poll() is None
        made = {line.split()[1] for line in [*before, *during]}
        ask()
        assert lines_until(process.stdout, "refused", "done")[-1].startswith("refused CLUSTER_AWAY"), "not back yet"
        place.cluster.shutdown()
        with ray_place(2, gcs_server_port=port):
            ask()
            *after, done = lines_until(process.stdout, "refused", "done")
            assert done == "done" and len(after) == IMAGES
            assert {line.split()[1] for line in after if line.startswith("recalled")} >= made, "made no more"
            process.stdin.close()
            assert process.wait(120) == 0
