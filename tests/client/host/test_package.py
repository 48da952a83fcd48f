"""The package as people install it: its metadata, links that lead somewhere, a wheel and an sdist that start."""

import email
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from hatch_readme import LINK, absolute, urls
from tests.contract.source_tree import ROOT

UV = Path(sys.executable).with_name("uv")
REPOSITORY = "https://example.org/somebody/konomi"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def run(*command: object, **environment: str) -> str:
    done = subprocess.run(
        [str(word) for word in command], env=os.environ | environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_links_within_the_repository_become_whole_addresses_at_the_tag():
    words = "[a](docs/x.md) ![p](s/p.png) [![p](s/p.png)](docs) [w](https://w.example) [h](#h)"
    assert absolute(words, REPOSITORY, "v1") == (
        f"[a]({REPOSITORY}/blob/v1/docs/x.md) ![p]({REPOSITORY}/raw/v1/s/p.png) "
        f"[![p]({REPOSITORY}/raw/v1/s/p.png)]({REPOSITORY}/blob/v1/docs) [w](https://w.example) [h](#h)"
    )
    assert absolute(words, "", "v1") == "a   [w](https://w.example) [h](#h)"
    assert urls("", "v1") == {}
    readme = (ROOT / "README.md").read_text("utf-8")
    paths = [link[2] for link in LINK.findall(readme)]
    assert len(paths) > 10 and all((ROOT / path).exists() for path in paths)
    assert not LINK.search(absolute(readme, REPOSITORY, "v1")) and not LINK.search(absolute(readme, "", "v1"))


def test_one_version_stands_everywhere_and_every_file_a_release_needs_is_there():
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == PROJECT["version"]
    assert re.search(r"^license: (.+)$", citation, re.MULTILINE)[1] == PROJECT["license"]
    assert {"authors", "keywords", "classifiers"} <= PROJECT.keys()
    for name in ("SECURITY.md", "RELEASING.md", ".github/PULL_REQUEST_TEMPLATE.md"):
        assert (ROOT / name).stat().st_size > 300, name
    forms = list((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert {"bug.yml", "idea.yml"} <= {form.name for form in forms}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, as a release builds them; the wheel from the sdist."""
    out = tmp_path_factory.mktemp("dist")
    run(UV, "build", "--no-build-isolation", "--python", sys.executable, "-o", out, ROOT, KONOMI_REPOSITORY=REPOSITORY)
    return next(out.glob("*.whl"))


@pytest.mark.chaos
def test_the_metadata_says_whose_it_is_and_where(wheel: Path):
    with zipfile.ZipFile(wheel) as file:
        (name,) = (name for name in file.namelist() if name.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(file.read(name))
    assert f"Issues, {REPOSITORY}/issues" in said.get_all("Project-URL")
    assert said["Author"] == "The konomi authors" and said["License-Expression"] == "Apache-2.0"
    assert "mcp" in said.get_all("Provides-Extra") and said["Description-Content-Type"] == "text/markdown"
    assert f"({REPOSITORY}/blob/v{PROJECT['version']}/docs/science.md)" in said.get_payload()
    with tarfile.open(next(wheel.parent.glob("*.tar.gz"))) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    assert {"pyproject.toml", "hatch_readme.py", "LICENSE", "NOTICE", "proto/konomi/v1/rater.proto"} <= names
    assert not [name for name in names if name.startswith((".venv", "build/"))]


@pytest.mark.chaos
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_it_starts_in_a_fresh_environment(wheel: Path, tmp_path: Path, kind: str, python: str):
    found = subprocess.run([UV, "python", "find", "--no-project", python], capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip(f"there is no Python {python} on this machine")
    run(UV, "venv", "--quiet", "--python", found.stdout.strip(), tmp_path / "venv")
    pins = tmp_path / "pins.txt"
    pins.write_text(re.sub(r" \\\n(?: +--hash=.*\n)+", "\n", (ROOT / "constraints.txt").read_text("utf-8")), "utf-8")
    made = next(wheel.parent.glob(kind))
    run(UV, "pip", "install", "--quiet", "--python", tmp_path / "venv/bin/python", "-c", pins, f"{made}[web,mcp]")
    konomi = tmp_path / "venv/bin/konomi"
    assert run(konomi, "--version") == f"konomi {PROJECT['version']}\n"
    assert "konomi pick" in run(konomi, "pick", "--help")
    assert "良い画像" in run(konomi, "--lang", "ja", "pick", "--help"), "the words came along, built on the way"
