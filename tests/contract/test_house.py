"""The commands of the house: what `make` lists, what CI runs, when `make setup` does something."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.contract.source_tree import ROOT

COMMANDS = ("setup", "demo", "up", "test", "check", "bench", "chaos", "help", "lock")
FAST, ALL = '-m "not slow and not chaos"', '-m "not chaos"'
AUDIT = ".venv/bin/python .ci/audit.py\n"
"""Asks over the network, which takes its time: no part of the fast half."""


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE") and key != "MFLAGS"}
    return subprocess.run(
        ["make", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What `make setup` looks at, copied, as if installed a minute ago."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    then = time.time() - 60
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        os.utime(path, (then, then))
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv/.konomi-installed").touch()
    return tmp_path


def test_help_lists_every_command():
    listed = make(ROOT, "help").stdout
    assert all(f"make {command} " in listed for command in COMMANDS)
    assert make(ROOT).stdout == listed


def test_ci_runs_exactly_make_test():
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    lines = script.read_text("utf-8").splitlines()
    assert lines[0].endswith("bash") and "set -euo pipefail" in lines and lines[-1] == "make test"


def test_check_is_the_fast_half_of_test(clone: Path):
    check, test = make(clone, "-n", "check").stdout, make(clone, "-n", "test").stdout
    assert check.replace(FAST, ALL) == test.replace(AUDIT, "") and FAST in check
    for tool in ("ruff check", "ruff format --check", "mypy", "lint-imports", "buf lint", ".ci/breaking", AUDIT):
        assert tool in test


def test_setup_does_nothing_when_nothing_changed(clone: Path):
    assert "Nothing to be done" in make(clone, "setup").stdout


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt", "proto/konomi/v1/rater.proto"])
def test_setup_installs_again_when_something_changed(clone: Path, changed: str):
    later = time.time() + 60
    os.utime(clone / changed, (later, later))
    planned = make(clone, "-n", "setup").stdout
    assert "--require-hashes -r constraints.txt" in planned
    assert "--no-deps --no-build-isolation -e ." in planned


def test_without_a_fitting_python_setup_says_what_is_needed(clone: Path):
    (clone / ".venv/.konomi-installed").unlink()
    done = make(clone, "PYTHON=", "setup")
    assert done.returncode != 0
    assert "needs Python 3.11, 3.12 or 3.13" in done.stderr


def test_every_benchmark_can_be_named(clone: Path):
    benchmarks = sorted((ROOT / "tests/benchmarks").glob("*/bench_*.py"))
    assert len(benchmarks) > 5
    for path in benchmarks:
        copy = clone / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.touch()
        name = path.stem.removeprefix("bench_")
        module = f"tests.benchmarks.{path.parent.name}.bench_{name}"
        assert f"-m {module} " in make(clone, "-n", f"bench-{name}").stdout
    assert len({path.name for path in benchmarks}) == len(benchmarks), "a name means one benchmark"
    assert "no tests/benchmarks" in make(clone, "-n", "bench-none").stderr


def test_all_benchmarks_run_one_after_the_other(clone: Path):
    file = clone / "tests/benchmarks/page/bench_page.py"
    file.parent.mkdir(parents=True)
    file.touch()
    python = clone / ".venv/bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    assert "-m tests.benchmarks.page.bench_page\n" in make(clone, "bench").stdout
