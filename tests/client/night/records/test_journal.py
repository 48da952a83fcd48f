"""What each step left, line by line: durable, cut where it is damaged, kept apart from another schema's."""

from pathlib import Path

import pytest

from konomi.night.records.journal import NAME, StepJournal

ENVELOPES = {f"unit-{n}/train": {"seconds": n + 0.5, "value": {"model": f"m{n}", "word": "好み"}} for n in range(4)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    journal = StepJournal(tmp_path, "s1")
    for step, envelope in ENVELOPES.items():
        journal.append(step, envelope)
    return tmp_path


def test_what_was_noted_is_read_in_its_order_and_noted_once(folder: Path) -> None:
    journal = StepJournal(folder, "s1")
    assert list(journal.entries().items()) == list(ENVELOPES.items())
    size = (folder / NAME).stat().st_size
    journal.append("unit-2/train", {"seconds": 9.0, "value": {}})
    assert (folder / NAME).stat().st_size == size and journal.get("unit-2/train") == ENVELOPES["unit-2/train"]
    assert journal.get("unit-9/train") is None


def test_every_flipped_bit_ends_the_journal_before_its_line(folder: Path) -> None:
    file = folder / NAME
    whole = file.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for place in range(0, len(whole), 3):
        for bit in (1, 32, 128):
            file.write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
            intact = sum(end < place for end in ends)
            assert list(StepJournal(folder, "s1").entries().items()) == list(ENVELOPES.items())[:intact]


def test_a_line_cut_by_a_power_cut_is_gone_and_the_next_one_is_whole(folder: Path) -> None:
    file = folder / NAME
    for cut in (1, 10, 40):
        file.write_bytes(file.read_bytes()[:-cut])
        journal = StepJournal(folder, "s1")
        assert list(journal.entries()) == list(ENVELOPES)[:3]
        journal.append("unit-3/train", ENVELOPES["unit-3/train"])
        assert list(StepJournal(folder, "s1").entries().items()) == list(ENVELOPES.items())


def test_steps_of_another_schema_are_not_this_one_s(folder: Path) -> None:
    journal = StepJournal(folder, "s2")
    assert journal.entries() == {} and journal.foreign
    assert not StepJournal(folder, "s1").foreign


def test_a_folder_in_its_place_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    journal = StepJournal(tmp_path, "s1")
    journal.append("plan", {"seconds": 1.0, "value": {}})
    assert (tmp_path / f"{NAME}.damaged-1").is_dir() and list(StepJournal(tmp_path, "s1").entries()) == ["plan"]
