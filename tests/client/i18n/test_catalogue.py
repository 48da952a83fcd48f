"""The front of the catalogue: languages found by their files, plurals, fallback; and every language complete."""

import json
import subprocess
import sys

import pytest

from hatch_build import PACKAGE, PAGE, page_words
from konomi.cli import commands
from konomi.i18n import catalogue
from konomi.i18n.catalogue import plural, text
from tests.client.i18n.pseudo import CODE, add_language, pseudo
from tests.contract.source_tree import ROOT


@pytest.fixture(autouse=True)
def english():
    yield
    catalogue.use("en")


@pytest.fixture
def another(tmp_path, monkeypatch):
    """A language more than konomi ships, made of one .po file."""
    add_language(tmp_path)
    monkeypatch.setattr(catalogue, "FOLDER", tmp_path / "locale")
    return tmp_path


def test_the_languages_are_those_that_were_built():
    assert catalogue.languages() == ("en", "ja")


@pytest.mark.slow
def test_every_language_is_complete_and_holds_nothing_unused():
    done = subprocess.run(
        [sys.executable, ".ci/words.py", "check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_po_file_is_a_language(another, capsys):
    assert catalogue.languages() == ("en", CODE)
    assert catalogue.choose({"LANG": f"{CODE}_XX.UTF-8"}) == CODE
    assert commands.run(["--lang", CODE, "--help"]) == 0
    assert pseudo("Show the version.") in capsys.readouterr().out
    assert commands.run(["--lang", "ja", "--help"]) == 2
    assert "en|eo" in capsys.readouterr().err
    words = json.loads((another / PAGE / f"{CODE}.json").read_text("utf-8"))
    assert words["undo"] == pseudo("Undo") and list(words) == list(page_words(PACKAGE))
    assert json.loads((another / PAGE / "languages.json").read_text("utf-8"))[CODE] == "Esperanto"


def test_a_reader_is_spoken_to_in_their_language_for_a_while():
    with catalogue.speaking("ja-JP"):
        assert text(catalogue.N_("error")) == "エラー"
    assert text("error") == "error"


def test_a_number_chooses_its_form():
    assert plural("{count} unit", "{count} units", 1) == "1 unit"
    assert plural("{count} unit", "{count} units", 3) == "3 units"


def test_text_falls_back_to_english():
    catalogue.use("ja")
    assert text("no such sentence {x}", x=1) == "no such sentence 1"
    assert text("error") == "エラー"
    assert text("") == ""


def test_a_key_of_the_page_stands_once(tmp_path):
    (tmp_path / PAGE).mkdir(parents=True)
    (tmp_path / PAGE / "en.json").write_text('{"undo": "Undo", "redo": "Redo", "undo": "Back"}', "utf-8")
    with pytest.raises(ValueError, match="got twice: undo"):
        page_words(tmp_path)


def test_words_of_libraries_are_of_the_language_in_use_and_only_meanwhile(monkeypatch):
    import gettext

    monkeypatch.setenv("LANGUAGE", "fr")
    catalogue.use("ja")
    with catalogue.spoken_by_libraries():
        assert gettext.gettext("Options") == "オプション"
    assert gettext.gettext("Options") == "Options"


@pytest.mark.parametrize(
    ("parent", "told"), [("元のモデル", "元のモデルを残しました"), ("unit-1", "unit-1 を残しました")]
)
def test_a_name_stands_in_a_japanese_sentence_as_its_own_script_is_set(parent, told):
    english = "{parent} stays: in the rater's eyes unit-{unit} won only {win_rate} of the pairs against it."
    with catalogue.speaking("ja"):
        assert text(english, parent=parent, unit=2, win_rate="40 %").startswith(told)
        assert "unit-2 の勝率は 40 % に" in text(english, parent=parent, unit=2, win_rate="40 %")
