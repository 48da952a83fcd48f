"""`.ci/breaking` lets the contract grow and stops it from breaking; tried on copies of this repository's contract."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.source_tree import ROOT

BUF = Path(sys.executable).with_name("buf")


def git(repository: Path, *words: str) -> None:
    identity = ["-c", "user.name=konomi", "-c", "user.email=konomi@example.invalid", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *words], cwd=repository, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository holding this contract, its check and buf."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/buf").symlink_to(BUF)
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "add", "proto", "buf.yaml")
    git(tmp_path, "commit", "-q", "-m", "contract")
    return tmp_path


def check(repository: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "KONOMI_CONTRACT_BASE"}
    command = [str(repository / ".ci/breaking")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)


def change(repository: Path, old: str, new: str) -> None:
    path = repository / "proto/konomi/v1/artifact.proto"
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")
    git(repository, "commit", "-q", "-a", "-m", "change")


def test_the_first_contract_has_nothing_to_break(repository):
    done = check(repository)
    assert done.returncode == 0 and "no earlier one" in done.stdout


def test_a_new_field_is_welcome(repository):
    change(repository, "int64 size_bytes = 3;", "int64 size_bytes = 3;\n  // New.\n  string note = 4;")
    done = check(repository)
    assert done.returncode == 0 and "breaks nothing" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("new", ["int64 size_bytes = 4;", "string size_bytes = 3;", "int64 bytes = 3;"])
def test_a_changed_field_is_refused(repository, new):
    change(repository, "int64 size_bytes = 3;", new)
    assert check(repository).returncode != 0
