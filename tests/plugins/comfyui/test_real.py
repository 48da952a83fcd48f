"""The pack inside a real ComfyUI on the CPU; runs where KONOMI_COMFYUI names a folder of one.

The folder is only read: nodes, models, inputs and outputs lie in a folder of the test. ComfyUI runs with the Python of
its own `venv` or `.venv`, else with the one of the tests, which then needs what ComfyUI needs.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from konomi.client import Client, connect_home
from konomi.home import Home
from konomi.night.gateway.manifests import Item, freeze
from konomi.v1 import rater_pb2 as rater
from konomi.v1 import trainer_pb2 as trainer
from tests.client.web.site import TASTE, picture
from tests.plugins.comfyui.workflow import EXAMPLES, PACK, RECORDED, prompt_of, read, shape

COMFYUI, RECORD = os.environ.get("KONOMI_COMFYUI", ""), "KONOMI_RECORD" in os.environ
pytestmark = [
    pytest.mark.chaos,
    pytest.mark.skipif(not COMFYUI, reason="KONOMI_COMFYUI names no folder of a ComfyUI"),
]
SECONDS = 300
TOY = '''
"""A model of ComfyUI's own classes, with the layers of konomi's bundled base model."""
import torch
from comfy import lora, model_management, model_patcher, supported_models

UNET = dict(
    image_size=8, in_channels=16, out_channels=16, model_channels=32, num_res_blocks=[1, 1], channel_mult=[2, 3],
    transformer_depth=[1, 1], transformer_depth_output=[1, 1, 1, 1], transformer_depth_middle=1, context_dim=128,
    num_heads=4, num_head_channels=-1, use_linear_in_transformer=False, use_spatial_transformer=True,
    legacy=False, adm_in_channels=None, use_temporal_attention=False,
)

class ToyModel:
    CATEGORY, FUNCTION, RETURN_TYPES = "test", "run", ("MODEL",)
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}
    def run(self):
        torch.manual_seed(0)
        config = supported_models.SD15(dict(UNET))
        config.unet_config["dtype"] = torch.float32
        config.set_inference_dtype(torch.float32, torch.float32)
        model = config.get_model({}, "", "cpu")
        cpu = torch.device("cpu")
        return (model_patcher.ModelPatcher(model, cpu, cpu),)

class ToyChange:
    CATEGORY, FUNCTION, RETURN_TYPES, OUTPUT_NODE = "test", "run", (), True
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "unit": ("STRING", {"forceInput": True})}}
    def run(self, model, unit):
        weights = model.model.state_dict()
        changes = [
            (lora.calculate_weight(patches, weights[key].clone(), key) - weights[key]).norm().item()
            for key, patches in model.patches.items()
        ]
        return {"ui": {"layers": [len(changes)], "smallest": [min(changes)], "unit": [unit]}}

NODE_CLASS_MAPPINGS = {"ToyModel": ToyModel, "ToyChange": ToyChange}
'''


class ComfyUI:
    """A running ComfyUI, by its HTTP API."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def ask(self, path: str, body: object = None) -> Any:
        """Returns the JSON of an answer, of a refusal too."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            return json.load(error)

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        """Queues a prompt, waits for its end and returns its history."""
        said = self.ask("/prompt", {"prompt": prompt})
        assert "prompt_id" in said, said
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            history = self.ask(f"/history/{said['prompt_id']}")
            if history:
                done: dict[str, Any] = history[said["prompt_id"]]
                return done
            time.sleep(0.2)
        raise AssertionError("it did not end")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, str]]:
    """`konomi up` on a home whose taste has a rater and serves a unit; the home, and the page's address."""
    home = Home(tmp_path_factory.mktemp("comfyui") / "home")
    ports = [f"--port-{role}=0" for role in ("rater", "generator", "trainer", "page")]
    command = [sys.executable, "-m", "konomi", "up", "--json", "--home", str(home.root), *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            page = json.loads(process.stdout.readline())["page"].partition("/#")[0]
            with connect_home(home.root) as client:
                _teach(client)
            yield home, page
        finally:
            process.terminate()


def _teach(client: Client) -> None:
    client.rater.ensure_taste("default")
    digests = [client.artifacts.put(picture(seed), "image/png").digest for seed in range(40)]
    images = [rater.Image(digest=digest, source=rater.SOURCE_SELF, prompt="a picture") for digest in digests]
    list(client.rater.add_images(rater.AddImagesRequest(taste=TASTE, image=image) for image in images))
    labels = [
        rater.Label(
            image_digest=digest, grade=rater.Grade.ValueType(1 + place % 5), reason=rater.SUGGESTION_REASON_RANDOM
        )
        for place, digest in enumerate(digests)
    ]
    client.rater.record_labels(taste=TASTE, labels=labels)
    for _ in client.rater.fit_rater(taste=TASTE):
        continue
    run = client.trainer.create_training_run(
        taste=TASTE,
        manifest_digest=freeze(client, [Item(digest, "a picture") for digest in digests[:4]]),
        method=trainer.TRAINING_METHOD_LORA,
        hyper_parameters=trainer.HyperParameters(steps=2, batch_size=2, rank=2),
        seed=1,
        display_name="unit-1",
        request_id=str(uuid.uuid4()),
    )
    for state in client.trainer.watch_training_run(name=run.name):
        run = state
    client.trainer.promote_model(name=run.model, request_id=str(uuid.uuid4()))


@pytest.fixture(scope="module")
def comfyui(home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    """ComfyUI with the pack and a toy model among its nodes."""
    base = tmp_path_factory.mktemp("base")
    shutil.copytree(PACK, base / "custom_nodes" / "konomi")
    (base / "custom_nodes" / "toy.py").write_text(TOY)
    (base / "input").mkdir()
    (base / "input" / "example.png").write_bytes(picture(77))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(COMFYUI)
    pythons = [folder / name / "bin" / "python" for name in ("venv", ".venv")]
    python = next((path for path in pythons if path.exists()), Path(sys.executable))
    command = [str(python), "main.py", "--cpu", "--disable-api-nodes", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--base-directory", str(base), "--database-url", "sqlite:///:memory:"]
    environment = os.environ | {"KONOMI_HOME": str(home[0].root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("KONOMI_TOKEN", None)
    log = base / "comfyui.log"
    with (
        log.open("w") as out,
        subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=out) as process,
    ):
        try:
            running = ComfyUI(port)
            deadline = time.monotonic() + SECONDS
            while True:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
                try:
                    running.ask("/queue")
                    break
                except (urllib.error.URLError, OSError):
                    time.sleep(0.3)
            yield running
        finally:
            process.kill()


@pytest.fixture
def shapes(comfyui: ComfyUI) -> dict[str, Any]:
    """What /object_info says of the nodes that the recorded shapes are of; KONOMI_RECORD writes them anew."""
    types = sorted({node["type"] for path in EXAMPLES for node in read(path)["nodes"]})
    said = {name: shape(comfyui.ask(f"/object_info/{name}")[name]) for name in types}
    if RECORD:
        version = comfyui.ask("/system_stats")["system"]["comfyui_version"]
        recorded = {"comfyui": version, "nodes": said}
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n", "utf-8")
    return said


def test_it_says_what_was_recorded(shapes):
    assert shapes == json.loads(RECORDED.read_text("utf-8"))["nodes"]


def test_the_page_offers_nodes_words_and_examples(comfyui):
    assert comfyui.ask("/i18n")["ja"]["nodeDefs"]["KonomiScore"]["display_name"].startswith("konomi: ")
    assert set(comfyui.ask("/workflow_templates")["konomi"]) == {path.stem for path in EXAMPLES}


def test_pictures_are_scored_split_and_sent(comfyui, home, shapes):
    (path,) = (path for path in EXAMPLES if "split" in path.name)
    prompt = _of(path, shapes, home[1])
    done = comfyui.run(prompt)
    assert done["status"]["status_str"] == "success", done["status"]
    said = {prompt[node]["class_type"]: output for node, output in done["outputs"].items()}
    assert "40 pictures, 40 grades" in said["KonomiConnection"]["text"][0]
    (score,) = json.loads(said["PreviewAny"]["text"][0])
    liked = score["grade"] in ("SR", "SSR", "UR")
    assert ("SaveImage" in said) is liked, "the branch with nothing in it does not run"
    assert ("KonomiSend" in said) is not liked
    with connect_home(home[0].root) as client:
        assert client.rater.get_taste(name=TASTE).image_count == (40 if liked else 41)


def test_both_branches_run_or_are_passed_over(comfyui, home, shapes):
    """Every grade is at least N: what hangs on the other output is passed over, and nothing fails."""
    (path,) = (path for path in EXAMPLES if "split" in path.name)
    prompt = _of(path, shapes, home[1])
    (split,) = (node for node in prompt.values() if node["class_type"] == "KonomiBucket")
    split["inputs"]["grade"] = "N"
    done = comfyui.run(prompt)
    assert done["status"]["status_str"] == "success"
    said = {prompt[node]["class_type"] for node in done["outputs"]}
    assert "SaveImage" in said and "KonomiSend" not in said


def test_the_served_unit_changes_the_layers_it_was_trained_on(comfyui, home):
    rater = {"address": home[1], "taste": "default"}
    done = comfyui.run(
        {
            "1": {"class_type": "ToyModel", "inputs": {}},
            "2": {"class_type": "KonomiServedUnit", "inputs": {"model": ["1", 0], "strength": 0.8, **rater}},
            "3": {"class_type": "ToyChange", "inputs": {"model": ["2", 0], "unit": ["2", 2]}},
        }
    )
    assert done["status"]["status_str"] == "success", done["status"]
    said = done["outputs"]["3"]
    assert said["unit"] == ["unit-1"]
    assert said["layers"][0] > 0 and said["smallest"][0] > 0


def test_the_drawing_example_lacks_nothing_but_a_checkpoint(comfyui, home, shapes):
    (path,) = (path for path in EXAMPLES if "best" in path.name)
    said = comfyui.ask("/prompt", {"prompt": _of(path, shapes, home[1])})
    wrong = [error for node in said["node_errors"].values() for error in node["errors"]]
    assert [(error["type"], error["extra_info"]["input_name"]) for error in wrong] == [
        ("value_not_in_list", "ckpt_name")
    ]


def test_what_goes_wrong_stands_in_the_history(comfyui, home, shapes):
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "example.png"}},
        "2": {
            "class_type": "KonomiScore",
            "inputs": {"images": ["1", 0], "address": "http://192.0.2.1:50050", "taste": "default"},
        },
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 3]}},
    }
    done = comfyui.run(prompt)
    (error,) = (about for kind, about in done["status"]["messages"] if kind == "execution_error")
    assert error["node_type"] == "KonomiScore" and "put it into KONOMI_PAGE" in error["exception_message"]


def _of(path: Path, shapes: dict[str, Any], page: str) -> dict[str, Any]:
    prompt = prompt_of(read(path), shapes)
    for node in prompt.values():
        if "address" in node["inputs"]:
            node["inputs"]["address"] = page
    return prompt
