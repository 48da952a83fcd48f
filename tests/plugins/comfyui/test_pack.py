"""What ComfyUI's page and its registry read of the pack: examples, words, the description.

They are held against what a real ComfyUI said of its nodes, which test_real.py records.
"""

import importlib.util
import json
import sys
import tomllib
from typing import Any

import pytest

from tests.plugins.comfyui.workflow import EXAMPLES, PACK, RECORDED, ROOT, WIDGETS, prompt_of, read

SHAPES = json.loads(RECORDED.read_text("utf-8"))["nodes"]


@pytest.fixture(scope="module")
def nodes() -> dict[str, Any]:
    """The pack's node classes, loaded without a ComfyUI."""
    spec = importlib.util.spec_from_file_location(
        "konomi_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["konomi_pack"] = module
    try:
        spec.loader.exec_module(module)
    finally:
        for name in [name for name in sys.modules if name.startswith("konomi_pack")]:
            del sys.modules[name]
    found: dict[str, Any] = module.NODE_CLASS_MAPPINGS
    return found


def inputs_of(node: Any) -> dict[str, str]:
    """Returns a node's inputs in order, as /object_info says them."""
    groups = node.INPUT_TYPES()
    return {
        name: "COMBO" if isinstance(kind[0], list) else kind[0]
        for group in ("required", "optional")
        for name, kind in groups.get(group, {}).items()
    }


def test_the_nodes_are_those_that_were_recorded(nodes):
    for name, node in nodes.items():
        lists = getattr(node, "OUTPUT_IS_LIST", (False,) * len(node.RETURN_TYPES))
        said = {"inputs": inputs_of(node), "output": list(node.RETURN_TYPES), "output_is_list": list(lists)}
        assert SHAPES[name] == said, f"{name} changed: record it with a real ComfyUI (KONOMI_RECORD)"
        assert len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_TYPES)
        assert node.DESCRIPTION


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_the_nodes(path):
    workflow = read(path)
    by_id = {node["id"]: node for node in workflow["nodes"]}
    for number, source, slot, target, place, kind in workflow["links"]:
        given = SHAPES[by_id[source]["type"]]["output"][slot]
        wire = by_id[target]["inputs"][place]
        assert wire["link"] == number and number in by_id[source]["outputs"][slot]["links"]
        assert kind == given and wire["type"] in (given, "*")
        assert SHAPES[by_id[target]["type"]]["inputs"][wire["name"]] in (given, "*")
    for node in prompt_of(workflow, SHAPES).values():
        shape = SHAPES[node["class_type"]]
        assert set(node["inputs"]) | {"clip", "prompt"} >= set(shape["inputs"])
        for name, value in node["inputs"].items():
            if not isinstance(value, list):
                kinds = {"INT": int, "FLOAT": (int, float), "STRING": str, "COMBO": str}
                assert shape["inputs"][name] in WIDGETS and isinstance(value, kinds[shape["inputs"][name]])


def test_no_example_names_a_machine_or_holds_a_secret():
    for path in EXAMPLES:
        text = path.read_text("utf-8")
        assert "konomi_" not in text.replace('"konomi_best"', "").replace('"konomi_liked"', "")
        assert text.count("http") == text.count('"http://127.0.0.1:50050"')


def test_every_node_has_its_words_in_japanese(nodes):
    words = json.loads((PACK / "locales" / "ja" / "nodeDefs.json").read_text("utf-8"))
    assert set(words) == set(nodes)
    for name, node in nodes.items():
        said = words[name]
        assert said["display_name"].startswith("konomi: ") and said["description"]
        assert list(said["inputs"]) == list(inputs_of(node))
        assert list(said["outputs"]) == [str(place) for place in range(len(node.RETURN_TYPES))]
        options = {
            key: kind[1] if len(kind) > 1 else {}
            for group in node.INPUT_TYPES().values()
            for key, kind in group.items()
        }
        for key, about in options.items():
            assert ("tooltip" in about) == ("tooltip" in said["inputs"][key]), f"{name}.{key}"
        assert all(one["name"] and one["tooltip"] for one in said["outputs"].values())


def test_the_registry_reads_what_it_needs():
    about = tomllib.loads((PACK / "pyproject.toml").read_text("utf-8"))
    konomi = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert about["project"]["name"] == "konomi" and about["project"]["version"] == konomi["version"]
    assert about["project"]["dependencies"] == []
    assert about["project"]["license"] == {"file": "LICENSE"} and konomi["license"] == "Apache-2.0"
    assert set(about["tool"]["comfy"]) >= {"PublisherId", "DisplayName"}
