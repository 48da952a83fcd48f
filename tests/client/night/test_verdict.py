"""The morning's verdict: pairs that stay blind, an audit in the rater, keep, and a rollback to before the night."""

import json
import sqlite3
from contextlib import closing

import pytest

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.night.records.request import NightRequest
from konomi.night.records.state import Served
from konomi.night.records.store import NightStore
from konomi.night.verdict import PAIRS, ROLL_BACK, BlindEvaluation, advice, shown_by_name


def night(folder, evaluation: int = 128, served: int = 2, start: int = 1) -> BlindEvaluation:
    """Returns the verdict on a recorded night that began with one unit and serves another."""
    nights = NightStore(folder)
    request = NightRequest("n1", "a" * 64, "tastes/default", "converge", 5, ["p"], ["p"], {}, {})
    nights.begin(request.asked, lambda: request)
    units = [
        {"unit": one, "model": f"m{one}", "evaluation": [f"{one}{place:063x}" for place in range(evaluation)]}
        | ({"decision": "start"} if one <= start else {"decision": "promote"})
        for one in range(3)
    ]
    nights.write("n1", {"state": "finished", "units": units, "served": {"unit": served, "model": f"m{served}"}})
    return BlindEvaluation(nights, "n1")


def test_pairs_are_of_the_unit_and_what_was_served_before_and_none_was_shown_by_name(tmp_path):
    found = night(tmp_path)
    pairs = found.pairs()
    assert pairs == found.pairs() and len(pairs) == PAIRS
    assert (found.unit.model, found.against.model) == ("m2", "m1")
    assert {pair.unit[0] for pair in pairs} == {"2"} and {pair.against[0] for pair in pairs} == {"1"}
    assert not {pair.place for pair in pairs} & shown_by_name(128)
    assert sum(pair.unit_left for pair in pairs) == PAIRS // 2, "each model is on the left half the time"
    assert all({pair.left, pair.right} == {pair.unit, pair.against} for pair in pairs)


def test_a_night_on_another_base_goes_back_to_what_was_in_use_before_it(tmp_path):
    found = night(tmp_path)
    assert found.before == found.against == Served(unit=1, model="m1")
    nights = NightStore(tmp_path)
    nights.write("n1", nights.read("n1") | {"before": {"unit": 7, "model": "m7"}})
    found = BlindEvaluation(nights, "n1")
    assert (found.against.model, found.before.model) == ("m1", "m7"), "it is judged against what it began from"
    assert found.in_use.model == "m2"
    found.note_decision(ROLL_BACK, "m7", 5.0)
    assert BlindEvaluation(nights, "n1").in_use == Served(unit=7, model="m7")


def test_a_night_that_changed_nothing_has_nothing_to_judge(tmp_path):
    found = night(tmp_path, served=1)
    assert found.pairs() == [] and found.tally() is None
    with pytest.raises(FailedPrecondition, match="changed nothing"):
        found.answer(0, "left")


def test_few_images_make_few_pairs(tmp_path):
    assert len(night(tmp_path, evaluation=8).pairs()) == 8


def test_sides_are_told_only_at_the_end_and_answers_stand_from_then_on(tmp_path):
    found = night(tmp_path)
    pairs = found.pairs()
    for place, pair in enumerate(pairs):
        assert found.tally() is None
        found.answer(place, "tie" if place == 0 else "left" if pair.unit_left else "right")
    found.answer(0, "tie")
    tally = BlindEvaluation(NightStore(tmp_path), "n1").tally()
    assert (tally.wins, tally.losses, tally.ties, tally.advice) == (19, 0, 1, "keep")
    assert tally.win_rate["value"] == pytest.approx(19.5 / 20)
    with pytest.raises(FailedPrecondition, match="answers stand"):
        found.answer(1, "")


def test_an_answer_can_be_taken_back_while_the_sides_are_hidden(tmp_path):
    found = night(tmp_path)
    found.answer(3, "left")
    found.answer(3, "")
    assert found.answers() == {}
    for pair, choice in ((PAIRS, "left"), (-1, "left"), (0, "both")):
        with pytest.raises(InvalidArgument):
            found.answer(pair, choice)
    with pytest.raises(InvalidArgument, match="20 letters"):
        found.answer_all("LRT")
    found.answer_all("LRT" + "-" * 17)
    assert found.answers() == {0: "left", 1: "right", 2: "tie"}


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0.1, 0.49, "roll_back"), (0.51, 0.9, "keep"), (0.3, 0.7, "open")]
)
def test_only_a_sure_loss_advises_a_rollback(low, high, expected):
    assert advice({"value": 0.5, "low": low, "high": high, "n": 20}) == expected


@pytest.mark.slow
def test_a_verdict_is_an_audit_and_takes_the_night_back_in_one_step(bench):
    home = bench.home("verdict")
    code, made, err = bench.konomi(home, *bench.start(home))
    assert code == 0, err
    told = made["verdict"]
    assert (told["pairs"], told["answered"], told["decision"], told["tally"]) == (16, 0, "open", None)
    tight = {"KONOMI_GUARD_PRESSURE_NATS": "3"}
    code, refused, err = bench.konomi(home, *bench.start(home, "--images", "16"), **tight)
    assert (code, refused["reason"]["name"], refused["images"]) == (5, "pressure_spent", 0), err
    assert refused["served"] == made["served"]
    sheet, night_id = home / "pairs.html", ("--night", made["night"])
    code, _, err = bench.konomi(home, "night", "verdict", *night_id, "--sheet", str(sheet), "--json")
    assert code == 0, err
    assert sheet.read_text().count("<fieldset>") == 16 and "night verdict --answers" in sheet.read_text()
    nights = NightStore(home)
    pairs = BlindEvaluation(nights, made["night"]).pairs()
    letters = "".join("R" if pair.unit_left else "L" for pair in pairs)
    code, told, err = bench.konomi(home, "night", "verdict", *night_id, "--answers", letters, "--roll-back", "--json")
    assert code == 0, err
    assert (told["tally"]["losses"], told["tally"]["advice"], told["decision"]) == (16, "roll_back", "roll_back")
    assert told["audit"] == "tastes/default/blindAudits/1"
    moves = bench_moves(home)
    assert moves[-1] == "back" and current_of(moves) == "", "back at the base model, what the night began with"
    code, again, err = bench.konomi(home, "night", "verdict", *night_id, "--roll-back", "--json")
    assert (code, len(again["decisions"]), bench_moves(home)) == (0, 1, moves), "the same decision is one decision"
    code, _, err = bench.konomi(home, "night", "verdict", *night_id, "--keep")
    assert code == 4 and "made current since" in err
    code, status, _ = bench.konomi(home, "night", "status", *night_id, "--json")
    assert status["verdict"]["decision"] == "roll_back" and status["verdict"]["tally"]["losses"] == 16
    code, more, err = bench.konomi(home, *bench.start(home, "--images", "8", "--seed", "8"), **tight)
    assert (code, more["reason"]["name"] != "pressure_spent") == (0, True), "after an audit the pressure starts anew"


@pytest.mark.slow
def test_a_night_that_leaves_nothing_in_use_spends_nothing_and_hides_no_night_that_can_be_judged(bench):
    home = bench.home("unused")
    never = {"KONOMI_GUARD_PRESSURE_NATS": "3", "KONOMI_NIGHT_PROMOTE_WIN_RATE": "1"}
    for seed in ("7", "8"):
        code, made, err = bench.konomi(home, *bench.start(home, "--seed", seed), **never)
        assert (code, made["served"]["unit"]) == (0, 0), err
        assert NightStore(home).state(made["night"]).nats > 1.5
        assert made["reason"]["name"] != "pressure_spent", "twice as much as the budget has, of units nobody uses"
    code, told, err = bench.konomi(home, "night", "verdict", "--json")
    assert (code, told["pairs"]) == (0, 0), err
    tight = {"KONOMI_GUARD_PRESSURE_NATS": "3"}
    code, made, err = bench.konomi(home, *bench.start(home, "--seed", "9"), **tight)
    assert (code, made["served"]["unit"] > 0) == (0, True), err
    code, refused, err = bench.konomi(home, *bench.start(home, "--seed", "10"), **tight)
    assert (code, refused["reason"]["name"].startswith("pressure")) == (5, True), err
    code, told, err = bench.konomi(home, "night", "verdict", "--json")
    assert (code, told["night"], told["pairs"]) == (0, made["night"], 16), "the refused night is newer and has no pairs"
    code, told, err = bench.konomi(home, "night", "verdict", "--roll-back", "--json")
    assert (code, told["decision"], told["audit"]) == (0, "roll_back", None), err
    code, again, err = bench.konomi(home, *bench.start(home, "--seed", "11"), **tight)
    assert (code, again["reason"]["name"].startswith("pressure")) == (0, False), "taken back: nothing of it is in use"


def bench_moves(home) -> list[str]:
    """Returns what the stand-in trainer did, in order."""
    with closing(sqlite3.connect(home / "databases" / "stand-in-moves.sqlite")) as database:
        return [json.loads(value) for (value,) in database.execute("SELECT v FROM t ORDER BY rowid")]


def current_of(moves: list[str]) -> str:
    """Returns the model that is current after some moves."""
    stack: list[str] = []
    for move in moves:
        stack = stack[:-1] if move == "back" else [*stack, move]
    return stack[-1] if stack else ""
