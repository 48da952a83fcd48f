"""Renders the Helm chart without Helm, as far as its templates go: values, quote, toYaml with nindent, and plain ifs.

Whatever else a template held would be refused here; where the helm command is found, a test holds both equal.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.contract.source_tree import ROOT

CHART = ROOT / "deploy" / "helm" / "konomi"
RELEASE, NAMESPACE = "mine", "studio"
ACTION = re.compile(r"\{\{(-?) (.+?) (-?)\}\}")
EXPRESSION = re.compile(r"(toYaml )?(\.[A-Za-z.]+)((?: \| (?:quote|nindent \d+))*)")


def values(**changed: Any) -> dict[str, Any]:
    """Returns the chart's values with some changed, each by its path: scores__enabled=True."""
    found = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    for path, value in changed.items():
        *above, last = path.split("__")
        table = found
        for name in above:
            table = table[name]
        assert last in table, f"the values have no {path}"
        table[last] = value
    return found


def objects(given: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns every object of the chart."""
    found = []
    for path in sorted((CHART / "templates").glob("*.yaml")):
        found += [made for made in yaml.safe_load_all(rendered(path.read_text("utf-8"), given)) if made]
    return found


def rendered(template: str, given: dict[str, Any]) -> str:
    """Returns a template filled in. Raises ValueError for what Helm knows and this does not."""
    scope = {"Values": given, "Release": {"Name": RELEASE, "Namespace": NAMESPACE}}
    out, at, open_ifs = [], 0, []
    for action in ACTION.finditer(template):
        before = template[at : action.start()]
        out.append((before.rstrip() if action[1] else before) if all(open_ifs) else "")
        words, at = action[2], action.end()
        if words.startswith("if "):
            negated = words.startswith("if not ")
            open_ifs.append(bool(_value(words.split()[-1], scope)) != negated)
        elif words == "end":
            open_ifs.pop()
        elif all(open_ifs):
            out.append(_expression(words, scope))
    if open_ifs:
        raise ValueError("an if has no end")
    return "".join([*out, template[at:]])


def _expression(words: str, scope: dict[str, Any]) -> str:
    parts = EXPRESSION.fullmatch(words)
    if parts is None:
        raise ValueError(f"{words!r} is more than this renders")
    value = _value(parts[2], scope)
    text = yaml.safe_dump(value, default_flow_style=None).rstrip() if parts[1] else str(value)
    for step in parts[3].split(" | ")[1:]:
        if step == "quote":
            text = json.dumps(text)
        else:
            pad = " " * int(step.removeprefix("nindent "))
            text = "\n" + "\n".join(pad + line for line in text.splitlines())
    return text


def _value(path: str, scope: dict[str, Any]) -> Any:
    found: Any = scope
    for name in path.strip(".").split("."):
        if name not in found:
            raise ValueError(f"{path} is in no values")
        found = found[name]
    return found


def files() -> list[Path]:
    """Returns every file of the chart."""
    return [path for path in CHART.rglob("*") if path.is_file()]
