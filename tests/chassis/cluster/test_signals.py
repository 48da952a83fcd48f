"""What a process does at a signal is its own again after it was in a cluster, also where a thread joined it."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from konomi_chassis.cluster.signals import handlers_kept
from tests.chassis.cluster.ray_cluster import ray_place

DRIVER = """
import os, signal, sys, threading
import ray
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.cluster.connection import ClusterConnection
from konomi_chassis.settings import StoreSettings

signal.signal(signal.SIGTERM, lambda *_: (print("asked to stop", flush=True), os._exit(7)))

def join():
    connection = ClusterConnection(ScaleSettings(address=sys.argv[1]), StoreSettings())
    if sys.argv[2] == "left":
        connection.close()

thread = threading.Thread(target=join)
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
"""


def test_a_handler_that_something_else_replaced_meanwhile_is_back_and_called() -> None:
    called = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: called.set())
    try:

        def replaced() -> None:
            with handlers_kept():
                ctypes.CDLL(None).signal(int(signal.SIGTERM), ctypes.c_void_p(1))  # ignored, from no main thread

        thread = threading.Thread(target=replaced)
        thread.start()
        thread.join()
        signal.raise_signal(signal.SIGTERM)
        assert called.is_set()
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.chaos
def test_a_service_that_is_in_a_cluster_or_was_ends_as_it_was_told_to(tmp_path: Path) -> None:
    with ray_place(1) as place:
        for then in ("in", "left"):
            command = [sys.executable, "-c", DRIVER, place.cluster.address, then]
            environment = {**os.environ, "KONOMI_HOME": str(tmp_path)}
            ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
            assert (ended.returncode, ended.stdout.splitlines()[-1:]) == (7, ["asked to stop"]), ended.stderr[-2000:]
