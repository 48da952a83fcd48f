"""What starting a service or a command loads: none of the libraries that take seconds."""

import json
import os
import socket
import subprocess
import sys

import pytest

HEAVY = (
    *("torch", "torchvision", "diffusers", "transformers", "peft", "open_clip", "timm", "accelerate"),
    *("sklearn", "lightgbm", "pandas", "scipy.stats", "faiss"),
)
LOOK = "import json, sys; {do}; print(json.dumps([name for name in {heavy} if name in sys.modules]))"
BUILD = (
    "from pathlib import Path; from konomi_chassis.settings import ServerSettings, StoreSettings; "
    "from konomi_chassis.storage.artifacts import ArtifactStore; from konomi_{role}.__main__ import {build} as build; "
    "home = Path({home!r}); build(ServerSettings(home=home), ArtifactStore(StoreSettings(home=home)))"
)


def loaded(do: str) -> set[str]:
    """Returns which heavy libraries a fresh interpreter has after some statements."""
    done = subprocess.run([sys.executable, "-c", LOOK.format(do=do, heavy=HEAVY)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "build", "allowed"),
    [
        ("rater", "build", {"faiss"}),  # a third of a second, and its threads are limited by the first thread alone
        ("generator", "services", set()),
        ("trainer", "build", set()),
    ],
)
def test_a_service_is_built_without_what_takes_seconds_to_load(role, build, allowed, tmp_path):
    assert loaded(BUILD.format(role=role, build=build, home=str(tmp_path))) <= allowed


@pytest.mark.slow
@pytest.mark.parametrize(
    "words", [["--help"], ["night", "status", "--help"], ["score", "--help"], ["import", "--help"], ["up", "--help"]]
)
def test_a_command_is_shown_without_what_it_does_not_need(words):
    do = f"from konomi.cli import commands; commands.run({words!r})"
    assert not loaded(do)


TOLD_EARLY = (*HEAVY, "numpy", "scipy", "PIL", "sqlalchemy", "pydantic", "starlette", "uvicorn", "grpc_reflection")
TELL = """
import json, runpy, sys
try:
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
    code = 0
except SystemExit as error:
    code = error.code
print(json.dumps([code, sorted({{name.partition(".")[0] for name in sys.modules}})]))
"""


def told(module: str, port: int, *words: str, **environment: str) -> tuple[int, set[str], str]:
    """Returns how a command ended, which libraries it had imported by then, and what it said."""
    command = [sys.executable, "-c", TELL.format(module=module), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    code, modules = json.loads(done.stdout.splitlines()[-1])
    assert str(port) in done.stderr
    return code, set(modules), done.stderr


@pytest.fixture
def taken():
    """A port another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_up_tells_of_a_taken_port_before_it_loads_anything(taken, tmp_path):
    code, modules, said = told("konomi", taken, "--home", str(tmp_path), "up", "--port-trainer", str(taken))
    assert (code, said) == (
        4,
        f"konomi: error: port {taken} of the trainer is taken: choose another --port-trainer, or 0 for any\n",
    )
    grpc_brings = {"grpc_reflection", "pydantic"}  # in 0.02 s each
    assert not modules & ({*TOLD_EARLY, "konomi_chassis", "dbos", "matplotlib"} - grpc_brings)


@pytest.mark.parametrize("role", ["rater", "generator", "trainer"])
def test_a_service_tells_of_a_taken_port_before_it_loads_anything(role, taken, tmp_path):
    code, modules, said = told(f"konomi_{role}", taken, "--home", str(tmp_path), "--port", str(taken))
    address = f"127.0.0.1:{taken}"
    assert said == f"Cannot listen on {address}: the port is taken or the address is not this machine's.\n"
    assert code == 78
    assert not modules & {*TOLD_EARLY, "grpc", "google"}
    assert not list(tmp_path.iterdir()), "nothing is written where nothing is served"
