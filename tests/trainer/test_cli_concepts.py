"""`konomi concepts teach` and `konomi models merge` from folders to models, against a running trainer."""

import json
from pathlib import Path

import pytest

from konomi.cli import commands
from konomi.client import connect
from konomi.errors import InvalidArgument
from konomi.night.gateway.concepts import captioned, images_of, read_lesson
from konomi.night.gateway.manifests import render
from konomi_starter import installation
from tests.trainer import tiny
from tests.trainer.conftest import Bench


@pytest.fixture
def attached(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """The commands find this trainer."""

    def found() -> object:
        assert bench.server is not None
        return connect(bench.server.address, home=bench.home)

    for module in ("konomi.cli.concepts", "konomi.cli.models.manage"):
        monkeypatch.setattr(f"{module}.attached", found)
    return bench


def folder(path: Path, first: int, captions: tuple[str, ...] = ()) -> Path:
    path.mkdir()
    for index in range(len(captions) or 2):
        (path / f"{index}.png").write_bytes(tiny.png(first + index))
        if captions:
            (path / f"{index}.txt").write_text(captions[index] + "\n")
    return path


def said(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[int, str, str]:
    code = commands.run(line)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.slow
def test_folders_become_concepts_and_concepts_one_model(
    attached: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    installation.install(attached.home)
    captions = ("ink portrait, long hair", "ink portrait, short hair", "comic portrait, beard", "ink portrait, hair")
    real = folder(tmp_path / "real", 50, captions)
    (real / "bare.png").write_bytes(tiny.png(99))
    options = (
        "--base",
        "tiny",
        "--steps",
        "2",
        "--prompt",
        "ink portrait, {}",
        "--regularisation",
        str(real),
        "--json",
    )
    for number, name in enumerate(("one", "two")):
        images = folder(tmp_path / name, 10 * number)
        code, out, err = said(capsys, "concepts", "teach", f"{name}=hair:{images}", "--name", name, *options)
        assert code == 0, err
        model = json.loads(out.splitlines()[-1])
        assert model["display_name"] == name and 1 <= model["metrics"]["regularisation_images"] < 4
        assert "fewer than the 200" in err
    few = tmp_path / "few.txt"
    few.write_text("sea\n")
    code, _, err = said(capsys, "models", "merge", "one", "two", "--name", "both", "--captions", str(few))
    assert code == 2 and "at least 32" in err
    few.write_text("\n".join(captions))
    code, out, err = said(capsys, "models", "merge", "one", "two", "--name", "both", "--captions", str(few), "--json")
    assert code == 0 and json.loads(out.splitlines()[-1])["metrics"]["concepts"] == 2, err


def test_without_regularisation_it_says_so_and_bad_lines_are_usage(
    attached: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, empty = folder(tmp_path / "a", 1), tmp_path / "empty"
    empty.mkdir()
    teach = ("concepts", "teach", f"cat-1=cat:{images}", "--name", "tama", "--base", "tiny", "--steps", "1")
    code, out, err = said(capsys, *teach)
    assert code == 0 and "<cat-1> cat" in out and "no --regularisation folder" in err
    assert said(capsys, *teach, "--lang", "ja")[1].startswith("tama が覚えた言葉")
    assert said(capsys, "concepts", "teach", f"cat-1:{images}", "--name", "x")[0] == 2
    assert said(capsys, *teach, "--prompt", "no slot")[0] == 2
    code, _, err = said(capsys, "concepts", "teach", f"cat-2=cat:{empty}", "--name", "x", "--base", "tiny")
    assert code == 2 and "found none" in err
    code, _, err = said(capsys, *teach, "--regularisation", str(images))
    assert code == 0 and "has a caption" in err
    missing = ("--captions", str(tmp_path / "none.txt"))
    code, _, err = said(capsys, "models", "merge", "tama", "tama", "--name", "x", *missing)
    assert code == 2 and "cannot read" in err


def test_lessons_and_manifests_by_hand(attached: Bench, tmp_path: Path) -> None:
    lesson = read_lesson("<cat-1>=my cat:photos/a:b")
    assert (lesson.token, lesson.class_word, str(lesson.folder)) == ("<cat-1>", "my cat", "photos/a:b")
    for line in ("cat", "Cat=cat:x", "cat=:x", "cat=cat:"):
        with pytest.raises(InvalidArgument):
            read_lesson(line)
    images = images_of(attached.client, folder(tmp_path / "a", 1), "a <a> cat", "selected")
    prior = captioned(attached.client, folder(tmp_path / "b", 2, ("one", "two")))
    document = json.loads(render([*images, *prior]))  # the second image of a is the first of b: it stays selected
    assert len(images) == len(prior) == 2 and [i["role"] for i in document["items"]].count("selected") == 2
    assert [i["digest"] for i in document["items"]] == sorted({item.digest for item in [*images, *prior]})
