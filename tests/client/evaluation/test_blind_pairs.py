"""Blind pairs: sides hidden and balanced, nothing on the page that gives them away, verdicts that count right."""

import json
import re
from pathlib import Path

import pytest

from konomi.cli import commands
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.evaluation import blind_pairs
from konomi.host import extras

PNG = b"\x89PNG\r\n\x1a\n"
PROMPTS = ["a cat", "<script>alert(1)</script>"]


def images(count: int) -> list[tuple[bytes, bytes]]:
    return [(PNG + b"first", PNG + b"second")] * count


def test_each_model_is_on_the_left_half_the_time_in_a_drawn_order() -> None:
    pairs = blind_pairs.plan(PROMPTS, 40, 7)
    sides = [pair.first_left for pair in pairs]
    assert sum(sides) == 20 and sides != [i % 2 == 0 for i in range(40)] and sides != sorted(sides)
    assert pairs == blind_pairs.plan(PROMPTS, 40, 7) != blind_pairs.plan(PROMPTS, 40, 8)
    assert len({pair.seed for pair in pairs}) == 40 and [pair.prompt for pair in pairs[:2]] == PROMPTS
    with pytest.raises(InvalidArgument):
        blind_pairs.plan([], 1, 0)


def test_the_page_tells_nothing_of_sides_and_runs_nothing_of_a_prompt() -> None:
    pairs = blind_pairs.plan(PROMPTS, 6, 1)
    page = blind_pairs.page(pairs, images(6))
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "first" not in re.sub(r"base64,[^\"]*", "", page) and "second" not in page and "http" not in page
    assert page.count("<img") == 12 and page.count('type="radio"') == 18
    shown = re.findall(r"base64,([^\"]+)", page)
    firsts = [shown[2 * i] if pairs[i].first_left else shown[2 * i + 1] for i in range(6)]
    assert len(set(firsts)) == 1 and len(set(shown)) == 2


def test_without_the_template_engine_the_sheet_names_the_line_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "PAGE", ("a_template_engine_nobody_has",))
    monkeypatch.setitem(extras.EXTRAS, "overnight", extras.PAGE)
    with pytest.raises(FailedPrecondition, match=r"not installed: a_template_engine_nobody_has; run: .*overnight"):
        blind_pairs.page(blind_pairs.plan(PROMPTS, 2, 1), images(2))


def test_a_verdict_counts_wins_of_the_first_and_ties_half() -> None:
    pairs = blind_pairs.plan(PROMPTS, 8, 3)
    key = blind_pairs.key("unit-2", "base", pairs)
    always = "".join("L" if pair.first_left else "R" for pair in pairs)
    won = blind_pairs.judge(key, always)
    assert won["win_rate"]["value"] == 1.0 and (won["first"], won["second"]) == ("unit-2", "base")
    lost = blind_pairs.judge(key, always.translate(str.maketrans("LR", "RL")))
    assert lost["win_rate"]["value"] == 0.0
    half = blind_pairs.judge(key, "TTTT----")
    assert half["win_rate"]["value"] == 0.5 and half["win_rate"]["n"] == 4
    assert half["win_rate"]["low"] < 0.5 < half["win_rate"]["high"]


@pytest.mark.parametrize("answers", ["L", "LLLLLLLX", ""])
def test_answers_that_do_not_fit_are_refused(answers: str) -> None:
    key = blind_pairs.key("a", "b", blind_pairs.plan(PROMPTS, 8, 3))
    with pytest.raises(InvalidArgument) as caught:
        blind_pairs.judge(key, answers)
    assert "8 letters" in caught.value.message


@pytest.mark.parametrize("text", ["", "{}", json.dumps({"schema": "x", "pairs": []}), "[1]"])
def test_a_key_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        blind_pairs.judge(text, "L")


def test_the_command_judges_the_answers_of_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = blind_pairs.plan(PROMPTS, 4, 3)
    sheet = tmp_path / "pairs.html"
    arguments = ["models", "compare", "--out", str(sheet), "--answers"]
    assert commands.run([*arguments, "LLLL"]) == 2
    assert "pairs.key.json" in capsys.readouterr().err
    (tmp_path / "pairs.key.json").write_text(blind_pairs.key("unit-2", "base", pairs))
    always = "".join("L" if pair.first_left else "R" for pair in pairs)
    assert commands.run([*arguments, always]) == 0
    assert "unit-2 is preferred to base in 100 % of 4 pairs" in capsys.readouterr().out
    assert commands.run([*arguments, always, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["win_rate"]["value"] == 1.0
