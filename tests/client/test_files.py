"""Files written whole or not at all, and JSON whose bytes are decided by its value."""

import json
import os
import threading
from contextvars import copy_context

import pytest

from konomi.files import (
    canonical,
    derived_id,
    hand_over,
    keep_private,
    open_regular,
    read_json,
    replacing,
    write_atomically,
    write_for_user,
    write_json,
    write_quickly,
)


def modes(path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "folder" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path], "nothing is left beside it"


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path, before):
    path = tmp_path / "file"
    if before is not None:
        path.write_bytes(before)
    with pytest.raises(OSError, match="full"), replacing(path) as file:
        file.write(b"half of it")
        raise OSError("the disk is full")
    assert [entry.name for entry in tmp_path.iterdir()] == ([] if before is None else ["file"])
    assert before is None or path.read_bytes() == before


def test_threads_that_write_one_file_leave_one_of_their_texts(tmp_path):
    path = tmp_path / "file"
    texts = [bytes([65 + number]) * 100_000 for number in range(4)]
    threads = [threading.Thread(target=write_quickly, args=(path, text)) for text in texts for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_bytes() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_a_secret_is_never_readable_by_others_not_even_while_it_is_written(tmp_path):
    path = tmp_path / "secret"
    before = os.umask(0o022)
    try:
        with replacing(path, mode=0o600) as file:
            file.write(b"secret")
            assert [modes(entry) for entry in tmp_path.iterdir()] == ["0o600"]
        write_atomically(tmp_path / "open", b"")
    finally:
        os.umask(before)
    assert (modes(path), modes(tmp_path / "open")) == ("0o600", "0o644")


def test_json_is_read_back_and_belongs_to_its_owner(tmp_path):
    path = tmp_path / "night.json"
    assert read_json(path) == {}
    write_json(path, {"b": 1, "a": "好み"})
    assert path.read_bytes() == '{\n "a": "好み",\n "b": 1\n}'.encode()
    assert read_json(path) == {"a": "好み", "b": 1} and modes(path) == "0o600"


def test_canonical_json_is_decided_by_the_value_alone():
    assert canonical({"b": [1, 2.5], "a": "好"}) == '{"a":"好","b":[1,2.5]}'.encode()
    assert canonical({"a": 1, "b": 2}) == canonical(json.loads('{ "b": 2, "a": 1 }'))


def test_an_id_is_derived_from_its_parts():
    assert derived_id("night", 1, "train") == "b155baa8-b69e-57c8-b49e-47dfe560e7f0", "ids of nights under way stay"
    assert derived_id("night", 1) == derived_id("night", 1) != derived_id("night", 2)


def test_what_is_handed_over_has_its_users_own_permissions(tmp_path):
    def write():
        keep_private()
        write_atomically(tmp_path / "kept", b"")
        write_for_user(tmp_path / "sheet.html", b"")
        (tmp_path / "export" / "images").mkdir(parents=True)
        (tmp_path / "export" / "images" / "0.png").touch()
        hand_over(tmp_path / "export")

    before = os.umask(0o027)
    try:
        copy_context().run(write)
    finally:
        os.umask(before)
    assert (modes(tmp_path / "kept"), modes(tmp_path / "sheet.html")) == ("0o600", "0o640")
    exported = [tmp_path / "export", tmp_path / "export" / "images", tmp_path / "export" / "images" / "0.png"]
    assert [modes(path) for path in exported] == ["0o750", "0o750", "0o640"]


def test_the_name_of_a_file_and_of_new_folders_is_synced(tmp_path, monkeypatch):
    """Without it a power cut right after may take a file that was written."""
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (synced.append(os.readlink(f"/proc/self/fd/{descriptor}")), fsync(descriptor))
    )
    write_atomically(tmp_path / "a" / "b" / "file", b"one")
    assert [str(tmp_path), str(tmp_path / "a")] == sorted(synced)[:2]
    assert synced[-1] == str(tmp_path / "a" / "b")
    synced.clear()
    write_quickly(tmp_path / "c" / "file", b"one")
    assert synced == []


@pytest.mark.parametrize("name", ["a" * 255, "猫" * 85, "x" * 230])
def test_a_name_as_long_as_names_may_be_is_written_and_replaced(tmp_path, name):
    for data in (b"one", b"two"):
        write_atomically(tmp_path / name, data)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: b"two"}


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OSError, match="not a regular file"):
            open_regular(path)
    (tmp_path / "file").write_bytes(b"data")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"data"
