"""import, label, score, explore on a live home: through the command line, as scripts see it."""

import hashlib
import json
import os
import zipfile
from pathlib import Path

import pytest

from konomi.cli.console import table
from konomi.night.engine import loop
from konomi.night.records.request import NightRequest
from konomi.night.records.state import Selection, StateName, UnitRecord
from konomi.night.records.store import NightStore


def digest(data):
    return hashlib.sha256(data).hexdigest()


def test_import_score_label_explore(live, tmp_path, png):
    pictures = tmp_path / "pictures"
    (pictures / "deep").mkdir(parents=True)
    (pictures / ".hidden").mkdir()
    for shade in range(6):
        infotext = f"a cat, number {shade}\nNegative prompt: dog\nSteps: 20, Sampler: Euler, Seed: {shade}, Size: 8x8"
        (pictures / f"{shade}.png").write_bytes(png(shade, infotext))
    (pictures / "deep" / "seven.png").write_bytes(png(7))
    (pictures / ".hidden" / "no.png").write_bytes(png(99))
    (pictures / "notes.txt").write_text("not an image")
    (pictures / "link.png").symlink_to(pictures / "0.png")

    said = live.json("import", str(pictures))
    assert said == {
        "taste": "tastes/default", "added": 7, "already_known": 0, "rated": 0, "failed": [], "unread": [],
        "passed_over": {"links": 1}}  # fmt: skip
    again = live.run("import", str(pictures))
    assert again.returncode == 0
    assert "0 added, 7 known already, 0 refused" in again.stdout
    assert "starter embedder knows only starter portraits" in again.stderr

    scored = live.json("score", str(pictures))
    assert list(scored) == ["taste", "rater_version", "scores"]
    assert [entry["path"].removeprefix(str(pictures)) for entry in scored["scores"]] == [
        *(f"/{shade}.png" for shade in range(6)),
        "/deep/seven.png",
    ]
    first = scored["scores"][0]
    assert first["grade"] == "SR"
    assert first["lower_bound"] == pytest.approx(first["utility"] - first["std"])
    assert len(first["grade_probabilities"]) == 5
    assert first["rater_version"] == scored["rater_version"]

    table = live.run("score", str(pictures)).stdout
    assert "lower bound" in table and "seven.png" in table

    look = tmp_path / "look"
    explored = live.json("explore", "--count", "3", "--save", str(look))
    assert [image["prompt"] for image in explored["images"]] == [
        "a cat, number 0",
        "a cat, number 1",
        "a cat, number 2",
    ]
    assert [image["seed"] for image in explored["images"]] == [0, 1, 2]
    assert explored["images"][0]["source"] == "IMPORTED"
    assert [image["path"] for image in explored["images"]] == ["0.png", "1.png", "2.png"]
    assert "file: deep/seven.png" in live.run("explain", digest(png(7))).stdout
    assert sorted(path.read_bytes() for path in look.iterdir()) == sorted(
        (pictures / f"{shade}.png").read_bytes() for shade in range(3)
    )


def test_zips_and_bad_files(live, tmp_path, png):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../escape.png", png(100))
        file.writestr("/absolute.png", png(101))
        file.writestr("deep/good.png", png(102))
        file.writestr("good.png", png(103))
        file.writestr("readme.txt", "no")
    broken = tmp_path / "broken.png"
    broken.write_bytes(png(3)[:20] + b"corrupt")
    text = tmp_path / "text.png"
    text.write_text("no image")
    done = live.run("import", str(archive), str(broken), str(text), "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["added"] == 2
    assert [(failure["path"], failure["reason"]) for failure in said["failed"]] == [
        (f"{archive}!../../escape.png", "UNSAFE_NAME"),
        (f"{archive}!/absolute.png", "UNSAFE_NAME"),
        (str(text), "IMAGE_TYPE"),
        (str(broken), "IMAGE_UNREADABLE"),
    ]
    assert not (tmp_path.parent / "escape.png").exists()

    done = live.run("score", str(text), str(archive), "--json")
    assert done.returncode == 1
    scores = json.loads(done.stdout.splitlines()[-1])["scores"]
    assert scores[0]["error"]["reason"] == "IMAGE_TYPE"
    assert [entry.get("grade", entry.get("error", {}).get("reason")) for entry in scores[1:]] == [
        "UNSAFE_NAME", "UNSAFE_NAME", "SR", "SR",
    ]  # fmt: skip


def test_one_sidecar_that_cannot_be_written_ends_nothing_else(live, tmp_path, png):
    long = "猫" * 83 + "z.png"  # a legal name of 254 bytes, and no room for ".xmp"
    for at, name in enumerate((long, "a.png", "b" * 240 + ".png")):
        (tmp_path / name).write_bytes(png(at, "x"))
    done = live.run("score", str(tmp_path), "--write", "xmp", "--json")
    assert done.returncode == 1
    assert f"{tmp_path / long}: its sidecar cannot be written: File name too long" in done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])["scores"]) == 3
    assert {path.name for path in tmp_path.glob("*.xmp")} == {"a.png.xmp", "b" * 240 + ".png.xmp"}


def test_what_is_no_file_is_refused_at_once_and_what_cannot_be_used_in_a_sentence(live, tmp_path, png):
    os.mkfifo(tmp_path / "pipe")
    for command in (["import"], ["score"], ["label", "--import"], ["taste", "import"], ["taste", "verify"]):
        done = live.run(*command, str(tmp_path / "pipe"))
        assert done.returncode in (1, 2) and "Traceback" not in done.stderr, (command, done.stderr)
        assert "is a pipe" in done.stderr or "not a regular file" in done.stderr, (command, done.stderr)
    (tmp_path / "file").write_text("")
    done = live.run("label", "--export", str(tmp_path / "file" / "grades.jsonl"))
    assert (done.returncode, done.stderr) == (4, f"konomi: error: cannot read or write {tmp_path}/file: File exists\n")


def test_an_import_names_what_it_did_not_understand_and_counts_what_it_passed_over(live, tmp_path, png):
    (tmp_path / "a.png").write_bytes(png(61))
    (tmp_path / "a.txt").write_bytes("一只猫在草地上".encode("gbk"))
    (tmp_path / "metadata.jsonl").write_text("{broken\n" * 25)
    for name in ("IMG_1.CR3", "IMG_2.cr3", "x.psd"):
        (tmp_path / name).write_bytes(b"8BPS")
    (tmp_path / "link.png").symlink_to(tmp_path / "a.png")
    done = live.run("import", str(tmp_path))
    assert done.returncode == 0
    assert "not understood: rows of metadata 25, captions 1" in done.stdout
    assert f"{tmp_path}/metadata.jsonl: expected a row with a file_name in line 20" in done.stderr
    assert "and 6 more that was not understood; --json names them" in done.stderr
    assert "3 files are of kinds konomi does not read: .cr3 2, .psd 1; 1 link not followed" in done.stderr
    result = json.loads(live.run("import", str(tmp_path), "--json").stdout)
    assert len(result["unread"]) == 26 and result["passed_over"] == {".cr3": 2, ".psd": 1, "links": 1}
    assert result["unread"][-1] == {
        "path": f"{tmp_path}/a.txt",
        "what": "caption",
        "reason": "CAPTION_UNDECODABLE",
        "message": "it is in no encoding that is known",
    }


@pytest.mark.parametrize("kind", ["psd", "link"])
def test_an_import_of_nothing_konomi_reads_is_no_success(live, tmp_path, png, kind):
    folder = tmp_path / "only"
    folder.mkdir()
    if kind == "psd":
        (folder / "drawing.psd").write_bytes(b"8BPS")
    else:
        (tmp_path / "a.png").write_bytes(png(1))
        (folder / "a.png").symlink_to(tmp_path / "a.png")
    done = live.run("import", str(folder))
    assert done.returncode == 1
    named = {"psd": "1 file is of a kind konomi does not read: .psd 1", "link": "1 link not followed"}[kind]
    assert "no image was found; nothing was imported" in done.stderr and named in done.stderr


def test_a_path_that_is_not_there(live, tmp_path):
    done = live.run("import", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "there is nothing at" in done.stderr
    assert live.run("score", str(tmp_path / "none")).returncode == 1


def test_an_empty_folder_is_no_error_to_score_and_no_success_to_import(live, tmp_path):
    assert live.json("score", str(tmp_path)) == {"taste": "tastes/default", "rater_version": "", "scores": []}
    done = live.run("import", str(tmp_path), "--json")
    assert (done.returncode, done.stderr) == (1, "no image was found; nothing was imported\n")
    assert json.loads(done.stdout)["added"] == 0


@pytest.fixture
def fresh(command_line, tmp_path, png):
    """A home of its own with four images, for labels."""
    process, _ = command_line.up()
    folder = tmp_path / "four"
    folder.mkdir()
    for shade in range(4):
        (folder / f"{shade}.png").write_bytes(png(shade))
    command_line.json("import", str(folder))
    command_line.digests = sorted(digest(png(shade)) for shade in range(4))
    yield command_line
    process.terminate()
    assert process.wait(timeout=20) == 0


def grades(line, tmp_path):
    file = tmp_path / "grades.jsonl"
    line.json("label", "--export", str(file))
    return {entry["digest"]: entry["grade"] for entry in map(json.loads, file.read_text().splitlines())}


def test_labels_by_keys(fresh, tmp_path):
    first, second, third, _ = fresh.digests
    said = fresh.json("label", "--terminal", stdin="5\n \n1\nq\n")
    assert said == {"labels": 2, "undone": 0, "skipped": 1, "checks": 0}
    assert grades(fresh, tmp_path) == {first: 5, third: 1}
    said = fresh.json("label", "--terminal", stdin="4\nz\n2\n")  # the input may simply end
    assert said == {"labels": 2, "undone": 1, "skipped": 0, "checks": 0}
    assert grades(fresh, tmp_path) == {first: 5, third: 1, second: 2}
    fresh.json("label", "--terminal", stdin="z\nz\nq\n")  # undo reaches into earlier sittings
    assert grades(fresh, tmp_path) == {first: 5}
    done = fresh.run("label", "--terminal", stdin="1\n2\n3\n4\n")
    assert "3 graded" in done.stdout
    assert "nothing left to grade" in done.stderr
    assert grades(fresh, tmp_path).keys() == set(fresh.digests)
    done = fresh.run("label", "--terminal", stdin="")
    assert "0 graded" in done.stdout


def test_what_the_newest_night_asks_about_is_shown_first(fresh, tmp_path):
    first, _, third, last = fresh.digests
    fresh.run("label", "--terminal", stdin="5\nq\n")
    nights = NightStore(fresh.home)
    begun = nights.begin(
        "n", lambda: NightRequest("", "n", "tastes/default", "propagate", 7, ["a cat"], ["a cat"], {}, {})
    )
    unit = UnitRecord(unit=1, selection=Selection(confirm=(last, first)))
    nights.write(begun.id, loop.fresh(begun).changed(state=StateName.FINISHED, units=(unit,)))
    fresh.json("label", "--terminal", stdin="2\nq\n")
    assert grades(fresh, tmp_path) == {first: 5, last: 2}, "what has a grade is asked about no more"
    assert third not in grades(fresh, tmp_path)


def test_each_key_is_durable_before_the_next(fresh, tmp_path):
    process = fresh.start("label", "--terminal")
    assert process.stdin is not None and process.stderr is not None
    while "image" not in process.stderr.readline():
        continue
    process.stdin.write("3\n")
    process.stdin.flush()
    assert "image" in process.stderr.readline()  # the next image is shown only now
    process.kill()
    process.communicate()
    assert grades(fresh, tmp_path) == {fresh.digests[0]: 3}


def test_a_wrong_key_in_a_script_is_a_usage_error(fresh, tmp_path):
    done = fresh.run("label", "--terminal", stdin="1\n9\n2\n")
    assert done.returncode == 2
    assert "'9'" in done.stderr
    assert grades(fresh, tmp_path) == {fresh.digests[0]: 1}


def test_grades_from_a_file(fresh, tmp_path):
    first, second, third, _ = fresh.digests
    file = tmp_path / "in.jsonl"
    lines = [{"digest": first, "grade": 5}, {"digest": second, "grade": "SR"}, {"digest": third, "grade": 1}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert fresh.json("label", "--import", str(file)) == {"imported": 3}
    assert grades(fresh, tmp_path) == {first: 5, second: 3, third: 1}


def test_a_file_of_grades_keeps_who_said_them_why_and_when(fresh, tmp_path):
    first, second, third, _ = fresh.digests
    file, again = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    lines = [
        {"digest": first, "grade": 5, "labeller": "owner", "reason": "random", "time": "2026-01-02T03:04:05.678Z"},
        {"digest": second, "grade": 2, "labeller": "ann", "time": "2026-01-02T03:04:06Z"},
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert fresh.json("label", "--import", str(file)) == {"imported": 2}
    assert fresh.json("label", "--export", str(again)) == {"exported": 2}
    assert [json.loads(line) for line in again.read_text().splitlines()] == lines
    for field, wrong in (("reason", "chance"), ("reason", 5), ("time", "yesterday"), ("time", 3), ("labeller", 1)):
        file.write_text(json.dumps({"digest": third, "grade": 5, field: wrong}) + "\n")
        done = fresh.run("label", "--import", str(file))
        assert done.returncode == 2 and f'line 1: expected "{field}": ' in done.stderr, done.stderr
    assert set(grades(fresh, tmp_path)) == {first, second}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_grades_of_a_file_from_windows(fresh, tmp_path, encoding):
    file = tmp_path / "in.jsonl"
    rows = [{"digest": digest, "grade": 5, "note": "a\u2028b"} for digest in fresh.digests]
    file.write_bytes("\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(encoding))
    assert fresh.json("label", "--import", str(file)) == {"imported": 4}
    assert set(grades(fresh, tmp_path).values()) == {5}


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        '{"digest": "short", "grade": 3}',
        '{"digest": "%s", "grade": 6}' % ("0" * 64),
        '{"digest": "%s", "grade": true}' % ("0" * 64),
        "[1, 2]",
    ],
)
def test_a_bad_line_records_nothing(live, tmp_path, line):
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"digest": "0" * 64, "grade": 3}) + "\n" + line + "\n")
    done = live.run("label", "--import", str(file))
    assert done.returncode == 2
    assert "line 2" in done.stderr and "nothing was recorded" in done.stderr


def test_an_unknown_digest_is_refused_by_the_rater(live, tmp_path):
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps({"digest": "0" * 64, "grade": 3}) + "\n")
    done = live.run("label", "--import", str(file))
    assert done.returncode == 1
    assert "no image" in done.stderr
    assert live.run("label", "--import", str(tmp_path / "none")).returncode == 2


@pytest.mark.parametrize(("liked", "told"), [(0, False), (19, False), (20, True)])
def test_what_is_still_unseen_is_told_only_where_enough_was_liked_to_tell(liked, told):
    from konomi.cli.images.explore import _discovery
    from konomi.v1 import rater_pb2

    line = _discovery(rater_pb2.Discovery(unseen_likes=1.0, liked_showings=liked, labels_since_island=18))
    assert ("100 % of your likes" in line) == told and "18 labels" in line


def test_draw_shows_and_saves_the_best_first(live, tmp_path):
    like, look = "a" * 64, tmp_path / "drawn"
    drawn = live.json("draw", "a cat", "--like", like, "--draft", "--count", "3", "--seed", "5", "--save", str(look))
    assert (drawn["base_model"], drawn["draft"], drawn["like"]) == ("starter", True, [like])
    assert sorted(image["seed"] for image in drawn["images"]) == [5, 6, 7]
    bounds = [image["lower_bound"] for image in drawn["images"]]
    assert bounds == sorted(bounds, reverse=True)
    assert [digest(Path(path).read_bytes()) for path in drawn["saved"]] == [
        image["digest"] for image in drawn["images"]
    ]
    done = live.run("draw", "a cat", "--draft", "--count", "1")
    assert "a cat" in done.stdout and "without --draft draw them in full" in done.stderr
    nothing = live.run("draw")
    assert nothing.returncode == 2 and "say what to draw" in nothing.stderr
    blind = live.run("draw", "--like", like, "--base", "blind")
    assert blind.returncode == 4 and "need an IP-Adapter" in blind.stderr


def test_where_the_output_is_no_terminal_a_row_is_one_line_however_long_a_path(capsys):
    path = "/" + "pictures of a long walk/" * 40 + "seven.png"
    table(["picture", "grade", "lower bound"], [[path, "UR", "2.71"], ["a.png", "[b]N[/b]", "0.12"]])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[1].split("  ")[0] == "picture" and lines[1].endswith("lower bound")
    assert lines[3].startswith(path) and lines[3].endswith("2.71")
    assert lines[4].split() == ["a.png", "[b]N[/b]", "0.12"]
