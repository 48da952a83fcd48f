"""import, label, score, explore on a live home: through the command line, as scripts see it."""

import hashlib
import json
import zipfile

import pytest


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
    assert said == {"labels": 2, "undone": 0, "skipped": 1}
    assert grades(fresh, tmp_path) == {first: 5, third: 1}
    said = fresh.json("label", "--terminal", stdin="4\nz\n2\n")  # the input may simply end
    assert said == {"labels": 2, "undone": 1, "skipped": 0}
    assert grades(fresh, tmp_path) == {first: 5, third: 1, second: 2}
    fresh.json("label", "--terminal", stdin="z\nz\nq\n")  # undo reaches into earlier sittings
    assert grades(fresh, tmp_path) == {first: 5}
    done = fresh.run("label", "--terminal", stdin="1\n2\n3\n4\n")
    assert "3 graded" in done.stdout
    assert "nothing left to grade" in done.stderr
    assert grades(fresh, tmp_path).keys() == set(fresh.digests)
    done = fresh.run("label", "--terminal", stdin="")
    assert "0 graded" in done.stdout


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
