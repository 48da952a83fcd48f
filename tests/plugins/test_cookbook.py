"""The cookbook's lines, run as they stand there against a live konomi; grpcurl's are held against the contract."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from google.protobuf.json_format import Parse
from google.protobuf.message_factory import GetMessageClass

from konomi.client import connect_home
from konomi.v1 import rater_pb2
from tests.client.web.site import ROOT, picture

PAGE = ROOT / "docs" / "cookbook.md"
SERVICE = rater_pb2.DESCRIPTOR.services_by_name["RaterService"]

pytestmark = pytest.mark.slow


def recipes() -> dict[str, list[str]]:
    """Returns the shell blocks of the cookbook under each heading."""
    parts = re.split(r"^## (.*)\n", PAGE.read_text("utf-8"), flags=re.MULTILINE)
    found = dict(zip(["", *parts[1::2]], parts[0::2], strict=True))
    return {name: re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL) for name, text in found.items()}


SETTINGS, ASK = recipes()[""]


@pytest.fixture
def shell(site, tmp_path):
    """Runs blocks where portrait.png and the contract lie, with the addresses of the live konomi."""
    if shutil.which("curl") is None or shutil.which("bash") is None:
        pytest.skip("there is no curl here")
    with connect_home(site.home.root) as client:
        rater = client.addresses["rater"]
    (tmp_path / "proto").symlink_to(ROOT / "proto")
    for seed, name in enumerate(("portrait.png", "another.png"), start=900):
        (tmp_path / name).write_bytes(picture(seed))
    values = {"PAGE": site.address, "RATER": rater, "TOKEN": site.home.token_file.read_text().strip()}
    names = re.findall(r"^(\w+)=", SETTINGS, re.MULTILINE)
    assert names == list(values)
    begin = "set -euo pipefail\n" + "".join(f"{name}={value}\n" for name, value in values.items()) + ASK
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "KONOMI_HOME": str(site.home.root)}

    def run(block: str) -> str:
        command = ["bash", "-c", begin + block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def blocks(heading: str) -> list[str]:
    """Returns the blocks of a heading that are not grpcurl's."""
    return [block for block in recipes()[heading] if "grpcurl" not in block]


def test_the_addresses_are_the_usual_ones():
    from konomi.cli.up import USUAL_PORTS
    from konomi.web.settings import USUAL_PORT

    assert re.search(r"^PAGE=(.*)$", SETTINGS, re.MULTILINE)[1] == f"http://127.0.0.1:{USUAL_PORT}"
    assert urlsplit("//" + re.search(r"^RATER=(.*)$", SETTINGS, re.MULTILINE)[1]).port == USUAL_PORTS["rater"]
    for role in ("generator", "trainer"):
        assert f"`{USUAL_PORTS[role]}` ({role})" in PAGE.read_text("utf-8")


def test_one_picture_by_both_doors(shell):
    curl, buf = (json.loads(shell(block)) for block in blocks("Grade one picture"))
    assert curl == buf
    (result,) = curl["results"]
    assert {"utility", "std", "lowerBound", "gradeProbabilities", "typicality", "novelty"} <= set(result["score"])


def test_the_best_of_a_folder(shell):
    (block,) = blocks("The best of a folder")
    lines = [line.split(" ") for line in shell(block).splitlines()]
    assert {name for _, name in lines} == {"portrait.png", "another.png"}
    assert float(lines[0][0]) >= float(lines[1][0])


def test_grade_what_is_suggested_and_take_it_back(shell, site):
    grade, undo = blocks("What to grade next, and grade it")
    (label,) = json.loads(shell(grade))["labels"]
    assert (label["grade"], label["labeller"]) == ("GRADE_SSR", "owner")
    assert json.loads(shell(undo))["undoes"] == label["name"]


def test_the_library_by_score_by_likeness_as_a_map_and_by_novelty(shell, tmp_path):
    said = [shell(block) for block in blocks("Look through the library")]
    best, alike, told, seen, far = (json.loads(answer[answer.index("{") :]) for answer in said)
    assert 10 < len(seen["points"]) <= 500 and "</svg>" in (tmp_path / "map.html").read_text("utf-8")
    utilities = [image["score"]["utility"] for image in best["images"]]
    assert len(utilities) == 10 and utilities == sorted(utilities, reverse=True)
    similarities = [hit["similarity"] for hit in alike["hits"]]
    assert len(similarities) == 5 and similarities == sorted(similarities, reverse=True)
    words = [hit["similarity"] for hit in told["hits"]]
    assert len(words) == 5 and words == sorted(words, reverse=True) and int(told["totalSize"]) > 10
    assert far["images"]


def test_a_fit_is_watched(shell):
    (block,) = blocks("Fit the rater and watch it")
    said = shell(block)
    assert '"progress"' in said
    assert re.search(r'"raterVersion": ?\{\s*"name": ?"tastes/default/raterVersions/\d+"', said)


def test_a_server_describes_itself(shell):
    (block,) = blocks("What a server offers")
    offered = set(shell(block).split())
    assert {f"konomi.v1.RaterService/{method.name}" for method in SERVICE.methods} <= offered


def test_an_error_says_what_to_do(shell):
    (block,) = blocks("When something is wrong")
    error, code = shell(block).rsplit("exit code", 1)
    assert json.loads(error)["code"] == "not_found"
    assert code.strip() == "22"


GRPCURL = [block for found in recipes().values() for block in found if "grpcurl" in block]


@pytest.mark.parametrize("block", GRPCURL, ids=range(len(GRPCURL)))
def test_grpcurl_is_told_what_the_contract_has(block):
    body = re.search(r"printf '(.*?)' ", block)
    method = re.search(r"konomi\.v1\.RaterService(?:/(\w+))?\n", block)[1]
    if body is None:
        assert "describe konomi.v1.RaterService\n" in block
        return
    request = GetMessageClass(SERVICE.methods_by_name[method].input_type)()
    Parse(body[1].replace("%s", "AAAA"), request)
    assert re.search(r"-import-path (\S+)", block)[1] == "proto"
    assert (ROOT / "proto" / re.search(r"-proto (\S+)", block)[1]).is_file()
    twins = [other for found in recipes().values() for other in found if "buf curl" in other]
    assert any(f"RaterService/{method}" in twin for twin in twins), "the same call is run by buf"
