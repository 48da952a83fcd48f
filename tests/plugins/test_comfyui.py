"""The ComfyUI nodes against a live rater, through ComfyUI's node interfaces as its documentation describes them."""

import ast
import asyncio
import importlib.util
import json
import sys
import types
from pathlib import Path

import pytest
import torch

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from tests.client.web.site import TASTE

FOLDER = Path(__file__).parents[2] / "clients" / "comfyui"
PLUGINS = (FOLDER, FOLDER.parent / "a1111")


class Kind:
    """An input or output type of the V3 interface: remembers how it was declared."""

    def __init__(self, id="", **about):
        self.id, self.about = id, about


def kinds():
    """Returns the part of `comfy_api.latest` the nodes use."""
    io = types.SimpleNamespace(ComfyNode=object)
    for name in ("Image", "Float", "String", "Int", "Combo"):
        setattr(io, name, types.SimpleNamespace(Input=type("Input", (Kind,), {}), Output=type("Output", (Kind,), {})))

    def schema(node_id, display_name, category, inputs, outputs, description):
        return types.SimpleNamespace(node_id=node_id, inputs=inputs, outputs=outputs, category=category)

    io.Schema, io.NodeOutput = schema, lambda *values: values
    return types.SimpleNamespace(ComfyExtension=object, io=io)


@pytest.fixture
def comfy(monkeypatch):
    """The plug-in as ComfyUI loads it: a package by its folder, with `comfy_api` at hand."""
    latest = kinds()
    monkeypatch.setitem(sys.modules, "comfy_api", types.SimpleNamespace(latest=latest))
    monkeypatch.setitem(sys.modules, "comfy_api.latest", latest)
    spec = importlib.util.spec_from_file_location(
        "konomi_nodes", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "konomi_nodes", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def batch():
    """Six pictures as ComfyUI hands them on: (B, H, W, 3), 0..1."""
    return torch.rand((6, 48, 64, 3), generator=torch.Generator().manual_seed(3))


def expected(site, comfy, images):
    """Returns what the rater itself says of the same pictures over gRPC."""
    encoded = sys.modules["konomi_nodes.nodes"].encoded(images)
    with connect_home(site.home.root) as client:
        inputs = [rater.ImageInput(content=data) for data in encoded]
        return [result.score for result in client.rater.score_images(taste=TASTE, images=inputs).results]


def test_score_says_what_the_rater_says(site, token, comfy, batch):
    node = comfy.NODE_CLASS_MAPPINGS["KonomiScore"]()
    images, utilities, grades, words = node.run(batch, site.address)
    said = expected(site, comfy, batch)
    assert images is batch
    assert utilities == pytest.approx([one.utility for one in said], abs=1e-6)
    assert len(grades) == 6 and set(grades) <= {"N", "R", "SR", "SSR", "UR"}
    assert json.loads(words)[0]["rater_version"] == said[0].rater_version


def test_sort_keeps_the_best_by_lower_bound(site, token, comfy, batch):
    images, utilities, grades = comfy.NODE_CLASS_MAPPINGS["KonomiSort"]().run(batch, 2, site.address)
    said = expected(site, comfy, batch)
    best = sorted(range(6), key=lambda place: -said[place].lower_bound)[:2]
    assert torch.equal(images, batch[best])
    assert utilities == pytest.approx([said[place].utility for place in best], abs=1e-6)
    assert len(grades) == 2
    everything, _, _ = comfy.NODE_CLASS_MAPPINGS["KonomiSort"]().run(batch, 0, site.address)
    assert len(everything) == 6


def test_bucket_splits_without_losing_any(site, token, comfy, batch):
    node = comfy.NODE_CLASS_MAPPINGS["KonomiBucket"]()
    _, _, grades, _ = comfy.NODE_CLASS_MAPPINGS["KonomiScore"]().run(batch, site.address)
    good, rest, many, few = node.run(batch, "SR", site.address)
    assert (len(good), len(rest)) == (many, few)
    assert many + few == 6
    assert many == sum(grade in ("SR", "SSR", "UR") for grade in grades)


def test_the_v3_interface_offers_the_same_nodes(site, token, comfy, batch):
    extension = asyncio.run(comfy.comfy_entrypoint())
    nodes = asyncio.run(extension.get_node_list())
    schemas = {node.define_schema().node_id: node for node in nodes}
    assert set(schemas) == set(comfy.NODE_CLASS_MAPPINGS)
    for name, node in schemas.items():
        asked = [one.id for one in node.define_schema().inputs]
        classic = comfy.NODE_CLASS_MAPPINGS[name].INPUT_TYPES()
        assert asked == [*classic["required"], *classic["optional"]]
        assert len(node.define_schema().outputs) == len(comfy.NODE_CLASS_MAPPINGS[name].RETURN_TYPES)
    _, utilities, _, _ = schemas["KonomiScore"].execute(images=batch, address=site.address, taste="default")
    assert len(utilities) == 6


@pytest.mark.parametrize(
    "tail", ["/", "/#ticket=abc.def-1", "/#ticket=abc&view=rate&taste=default", "/konomi?x=1", "  "]
)
def test_the_address_is_taken_as_konomi_up_prints_it(site, token, comfy, batch, tail):
    node = comfy.NODE_CLASS_MAPPINGS["KonomiScore"]()
    assert node.run(batch, site.address + tail, "default")[1] == node.run(batch, site.address, "default")[1]


@pytest.mark.parametrize(
    ("address", "token", "words"),
    [
        ("http://127.0.0.1:9", "", "start `konomi up`"),
        ("file:///etc/passwd", "", "expected an address"),
        (None, "wrong", "konomi refused"),
    ],
)
def test_what_goes_wrong_says_what_to_do(site, comfy, batch, address, token, words, monkeypatch):
    monkeypatch.setenv("KONOMI_HOME", str(site.home.root))
    monkeypatch.setenv("KONOMI_TOKEN", token)
    with pytest.raises(sys.modules["konomi_nodes.konomi_http"].KonomiRefused, match=words):
        comfy.NODE_CLASS_MAPPINGS["KonomiScore"]().run(batch, address or site.address, "default")


def test_plug_ins_need_nothing_but_the_standard_library_and_their_host():
    hosts = {"comfy_api", "modules", "konomi_http"}
    for file in (path for folder in PLUGINS for path in folder.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for name in names:
                assert name.split(".")[0] in sys.stdlib_module_names | hosts, f"{file.name} imports {name}"


def test_no_secret_is_a_nodes_input(comfy):
    """ComfyUI writes every input of a node into the workflow, and the workflow into every image it saves."""
    for node in comfy.NODE_CLASS_MAPPINGS.values():
        inputs = {name for kind in node.INPUT_TYPES().values() for name in kind}
        assert inputs <= {"images", "address", "taste", "keep", "grade"}


def test_both_plug_ins_carry_the_same_client():
    copies = {path.read_bytes() for folder in PLUGINS for path in folder.rglob("konomi_http.py")}
    assert len(copies) == 1
