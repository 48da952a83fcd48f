"""What starting a service or a command loads: none of the libraries that take seconds."""

import json
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
