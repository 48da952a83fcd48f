"""`import konomi` is light, and importing any module of the product touches nothing."""

import ast
import json
import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from tests.contract.source_tree import PACKAGES, ROOT, product

HEAVY = [
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "peft",
    "faiss",
    "open_clip",
    "lightgbm",
    "sklearn",
    "ray",
    "PIL",
    "dbos",
]

WATCH = '''
import importlib, json, os, sys
WATCHED = {"socket.connect", "socket.bind", "subprocess.Popen", "os.fork", "os.exec"}
WATCHED |= {"os.mkdir", "os.remove", "os.rename", "os.putenv"}
seen, prefixes = [], tuple(json.loads(sys.argv[1]))
def ours():
    """The file of ours that acts, or None when a library does while it is being imported."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return None
        if name.startswith(prefixes) and "_pb2" not in name:
            return name
        frame = frame.f_back
    return None
def hook(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if event in WATCHED or writes:
        name = ours()
        if name:
            seen.append([event, name, str(arguments[0])])
sys.addaudithook(hook)
sys.argv = ["konomi", "--nonsense"]
for module in json.loads(os.environ["MODULES"]):
    importlib.import_module(module)
import threading
print(json.dumps({"seen": seen, "children": os.path.exists("/proc/self/task") and threading.active_count()}))
'''


def test_importing_konomi_loads_no_numerics():
    code = f"import konomi, sys, json; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_importing_any_module_does_nothing(tmp_path):
    modules = [source.module for source in product() if not source.module.endswith("__main__")]
    prefixes = [f"{folder}{os.sep}" for folder in PACKAGES.values()]
    environment = {
        **os.environ,
        "MODULES": json.dumps(modules),
        "HOME": str(tmp_path),
        "KONOMI_HOME": str(tmp_path / "home"),
    }
    command = [sys.executable, "-c", WATCH, json.dumps(prefixes)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=550, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["seen"] == []
    assert result["children"] == 1
    assert not (tmp_path / "home").exists()


def test_what_a_benchmark_imports_of_ours_is_there():
    """Imports inside functions too: a benchmark that was moved says so here, and not after minutes."""
    ours, absent = {path.stem for path in (ROOT / "tests" / "benchmarks").rglob("*.py")}, []
    for path in sorted((ROOT / "tests" / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            for name in names:
                mine = name.partition(".")[0] in {*PACKAGES, "tests"}
                if (mine and find_spec(name) is None) or name in ours:
                    absent.append(f"{path.relative_to(ROOT)}: {name}")
    assert not absent
