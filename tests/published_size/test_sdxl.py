"""SDXL in its published size on a CPU: the plan's table says within a tenth what one image and one step take."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.memory_needs import NightShape, night_memory
from tests.published_size.sdxl import ID, SIDE

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(7200)]
GB = 1e9


def run(what: str, home: Path) -> dict:
    command = [sys.executable, "-m", "tests.published_size.sdxl", what, str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[2])
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    assert run("build", folder)["bytes"] > 6.8 * GB
    return folder


def planned(home: Path) -> dict:
    model = replace(BaseModels(home).get(ID), resolution=SIDE)
    memory = night_memory(model, NightShape(images_together=1, rows_together=1, on_card=False))
    return {need.service: need for need in memory.needs}


def test_one_image_takes_what_the_table_says(home):
    done = run("draw", home)
    need = planned(home)["generator"]
    print(f"SDXL, one image of {SIDE}, bf16: {done}; planned {need.at_peak / GB:.2f} GB")
    assert done["peaks"]["drawing"] == pytest.approx(need.at_peak, rel=0.1)


def test_one_step_takes_what_the_table_says(home):
    done = run("train", home)
    need = planned(home)["trainer"]
    print(
        f"SDXL, one training step of {SIDE}, bf16, activations made twice: {done}; planned {need.at_peak / GB:.2f} GB"
    )
    assert done["peaks"]["training"] == pytest.approx(need.at_peak, rel=0.1)
