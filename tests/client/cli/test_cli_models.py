"""rater and models on a live home."""

import hashlib

import pytest

from konomi.cli.rater import fit
from konomi.v1 import rater_pb2


def test_rater_show(live):
    said = live.json("rater", "show")
    assert said["name"] == "tastes/default/raterVersions/1"
    assert said["metrics"]["srcc"] == {"value": 0.7, "low": 0.6, "high": 0.8, "n": 64}
    assert said["metrics"]["ap_ur"]["value"] is None
    assert live.json("rater", "show", "3", "--taste", "mine")["name"] == "tastes/mine/raterVersions/3"
    table = live.run("rater", "show", "--lang", "ja").stdout
    assert "あなたの採点との順位の一致" in table


def test_rater_fit_without_labels_is_refused(live):
    done = live.run("rater", "fit")
    assert done.returncode == 4
    assert "expected 8 labels, got 0" in done.stderr


def test_models_over_several_pages(live):
    models = live.json("models", "list")["models"]
    assert [(model["display_name"], model["current"]) for model in models] == [("unit-2", True), ("unit-1", False)]
    table = live.run("models", "list").stdout
    assert "unit-1" in table and "win_rate 0.6" in table


def test_show_by_name_and_id(live):
    assert live.json("models", "show", "unit-1")["seed"] == 7
    assert live.json("models", "show", "m1") == live.json("models", "show", "models/m1")
    done = live.run("models", "show", "unit-9")
    assert done.returncode == 1
    assert "unit-9" in done.stderr


def test_a_base_model_is_shown_with_where_its_settings_come_from(live):
    said = live.json("models", "show", "starter")
    assert (said["id"], said["layout"], said["resolution"]) == ("starter", "SD1", 64)
    assert said["drawing"]["steps"] == 8 and said["training"]["precision"] == "auto"
    assert said["settings_in_file"] == ["drawing.clip_skip"]
    shown = live.run("models", "show", "starter").stdout
    lines = [line.split() for line in shown.splitlines()]
    rows = {line[0]: line[1:] for line in lines if line and line[0].startswith(("drawing.", "training."))}
    assert rows["drawing.clip_skip"] == ["2", "the", "file"]
    assert rows["drawing.guidance_scale"] == ["4", "the", "model"]
    assert rows["drawing.karras_sigmas"] == ["false", "the", "model"]
    assert rows["drawing.scheduler"] == ['""', "the", "model"] and len(rows) == 13
    assert "prediction_type   v_prediction" in shown
    assert "drafts: lcm-mine.safetensors (128.7 MiB) at 0.8, 4 steps by LCMScheduler" in shown
    assert "Images as prompts need an IP-Adapter." in shown
    assert "ファイル" in live.run("models", "show", "starter", "--lang", "ja").stdout


def test_export(live, tmp_path):
    out = tmp_path / "deep" / "unit-1.safetensors"
    said = live.json("models", "export", "unit-1", "--out", str(out))
    assert out.read_bytes() == b"adapter of models/m1"
    assert said == {"file": str(out), "digest": hashlib.sha256(out.read_bytes()).hexdigest(), "size_bytes": 20}
    done = live.run("models", "export", "unit-1", "--format", "merged", "--out", str(tmp_path / "m"))
    assert done.returncode == 2
    assert "not served yet" in done.stderr
    assert not (tmp_path / "m").exists()


def test_rollback(live):
    assert live.json("models", "rollback")["current"]["display_name"] == "unit-1"


def test_merge_needs_two_and_is_not_served(live):
    assert live.run("models", "merge", "unit-1", "--name", "x").returncode == 2
    assert live.run("models", "merge", "unit-1", "unit-2", "--name", "x").returncode == 2


def test_a_wrong_token_is_refused(live):
    done = live.run("models", "list", env={"KONOMI_TOKEN": "wrong"})
    assert done.returncode == 4
    assert "expected the owner's token" in done.stderr
    assert "wrong" not in done.stderr


def test_the_base_models_at_hand_and_those_to_fetch_say_what_they_draw_and_what_comes_next(live):
    lines = {line["id"]: line for line in live.json("models", "bases")["bases"]}
    assert set(lines) > {"starter", "sd15", "sdxl", "z-image", "chroma1-hd", "qwen-image"}
    starter, sdxl = lines["starter"], lines["sdxl"]
    assert (starter["here"], starter["layout"], starter["fit"], starter["hours"]) == (True, "SD1", "REDUCED", None)
    assert starter["draws"].startswith("illustrated portraits") and starter["licence"] == "Apache-2.0"
    assert starter["next"] == "konomi night plan converge --base starter --trial"
    assert (sdxl["here"], sdxl["licence"], sdxl["next"]) == (
        False,
        "CreativeML Open RAIL++-M",
        "konomi models fetch sdxl",
    )
    shown = live.run("models", "bases")
    assert "fits, slowly" in shown.stdout and "konomi models fetch sd15" in shown.stdout
    assert "compare --bases" not in shown.stderr, "one alone cannot be compared"
    assert "人物イラスト" in live.run("models", "bases", "--lang", "ja").stdout


def test_a_plan_for_a_base_model_that_is_not_here_says_so(live):
    done = live.run("night", "plan", "converge", "--base", "sdxl", "--trial")
    assert done.returncode == 1 and "there is no base model sdxl here; at hand: starter" in done.stderr


def test_prompts_of_a_taste_are_written_down_shown_and_forgotten(live, tmp_path):
    (tmp_path / "p.txt").write_text("a temple\n\na cat\n")
    said = live.json("taste", "prompts", "--set", str(tmp_path / "p.txt"))
    assert said == {"taste": "tastes/default", "prompts": ["a temple", "a cat"], "from": "kept"}
    assert live.run("taste", "prompts").stdout.splitlines() == ["a temple", "a cat"]
    assert live.json("taste", "prompts", "--clear")["prompts"] == []
    done = live.run("taste", "prompts", "--set", str(tmp_path / "gone.txt"))
    assert done.returncode == 2 and "cannot read the prompts" in done.stderr


@pytest.mark.parametrize(
    ("labels", "words"),
    [(0, "11 comparisons of two images, and no grades"), (30, "11 comparisons of two images beside")],
)
def test_a_rater_of_pairs_alone_says_that_there_are_no_grades(labels, words, capsys):
    shown = rater_pb2.RaterVersion(name="tastes/t/raterVersions/1", label_count=labels, comparison_count=11)
    fit._print(shown, as_json=False)
    assert words in capsys.readouterr().out
