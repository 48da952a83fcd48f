"""The settings of a bundle as a home's konomi.toml: written as TOML whatever they hold, or refused."""

import json
import tomllib

import pytest

from konomi.errors import AlreadyExists, InvalidArgument
from konomi.home import Home
from konomi.taste.bundle import restore_settings, settings

TABLES = {
    "night": {"hours": 6.5, "systems": ["golden", "longtail"], "prompt": 'a "quoted" cat\n好み', "keep": True},
    "rater": {"cells": 9},
}


def content(tables: object) -> bytes:
    return json.dumps({"kind": "konomi.settings", "schema": 1, "tables": tables}).encode()


def test_what_was_gathered_is_restored(tmp_path):
    home, again = Home(tmp_path / "here"), Home(tmp_path / "there")
    restore_settings(home, content(TABLES))
    assert tomllib.loads(home.configuration.read_text("utf-8")) == TABLES
    restore_settings(again, settings(home))
    assert again.configuration.read_bytes() == home.configuration.read_bytes()


def test_a_name_cannot_bring_tables_of_its_own(tmp_path):
    home = Home(tmp_path)
    hostile = 'x = 1\n[notify]\nurls = "https://elsewhere"\ny'
    restore_settings(home, content({"night": {hostile: 2}, "notify": {"urls": []}}))
    assert tomllib.loads(home.configuration.read_text("utf-8")) == {"night": {hostile: 2}}


@pytest.mark.parametrize("tables", [{"night": {"hours": None}}, {"night": "text"}])
def test_what_toml_cannot_hold_is_refused_and_nothing_is_written(tmp_path, tables):
    with pytest.raises(InvalidArgument, match="expected tables of settings"):
        restore_settings(Home(tmp_path), content(tables))
    assert not Home(tmp_path).configuration.exists()


def test_settings_that_are_there_stay(tmp_path):
    home = Home(tmp_path)
    home.configuration.write_text("# mine\n")
    with pytest.raises(AlreadyExists, match="stays as it is"):
        restore_settings(home, content(TABLES))
    assert home.configuration.read_text() == "# mine\n"
