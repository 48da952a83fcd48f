"""A whole night of converge on a model of Z-Image's layout with stand-in weights, by the real services."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open

from tests.families import tiny_flows

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

SMALL = {
    "KONOMI_DEMO_PROMPTS": "4",
    "KONOMI_DEMO_REFERENCE": "20",
    "KONOMI_DEMO_POOL": "24",
    "KONOMI_DEMO_ROUNDS": "1",
    "KONOMI_NIGHT_BASE_MODEL": "z-image",
    "KONOMI_NIGHT_EVALUATION_IMAGES": "8",
    "KONOMI_NIGHT_SAMPLING_STEPS": "2",
    "KONOMI_NIGHT_STEPS": "3",
    "KONOMI_NIGHT_BATCH_SIZE": "4",
    "KONOMI_NIGHT_SELECT_MINIMUM": "4",
    "KONOMI_CONCEPT_STEPS": "3",
}


def konomi(*arguments: str, home: Path) -> dict[str, object]:
    command = [sys.executable, "-c", "from konomi.cli import main; main()", *arguments, "--home", str(home), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | SMALL, timeout=800, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    said: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def artifacts(home: Path, begin: bytes) -> list[bytes]:
    files = (path.read_bytes() for path in (home / "artifacts").rglob("*") if path.is_file())
    return [data for data in files if data.startswith(begin)]


def test_a_night_of_converge_on_a_z_image_makes_a_unit(tmp_path: Path) -> None:
    home, source = tmp_path / "home", tmp_path / "z-image"
    tiny_flows.z_image().save_pretrained(source)
    assert konomi("models", "import", str(source), home=home)["layout"] == "z_image"
    night = konomi("demo", "--units", "1", "--labels", "16", "--images", "12", home=home)
    base, unit = night["units"]  # type: ignore[misc]
    assert (base["unit"], unit["unit"]) == (0, 1) and base["vendi"] != unit["vendi"]
    (bases,) = [row for row in konomi("models", "bases", home=home)["bases"] if row["id"] == "z-image"]  # type: ignore[attr-defined]
    assert bases["layout"] == "Z_IMAGE"
    pictures = [Image.open(io.BytesIO(data)).info for data in artifacts(home, b"\x89PNG")]
    records = [json.loads(info["konomi"]) for info in pictures if "konomi" in info]
    assert {(r["base_model"], r["family"], r["shift"]) for r in records} == {("z-image", "z_image", 6.0)}
    assert all("Model family: z_image, Shift: 6" in info["parameters"] for info in pictures if "konomi" in info)
    drawn = {adapter["digest"] for record in records for adapter in record["adapters"]}
    assert len(drawn) == 1 and any(record["guide_from_base"] for record in records if record["adapters"])
    digest = next(iter(drawn))
    with safe_open(home / "artifacts" / digest[:2] / digest, "pt") as adapter:
        names, header = list(adapter.keys()), json.loads(adapter.metadata()["konomi"])
    assert names and all(name.startswith("transformer.") and ".attention.to_" in name for name in names)
    assert header["base_model"] == "z-image"


def test_a_night_of_concepts_on_a_z_image_teaches_a_word_beside_a_lora(tmp_path: Path) -> None:
    home, source, cats = tmp_path / "home", tmp_path / "z-image", tmp_path / "cats"
    tiny_flows.z_image().save_pretrained(source)
    cats.mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (48, 48, 3), np.uint8)
        Image.fromarray(pixels).save(cats / f"{number}.png")
    konomi("models", "import", str(source), home=home)
    konomi("demo", "--units", "1", "--labels", "16", "--images", "12", home=home)
    taught = ["--concept", f"cat-1=cat:{cats}", "--base", "z-image", "--anyway", "--units", "2", "--images", "12"]
    night = konomi("night", "start", "concepts", *taught, home=home)
    assert night["state"] == "finished" and len(night["units"]) == 3, "the base, and two units"  # type: ignore[arg-type]
    pictures = [Image.open(io.BytesIO(data)).info for data in artifacts(home, b"\x89PNG")]
    records = [json.loads(info["konomi"]) for info in pictures if "konomi" in info]
    called = [record for record in records if "<cat-1>" in record["prompt"]]
    assert called and all(record["adapters"] for record in called)
    for digest in {adapter["digest"] for record in called for adapter in record["adapters"]}:
        with safe_open(home / "artifacts" / digest[:2] / digest, "pt") as adapter:
            names, header = list(adapter.keys()), adapter.metadata()
        assert header["format"] == "konomi.concept_lora/1" and "tokens.<cat-1>" in names
        assert json.loads(header["konomi"])["method"] == "concept_lora"
