"""Nights the version before this one began: one is gone on with to the same end, and every record is understood."""

import base64
import json
import sqlite3
from pathlib import Path

import pytest

from konomi.night.records.state import NightState, StateName

FOLDER = Path(__file__).parent
BEGUN = FOLDER / "begun_night.json"
"""A home in the middle of a night, killed once the choice of its second unit was recorded, and what is left by the same
night where nothing stops it; both of version 0.1.0 before its state had types."""


STATES = json.loads((FOLDER / "recorded_states.json").read_text())
"""The last records of nights of every system, as the same version left them."""


@pytest.mark.parametrize("name", STATES)
def test_every_record_is_read_and_written_back_unharmed(name):
    state = NightState.model_validate(STATES[name])
    assert state.plain() == STATES[name]
    assert all(unit.judged for unit in state.units if unit.system and unit.decision)


def test_what_this_version_does_not_know_is_kept_and_what_is_missing_has_its_default():
    older = {"state": "finished", "units": [{"unit": 0, "colour": "red", "scores": {"vendi": {"value": 2.0}}}]}
    state = NightState.model_validate(older | {"weather": {"rain": True}})
    assert state.plain() == older | {"weather": {"rain": True}}
    assert state.is_final and state.units[0].scores.measures.kid is None
    assert state.changed(state=StateName.ABANDONED).plain()["units"] == older["units"]
    with pytest.raises(AttributeError, match="no field weater"):
        state.changed(weater=1)


def test_a_state_of_another_version_is_kept_and_is_not_over():
    state = NightState.model_validate({"state": "paused", "units": []})
    assert state.plain()["state"] == "paused" and not state.is_final
    assert NightState.model_validate({"state": "halted"}).state is StateName.HALTED


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


@pytest.mark.parametrize("resumed", [True, False])
def test_a_night_begun_by_the_version_before_goes_on_to_the_same_end(bench, nights_module, begun, resumed):
    home = bench.home("begun")
    restore(home, begun)
    words = ("night", "resume", "--json") if resumed else bench.start(home)
    code, result, err = bench.konomi(home, *words)
    assert (code, result["state"]) == (0, "finished"), err
    assert nights_module.calls(home), "the second unit was made by this version"
    assert not [call for call in nights_module.calls(home) if "unit-1" in call], "no finished step ran again"
    left = json.loads(json.dumps(nights_module.left_behind(home, begun["night"])))
    assert left == begun["expected"]
