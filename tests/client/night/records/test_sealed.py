"""Records that notice damage: cut, empty, flipped in any bit, of other kinds, and what is made good from the copy."""

import json
import os
from pathlib import Path

import pytest

from konomi.night.records import sealed

RECORD = {"night": "n", "state": "running", "seconds": 12.5, "steps": [{"name": "plan"}], "words": "好み"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "n" / "night.json"
    sealed.write(path, {"night": "n", "state": "new"})
    sealed.write(path, RECORD)
    return path


def put(path: Path, what: str) -> None:
    """Damages a file in one of the ways a disk, a crash or a person does."""
    whole = path.read_bytes()
    path.unlink()
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "dangling link":
        path.symlink_to(path.with_name("nowhere"))
    else:
        path.write_bytes(
            {
                "cut": whole[: len(whole) // 2],
                "empty": b"",
                "garbage": bytes(range(256)),
                "zeros": bytes(len(whole)),
                "a list": b"[1, 2]",
                "a word": b'"night"',
                "deep": b"[" * 100_000,
                "no number": whole.replace(b"12.5", b"NaN"),
                "half a letter": whole + b"\xe5",
                "lone surrogate": whole.replace(b"running", b"\\ud800"),
            }[what]
        )


DAMAGES = [
    "cut", "empty", "garbage", "zeros", "a list", "a word", "deep", "half a letter", "lone surrogate", "no number",
    "folder", "pipe", "dangling link",
]  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_record_is_read_from_its_copy_and_made_good(path: Path, what: str) -> None:
    put(path, what)
    assert sealed.read(path) == RECORD
    aside = sealed.mend(path)
    assert aside is not None and aside.name == "night.json.damaged-1" and os.path.lexists(aside)
    assert json.loads(path.read_bytes()) == RECORD == sealed.read(path)
    assert sealed.mend(path) is None, "nothing is left to mend"
    put(path, what)
    assert sealed.mend(path).name == "night.json.damaged-2"


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_seal_leaves_the_record_as_it_is_and_is_made_again(path: Path, what: str) -> None:
    seal = sealed.seal_of(path)
    put(seal, what if what != "no number" else "cut")
    assert sealed.read(path) == RECORD
    sealed.mend(path)
    assert json.loads(seal.read_bytes())["sha256"] == sealed.digest(RECORD)


@pytest.mark.parametrize("what", [what for what in DAMAGES if what != "no number"])
def test_without_a_copy_the_damage_is_a_sentence(path: Path, what: str) -> None:
    sealed.seal_of(path).unlink()
    put(path, what)
    with pytest.raises(sealed.Damaged, match=r"n/night\.json is damaged: it is ") as caught:
        sealed.read(path)
    assert caught.value.reason == "RECORD_DAMAGED"


def test_every_flipped_bit_is_noticed_or_harmless(path: Path) -> None:
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            assert sealed.read(path) == RECORD, (place, bit)
    path.write_bytes(whole)
    seal = sealed.seal_of(path)
    held = seal.read_bytes()
    for place in range(len(held)):
        seal.write_bytes(held[:place] + bytes([held[place] ^ 1]) + held[place + 1 :])
        assert sealed.read(path) == RECORD, place


def test_a_kill_between_the_two_files_leaves_a_record_that_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = RECORD
    after = RECORD | {"state": "finished"}
    write = sealed.write_json

    def killed(file: Path, value: object) -> None:
        if file == path:
            raise KeyboardInterrupt
        write(file, value)

    monkeypatch.setattr(sealed, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        sealed.write(path, after)
    assert sealed.read(path) == before, "the state before"
    monkeypatch.undo()
    sealed.write(path, after)
    assert sealed.read(path) == after


def test_records_of_before_there_were_seals_are_read_and_get_one_when_written(tmp_path: Path) -> None:
    path = tmp_path / "night.json"
    path.write_text(json.dumps(RECORD))
    assert sealed.read(path) == RECORD
    sealed.write(path, RECORD | {"state": "stopped"})
    assert json.loads(sealed.seal_of(path).read_text())["before"] == sealed.digest(RECORD)


def test_steps_a_version_without_seals_added_count(path: Path) -> None:
    longer = RECORD | {"steps": [{"name": "plan"}, {"name": "unit-1/train"}]}
    path.write_text(json.dumps(longer))
    assert sealed.read(path) == longer


def test_what_was_never_written_is_empty(tmp_path: Path) -> None:
    assert sealed.read(tmp_path / "night.json") == {} and sealed.mend(tmp_path / "night.json") is None


def test_a_record_somebody_took_away_is_gone_but_what_a_night_did_stays(path: Path) -> None:
    path.unlink()
    assert sealed.read(path) == RECORD
    verdict = path.with_name("verdict.json")
    sealed.write(verdict, {"answers": {}})
    verdict.unlink()
    assert sealed.read(verdict) == {}
