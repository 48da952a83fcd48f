"""The files in deploy/ fit the product: settings that exist, a command that exists, roles that exist."""

import configparser
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.contract.source_tree import PACKAGES, ROOT

DEPLOY = ROOT / "deploy"
EXAMPLE = DEPLOY / "konomi.example.toml"


def settings_of(table: str):
    from konomi_chassis.decoding.decoder import DecodeSettings
    from konomi_chassis.settings import ServerSettings, StoreSettings
    from konomi_generator.executors.settings import ExecutorSettings
    from konomi_rater.settings import RaterSettings

    classes = {
        "server": ServerSettings,
        "store": StoreSettings,
        "decode": DecodeSettings,
        "rater": RaterSettings,
        "scale": ExecutorSettings,
    }
    return classes[table]


@pytest.mark.parametrize("table", tomllib.loads(EXAMPLE.read_text("utf-8")))
def test_the_example_settings_are_the_defaults(table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("KONOMI_HOST", "KONOMI_PORT", "KONOMI_STORE_URL"):
        monkeypatch.delenv(name, raising=False)
    defaults = settings_of(table)(home=tmp_path)
    (tmp_path / "konomi.toml").write_text(EXAMPLE.read_text("utf-8"), "utf-8")
    assert settings_of(table)(home=tmp_path) == defaults


def test_the_commented_settings_exist_too(tmp_path: Path):
    text = EXAMPLE.read_text("utf-8")
    names = set(re.findall(r"^#? ?(\w+) = ", text.partition("[store]")[0], re.MULTILINE))
    assert names <= set(settings_of("server").model_fields)
    assert {"tls_certificate", "tls_key", "tls_client_ca"} <= names


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
