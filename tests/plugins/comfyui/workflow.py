"""A workflow as ComfyUI's page saves it, and the prompt that page makes of it for the API."""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
PACK = ROOT / "clients" / "comfyui"
EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))
RECORDED = Path(__file__).with_name("object_info.json")
WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})
STEERED = frozenset({"seed", "noise_seed"})
"""Behind the value of such an input the page saves one more: what happens to it after each run."""


def shape(info: dict[str, Any]) -> dict[str, Any]:
    """Returns what a workflow depends on of a node's /object_info: its inputs in order, and its outputs."""
    inputs = {
        name: "COMBO" if isinstance(kind[0], list) else kind[0]
        for group in ("required", "optional")
        for name, kind in info["input"].get(group, {}).items()
    }
    return {"inputs": inputs, "output": info["output"], "output_is_list": info["output_is_list"]}


def read(path: Path) -> dict[str, Any]:
    """Returns a saved workflow."""
    workflow: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return workflow


def prompt_of(workflow: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Returns the prompt of a workflow.

    Args:
        workflow: as the page saves it.
        nodes: node type → its shape.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        wired = {one["name"]: sources[one["link"]] for one in node["inputs"] if one["link"] is not None}
        values = list(node["widgets_values"])
        inputs = {}
        for name, kind in nodes[node["type"]]["inputs"].items():
            if name in wired:
                inputs[name] = wired[name]
            elif kind in WIDGETS:
                inputs[name] = values.pop(0)
                if name in STEERED:
                    values.pop(0)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
