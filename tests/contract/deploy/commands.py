"""Command lines and settings in the files of deploy/: whether the program they are given to knows all of it."""

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from konomi.settings import KonomiSettings
from konomi_chassis.__main__ import _parser as chassis_parser
from konomi_chassis.early_port import parser as role_parser
from tests.contract.docs.test_guides import problem
from tests.contract.source_tree import ROOT

ROLES = ("konomi_rater", "konomi_generator", "konomi_trainer")
ENDS = {";", "&&", "||", "|"}
NO_SETTING = {"KONOMI_IMAGE", "KONOMI_PAGE_NAME", "KONOMI_ROLE"}
"""Names the files use among themselves."""


def settings_classes() -> Mapping[str, type[KonomiSettings]]:
    """The class of every table there is, as the reference of settings finds them."""
    sys.path.insert(0, str(ROOT / ".ci" / "reference"))
    try:
        return importlib.import_module("settings_page").classes(ROOT)
    finally:
        sys.path.pop(0)


def wrong_setting(name: str, value: str) -> str:
    """What is wrong with a setting given in the environment; empty where a class takes it, value and all."""
    found = {}
    for kind in settings_classes().values():
        prefix = str(kind.model_config.get("env_prefix", "KONOMI_"))
        field = name.removeprefix(prefix).lower()
        if name.startswith(prefix) and field in kind.model_fields:
            found[kind] = field
    if not found:
        return f"{name} is no setting"
    for kind, field in found.items():
        given: Any = json.loads(value) if value.startswith("[") else value
        others = {"tls_certificate": "a", "tls_key": "b"} if field.startswith("tls_") else {}  # which come together
        kind(**{**others, field: given})
    return ""


def commands_of(script: str) -> Iterator[list[str]]:
    """Yields the words of each command of a shell script, without variables set before it and `exec`."""
    lexer = shlex.shlex(script.replace("$$", "$").replace("\\\n", " "), posix=True, punctuation_chars=";&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word in ENDS:
            while words and (words[0] == "exec" or (words[0].partition("=")[0].isupper() and "=" in words[0])):
                words = words[1:]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def wrong_command(words: list[str]) -> str:
    """What of a command konomi does not know; empty where it knows all of it, or where it is no command of konomi."""
    program = words[0].rpartition("/")[2]
    if program == "konomi":
        return problem(shlex.join(["konomi", *words[1:]]))
    if not program.startswith("python") or words[1:2] != ["-m"]:
        return ""
    module, rest = words[2], words[3:]
    if module == "konomi_chassis":
        return refused(chassis_parser(), rest)
    if module in ROLES:
        return refused(role_parser(module.removeprefix("konomi_")), [word.replace("%i", "50061") for word in rest])
    return "" if module == "konomi_starter" and rest[:2] == ["install", "--home"] else f"{module} is not known"


def refused(parser: argparse.ArgumentParser, words: list[str]) -> str:
    """What a parser does not take of a command's words; empty where it takes them all."""
    try:
        parser.parse_args(words)
    except SystemExit:
        return f"{parser.prog} refuses {' '.join(words)}"
    return ""
