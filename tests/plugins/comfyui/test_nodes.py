"""The ComfyUI nodes against a live rater, called as ComfyUI calls them; test_real.py has the real one."""

import ast
import importlib.util
import json
import re
import sys
import types

import pytest
import torch

from konomi.client import connect_home
from konomi.v1 import rater_pb2 as rater
from konomi_chassis.auth.tokens import issue_token
from tests.client.web.site import TASTE
from tests.plugins.comfyui.workflow import PACK

PLUGINS = (PACK, PACK.parent / "a1111")


class Blocked:
    """Stands for ComfyUI's ExecutionBlocker: what hangs on such an output does not run."""

    def __init__(self, message):
        self.message = message


@pytest.fixture
def comfy(monkeypatch):
    """The pack as ComfyUI loads it: a package by its folder, with what it asks ComfyUI for at hand."""
    graph = types.SimpleNamespace(ExecutionBlocker=Blocked)
    monkeypatch.setitem(sys.modules, "comfy_execution", types.SimpleNamespace(graph=graph))
    monkeypatch.setitem(sys.modules, "comfy_execution.graph", graph)
    for name in [name for name in sys.modules if name.startswith("konomi_nodes")]:
        monkeypatch.delitem(sys.modules, name)
    spec = importlib.util.spec_from_file_location(
        "konomi_nodes", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "konomi_nodes", module)
    spec.loader.exec_module(module)
    yield module
    for name in [name for name in sys.modules if name.startswith("konomi_nodes.")]:
        del sys.modules[name]


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
    assert (many or 6, few or 6) == tuple(6 if isinstance(part, Blocked) else len(part) for part in (good, rest))
    assert many + few == 6
    assert many == sum(grade in ("SR", "SSR", "UR") for grade in grades)


def test_an_empty_part_stops_what_hangs_on_it(site, token, comfy, batch):
    """ComfyUI's own nodes fail on a batch of no images."""
    good, rest, many, few = comfy.NODE_CLASS_MAPPINGS["KonomiBucket"]().run(batch, "N", site.address)
    assert (many, few) == (6, 0) and len(good) == 6
    assert isinstance(rest, Blocked) and rest.message is None


def test_the_connection_says_who_answers(site, token, comfy):
    said = comfy.NODE_CLASS_MAPPINGS["KonomiConnection"]().run(site.address)
    (report,) = said["result"]
    assert said["ui"] == {"text": [report]}
    assert re.fullmatch(
        r"konomi answers; the taste default has \d+ pictures, 40 grades and 0 comparisons. Rater 1 scores.", report
    )


def test_what_was_scored_is_scored_again_after_a_fit(site, token, comfy):
    """ComfyUI runs a node again where IS_CHANGED returns something else."""
    for name in ("KonomiScore", "KonomiSort", "KonomiBucket"):
        node = comfy.NODE_CLASS_MAPPINGS[name]
        said = node.IS_CHANGED(images=None, address=site.address, taste="default")
        assert said == "tastes/default/raterVersions/1"
    never_the_same = comfy.NODE_CLASS_MAPPINGS["KonomiConnection"].IS_CHANGED(address="", taste="")
    assert never_the_same != never_the_same


def test_images_are_sent_to_be_graded(site, token, comfy, batch):
    node = comfy.NODE_CLASS_MAPPINGS["KonomiSend"]()
    with connect_home(site.home.root) as client:
        before = client.rater.get_taste(name=TASTE).image_count
        said = node.run(batch[:2], "a cat, drawn", site.address)
        again = node.run(batch[:2], "a cat, drawn", site.address)
        images = client.rater.list_images(taste=TASTE, page_size=1000).images
    assert said["result"][0] is not None and len(said["result"][0]) == 2
    assert said["result"][1].startswith("2 new in the library of default, 0 known already")
    assert again["result"][1].startswith("0 new in the library of default, 2 known already")
    sent = [image for image in images if image.path.startswith("ComfyUI/")]
    assert len(images) == before + 2 and len(sent) == 2
    assert {(image.prompt, image.source) for image in sent} == {("a cat, drawn", rater.SOURCE_IMPORTED)}


def test_a_tool_may_score_and_not_send(site, comfy, batch, monkeypatch):
    tool = issue_token(site.home.root, principal="comfyui", scope="tool", taste="default")
    monkeypatch.setenv("KONOMI_TOKEN", tool)
    comfy.NODE_CLASS_MAPPINGS["KonomiScore"]().run(batch, site.address)
    with pytest.raises(RuntimeError, match=r"Your token may not do this\. It takes the owner's token"):
        comfy.NODE_CLASS_MAPPINGS["KonomiSend"]().run(batch, "", site.address)


def test_a_workflow_of_a_stranger_gets_no_token(comfy, batch, monkeypatch):
    """An address stands in the workflow, and workflows come from anybody."""
    nodes = sys.modules["konomi_nodes.nodes"]
    monkeypatch.setenv("KONOMI_TOKEN", "anything")
    for address in ("http://192.0.2.1:50050", "http://127.example.org", "https://localhost.example.org:50050"):
        for node in ("KonomiScore", "KonomiSend", "KonomiSort", "KonomiBucket"):
            with pytest.raises(RuntimeError, match="put it into KONOMI_PAGE"):
                comfy.NODE_CLASS_MAPPINGS[node]().run(batch, address=address)
    monkeypatch.setenv("KONOMI_PAGE", "https://192.0.2.1:50050/")
    assert nodes.trusted("https://192.0.2.1:50050") == "https://192.0.2.1:50050"
    assert nodes.trusted("") == "https://192.0.2.1:50050/"
    for here in ("http://127.0.0.1:50050", "http://localhost:1", "http://[::1]:50050", "http://127.1.2.3:4"):
        assert nodes.trusted(here) == here


def test_a_token_lies_in_a_file_of_its_owner_alone(site, comfy, batch, monkeypatch, tmp_path):
    file = tmp_path / "token"
    monkeypatch.setenv("KONOMI_TOKEN_FILE", str(file))
    score = comfy.NODE_CLASS_MAPPINGS["KonomiScore"]().run
    with pytest.raises(RuntimeError, match="which cannot be read"):
        score(batch, site.address)
    file.write_text(site.home.token_file.read_text())
    file.chmod(0o644)
    with pytest.raises(RuntimeError, match="run: chmod 600"):
        score(batch, site.address)
    file.chmod(0o600)
    assert len(score(batch, site.address)[1]) == 6


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
        (None, "wrong", "konomi refused: This token is not known here."),
    ],
)
def test_what_goes_wrong_says_what_to_do(site, comfy, batch, address, token, words, monkeypatch):
    monkeypatch.setenv("KONOMI_HOME", str(site.home.root))
    monkeypatch.setenv("KONOMI_TOKEN", token)
    with pytest.raises(sys.modules["konomi_nodes.konomi_http"].KonomiRefused, match=words):
        comfy.NODE_CLASS_MAPPINGS["KonomiScore"]().run(batch, address or site.address, "default")


def test_plug_ins_need_nothing_but_the_standard_library_and_their_host():
    hosts = {"comfy", "comfy_execution", "safetensors", "modules", "konomi_http"}
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
        assert inputs <= {"images", "address", "taste", "keep", "grade", "prompt", "model", "clip", "strength"}


def test_both_plug_ins_carry_the_same_client():
    copies = {path.read_bytes() for folder in PLUGINS for path in folder.rglob("konomi_http.py")}
    assert len(copies) == 1
