"""`konomi pick`: the best of a folder, copied or linked elsewhere, nothing moved, nothing asked twice."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from konomi.taste.scoring import checksum


@pytest.fixture
def shoot(tmp_path, png) -> Path:
    folder = tmp_path / "shoot"
    (folder / "deep").mkdir(parents=True)
    for number in range(12):
        (folder / f"{number:02}.png").write_bytes(png(number, f"p{number}"))
    (folder / "deep" / "00.png").write_bytes(png(99, "deep"))
    (folder / "notes.txt").write_text("no image")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shade(data: bytes) -> int:
    """The stand-in's score goes by this byte."""
    return hashlib.sha256(data).digest()[0]


def test_the_best_are_copied_elsewhere_and_nothing_is_moved(live, shoot, tmp_path):
    before = contents(shoot)
    said = live.json("pick", str(shoot), "--count", "3", "--to", str(tmp_path / "best"))
    assert said["images"] == 13 and said["failed"] == []
    ranked = sorted((path for path in shoot.rglob("*.png")), key=lambda path: (-shade(path.read_bytes()), str(path)))
    assert [one["path"] for one in said["picked"]] == [str(path) for path in ranked[:3]]
    assert [one["rank"] for one in said["picked"]] == [1, 2, 3]
    assert said["picked"][0]["reason"].startswith("most likely SR (40 %), lower bound ")
    assert sorted(contents(tmp_path / "best")) == [f"{rank}-{path.name}" for rank, path in enumerate(ranked[:3], 1)]
    assert Path(said["picked"][0]["written"]).read_bytes() == ranked[0].read_bytes()
    assert contents(shoot) == before
    again = live.json("pick", str(shoot), "--count", "3", "--to", str(tmp_path / "best"))
    assert again == said, "what lies there already is the same"
    table = live.run("pick", str(shoot), "--count", "3")
    assert "picked 3 of 13 images" in table.stdout and "most likely SR" in table.stdout


def test_links_lead_to_the_images_and_what_is_in_an_archive_is_copied(live, shoot, tmp_path, png):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("in/side.png", png(201, "in"))
    said = live.json("pick", str(shoot), str(archive), "--count", "99", "--to", str(tmp_path / "links"), "--link")
    links = [path for path in (tmp_path / "links").iterdir() if path.is_symlink()]
    assert len(said["picked"]) == 14 and len(links) == 13
    assert {path.resolve() for path in links} == set(shoot.rglob("*.png"))
    (copy,) = (path for path in (tmp_path / "links").iterdir() if not path.is_symlink())
    assert copy.name.endswith("-side.png") and copy.read_bytes() == png(201, "in")
    assert (
        live.json("pick", str(shoot), str(archive), "--count", "99", "--to", str(tmp_path / "links"), "--link") == said
    )


def test_nothing_is_overwritten_and_no_folder_is_its_own_source(live, shoot, tmp_path):
    to = tmp_path / "best"
    live.json("pick", str(shoot), "--count", "1", "--to", str(to))
    (there,) = to.iterdir()
    there.write_bytes(b"mine")
    done = live.run("pick", str(shoot), "--count", "2", "--to", str(to))
    assert (done.returncode, done.stdout) == (4, "")
    assert f"{there} is another file already, and nothing is overwritten" in done.stderr
    assert contents(to) == {there.name: b"mine"}
    linked = live.run("pick", str(shoot), "--count", "1", "--to", str(to), "--link")
    assert linked.returncode == 4 and not there.is_symlink()
    inside = live.run("pick", str(shoot), "--to", str(shoot / "deep"))
    assert (inside.returncode, "expected a folder outside" in inside.stderr) == (2, True)
    loose = live.run("pick", str(shoot), "--link")
    assert (loose.returncode, "name it with --to" in loose.stderr) == (2, True)


def test_what_was_scored_is_not_asked_again_and_a_broken_file_is_its_own_error(live, shoot, png):
    (shoot / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bad = shoot.parent / "no.png"
    bad.write_text("none")
    first = live.run("pick", str(shoot), str(bad), "--count", "2", "--one-per-cluster", "--json")
    said = json.loads(first.stdout.splitlines()[-1])
    assert first.returncode == 1 and [one["error"]["reason"] for one in said["failed"]] == ["IMAGE_TYPE"]
    marked = []
    for file in (live.home / "run" / "picks").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if "score" in entry["result"]:
                entry["result"]["score"]["lower_bound"] = 9.5  # only what is taken over can say so
            entry["crc32"] = checksum({name: value for name, value in entry.items() if name != "crc32"})
            marked.append(json.dumps(entry) + "\n")
        file.write_text("".join(marked))
        marked.clear()
    (shoot / "new.png").write_bytes(png(55, "new"))
    again = live.run("pick", str(shoot), str(bad), "--count", "99", "--one-per-cluster", "--json")
    bounds = [one["lower_bound"] for one in json.loads(again.stdout.splitlines()[-1])["picked"]]
    assert len(bounds) == 15 and sum(bound == 9.5 for bound in bounds) == 14
