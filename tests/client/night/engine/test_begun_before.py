"""Nights the version before this one began: one is gone on with to the same end, and every record is understood."""

import base64
import json
import sqlite3
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
BEGUN = FOLDER / "begun_night.json"
"""A home in the middle of a night, killed once the choice of its second unit was recorded, and what is left by the same
night where nothing stops it; both of version 0.1.0 before its state had types."""


@pytest.fixture(scope="module")
def begun() -> dict:
    return json.loads(BEGUN.read_text())


def restore(home: Path, begun: dict) -> None:
    """Writes the files and databases of a recorded home."""
    for name, data in begun["files"].items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(data))
    for name, statements in begun["databases"].items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path) as database:
            database.executescript("\n".join(statements))
        database.close()


def test_a_night_begun_by_the_version_before_goes_on_to_the_same_end(bench, nights_module, begun):
    home = bench.home("begun")
    restore(home, begun)
    code, result, err = bench.konomi(home, "night", "resume", "--json")
    assert (code, result["state"]) == (0, "finished"), err
    assert nights_module.calls(home), "the second unit was made by this version"
    assert not [call for call in nights_module.calls(home) if "unit-1" in call], "no finished step ran again"
    left = json.loads(json.dumps(nights_module.left_behind(home, begun["night"])))
    assert left == begun["expected"]
