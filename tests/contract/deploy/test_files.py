"""The files in deploy/ fit the product: settings that exist, a command that exists, roles that exist."""

import configparser
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from konomi.settings import KonomiSettings
from tests.contract.deploy.commands import settings_classes
from tests.contract.source_tree import PACKAGES, ROOT

DEPLOY = ROOT / "deploy"
EXAMPLE = DEPLOY / "konomi.example.toml"


@pytest.fixture(scope="module")
def settings_of() -> Mapping[str, type[KonomiSettings]]:
    """The class of every table there is."""
    return settings_classes()


@pytest.mark.slow
def test_the_example_settings_are_all_there_are_and_the_defaults(settings_of, tmp_path: Path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("KONOMI_")]:
        monkeypatch.delenv(name)
    text = EXAMPLE.read_text("utf-8")
    written = tomllib.loads(text)
    assert set(written) == set(settings_of)
    for table, kind in settings_of.items():
        (tmp_path / "konomi.toml").unlink(missing_ok=True)
        defaults = kind(home=tmp_path)
        (tmp_path / "konomi.toml").write_text(text, "utf-8")
        assert kind(home=tmp_path) == defaults
        part = text.partition(f"[{table}]\n")[2].partition("\n[")[0]
        commented = set(re.findall(r"^# (\w+) =$", part, re.MULTILINE))
        assert commented | set(written[table]) == set(kind.model_fields) - {"home"}


@pytest.mark.slow
def test_the_unit_runs_a_command_that_exists():
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str
    unit.read(DEPLOY / "konomi.service")
    command = unit["Service"]["ExecStart"].split()
    assert command[0].endswith("/bin/konomi")
    konomi = Path(sys.executable).with_name("konomi")
    help_page = subprocess.run([konomi, command[1], "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert all(option in help_page.stdout for option in command[2:])


def test_the_image_copies_what_a_build_needs_and_runs_a_role():
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    copied = {word for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]}
    assert {"pyproject.toml", "constraints.txt", "proto", "clients", "services", "LICENSE", "NOTICE"} <= copied
    assert all((ROOT / word).exists() for word in copied)
    assert "konomi_${KONOMI_ROLE}" in text and "USER konomi" in text
    assert {"konomi_rater", "konomi_generator", "konomi_trainer"} <= set(PACKAGES)
