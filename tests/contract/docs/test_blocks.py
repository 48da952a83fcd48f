"""Every code block of the docs: its shell parses, its TOML is taken by the settings, its Python names what is there."""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import konomi
from konomi.client.calls import snake
from konomi.client.services import ArtifactClient, GeneratorClient, RaterClient, TrainerClient
from konomi.errors import FailedPrecondition
from konomi.settings import KonomiSettings
from tests.contract.docs.test_guides import problem
from tests.contract.source_tree import ROOT, committed_files

BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
CLIENTS = {"rater": RaterClient, "generator": GeneratorClient, "trainer": TrainerClient, "artifacts": ArtifactClient}
PAGES = [path for path in committed_files() if path.suffix == ".md" and "benchmarks" not in path.parts]


@functools.cache
def tables() -> dict[str, type[KonomiSettings]]:
    """Table of konomi.toml → the class that reads it, found as the reference finds them."""
    sys.path.insert(0, str(ROOT / ".ci" / "reference"))
    try:
        return importlib.import_module("settings_page").classes(ROOT)
    finally:
        sys.path.pop(0)


def blocks(*languages: str) -> list[tuple[str, str]]:
    """Where each block of a language stands, and its text, out of the indent of a list."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in BLOCK.finditer(text):
            if block[2] in languages:
                line = text.count("\n", 0, block.start()) + 1
                body = "".join(row.removeprefix(block[1]) for row in block[3].splitlines(keepends=True))
                found.append((f"{page.relative_to(ROOT)}:{line}", body))
    return found


def each(*languages: str):
    found = blocks(*languages)
    return pytest.mark.parametrize(("place", "text"), found, ids=[place for place, _ in found])


def test_every_block_says_what_it_is_and_is_looked_at():
    known = {"", "sh", "bash", "toml", "json", "yaml", "python", "text", "dockerfile"}
    assert {block[2] for page in PAGES for block in BLOCK.finditer(page.read_text("utf-8"))} <= known
    assert len(blocks("sh", "bash")) > 80 and len(blocks("toml")) > 10 and len(blocks("python")) > 20


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_shell_parses(shell):
    """One shell reads them all: each is a function that is never called."""
    found = blocks(shell)
    script = "".join(f"block_{number}() {{\n:\n{text}\n}}\n" for number, (_, text) in enumerate(found))
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=60)
    if done.returncode:
        alone = [place for place, text in found if subprocess.run(["bash", "-n"], input=text, text=True).returncode]
        raise AssertionError(f"{alone}\n{done.stderr}")


@pytest.mark.slow
@each("sh", "bash", "text")
def test_konomi_is_told_commands_it_has(place, text):
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    bare = [re.sub(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*|(\s|^)#\s.*$", "", line).rstrip() for line in lines]
    told = [line for line in bare if line.startswith(("konomi ", "python -m konomi_chassis "))]
    assert [found for line in told if (found := problem(line))] == []


def refused(text: str, home: Path) -> str:
    """What the settings say of a konomi.toml; empty where they take it."""
    (home / "konomi.toml").write_text(text, "utf-8")
    for name in tomllib.loads(text):
        if name not in tables():
            return f"no setting has a table [{name}]"
        try:
            tables()[name](home=home)
        except (ValueError, FailedPrecondition) as error:
            return str(error)
    return ""


@each("toml")
def test_toml_is_taken_by_the_settings(place, text, tmp_path):
    assert refused(text, tmp_path) == ""


def test_toml_that_is_none_of_konomis_is_noticed(tmp_path):
    assert "no setting has a table" in refused("[pages]\nport = 1\n", tmp_path)
    assert "page_prot" in refused("[page]\npage_prot = 1\n", tmp_path)
    assert "page_port" in refused('[page]\npage_port = "high"\n', tmp_path)


def test_json_and_yaml_parse():
    for place, text in blocks("json", "yaml"):
        assert yaml.safe_load(text) is not None, place
    for _, text in blocks("json"):
        json.loads(text)


def unknown(text: str) -> list[str]:
    """Which of konomi's names a block of Python uses and konomi does not have."""
    tree = ast.parse(text)
    held: dict[str, object] = {"konomi": konomi}
    wrong = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            held |= {
                (one.asname or one.name): importlib.import_module(one.name) for one in node.names if ours(one.name)
            }
        elif isinstance(node, ast.ImportFrom) and ours(node.module or ""):
            module = importlib.import_module(node.module or "")
            for one in node.names:
                if not hasattr(module, one.name):
                    wrong.append(f"{node.module}.{one.name}")
                held[one.asname or one.name] = getattr(module, one.name, None)
    for node in ast.walk(tree):
        name = dotted(node)
        head, *rest = name.split(".")
        if head in ("client", "connect()") and rest:
            wrong += [name] if not known_to_client(rest) else []
        elif head in held and rest and not resolves(held[head], rest):
            wrong.append(name)
    return sorted(set(wrong))


def ours(module: str) -> bool:
    return module.partition(".")[0].startswith("konomi")


def dotted(node: ast.AST) -> str:
    """The names of an attribute from the left: "konomi.connect"; what `konomi.connect(…)` returns is "connect()"."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Call) and dotted(node.func) == "konomi.connect":
        return ".".join(["connect()", *reversed(parts)])
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) and parts else ""


def resolves(held: object, names: list[str]) -> bool:
    for name in names:
        if not hasattr(held, name):
            return False
        held = getattr(held, name)
        if not isinstance(held, type(konomi)):
            return True  # what a class or function has inside is its own tests' business
    return True


def known_to_client(names: list[str]) -> bool:
    service, *rest = names
    if service not in CLIENTS:
        return hasattr(konomi.Client, service)
    kind = CLIENTS[service]
    rpcs = {snake(method.name) for method in kind.descriptor.methods}
    return not rest or rest[0] in rpcs or hasattr(kind, rest[0])


@each("python")
def test_python_names_what_is_there(place, text):
    compile(text, place, "exec")
    assert unknown(text) == []


def test_python_that_names_what_is_not_there_is_noticed():
    text = "import konomi\nfrom konomi.client.channel import Tlss\nclient = konomi.conect()\nclient.rater.scoore([])\n"
    text += "konomi.connect().raters.score([])\n"
    assert unknown(text) == [
        "client.rater.scoore",
        "connect().raters",
        "connect().raters.score",
        "konomi.client.channel.Tlss",
        "konomi.conect",
    ]
