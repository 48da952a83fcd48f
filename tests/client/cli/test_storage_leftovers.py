"""What no service keeps: caches, journals and homes of demos, by age, by lock, and through no link."""

import os
import subprocess
import sys
import time

import pytest

from konomi.cli.demo import new_folder, own_home
from konomi.cli.storage import leftovers
from konomi.cli.storage.command import size
from konomi.cli.storage.leftovers import DiskSpace, demo_homes, old_caches, old_demos, remove_demo, space_of
from konomi.home import Home
from konomi.night.records.store import NightStore
from konomi.night.retention import DAY, StorageSettings

NOW = time.time()


def file(path, days=0.0, count=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * count)
    os.utime(path, (NOW - days * DAY,) * 2)
    return path


def demo(home, name="demo-20261001-120000", days=20.0):
    file(home / name / "databases" / "rater.sqlite", days, 1000)
    os.utime(home / name, (NOW - days * DAY,) * 2)
    return home / name


def test_a_demo_of_its_own_leaves_the_owners_database_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path))
    monkeypatch.setenv("KONOMI_DATABASE_URL", "postgresql:///mine")
    home = own_home()
    assert home.root.parent == tmp_path and home.root.is_dir()
    assert "KONOMI_DATABASE_URL" not in os.environ


def test_caches_go_by_age_and_nothing_else_does(tmp_path):
    old = [
        file(tmp_path / "cache" / "page" / "small" / "a.webp", 31),
        file(tmp_path / "run" / "scores" / "j.jsonl", 31),
    ]
    kept = [
        file(tmp_path / "cache" / "images" / "ab" / "b.safetensors", 29),
        file(tmp_path / "databases" / "rater.sqlite", 400),
        file(tmp_path / "run" / "up.json", 400),
    ]
    assert old_caches(tmp_path, 30, NOW, remove=False) == DiskSpace(2, 20) and all(path.exists() for path in old)
    assert old_caches(tmp_path, 0, NOW, remove=True) == DiskSpace()
    assert old_caches(tmp_path, 30, NOW, remove=True) == DiskSpace(2, 20)
    assert not any(path.exists() for path in old) and all(path.exists() for path in kept)


def test_no_link_leads_out_of_the_home(tmp_path):
    home, outside = tmp_path / "home", tmp_path / "outside"
    precious = file(outside / "cache" / "precious", 400)
    demo(outside)
    home.mkdir()
    (home / "cache").symlink_to(outside / "cache", target_is_directory=True)
    (home / "demo-20260101-000000").symlink_to(outside / "demo-20261001-120000", target_is_directory=True)
    inside = demo(home, "demo-20260202-000000")
    (inside / "models").symlink_to(outside, target_is_directory=True)
    assert old_caches(home, 30, NOW, remove=True) == DiskSpace()
    homes = demo_homes(home)
    assert [each.path for each in homes] == [inside] and homes[0].space == DiskSpace(1, 1000)
    assert remove_demo(homes[0]) and not inside.exists()
    assert precious.exists() and (outside / "demo-20261001-120000").exists()


def test_homes_of_demos_go_by_age_of_the_last_that_was_written(tmp_path):
    settings = StorageSettings(home=tmp_path)
    old, young = demo(tmp_path), demo(tmp_path, "demo-20261128-120000", 1)
    written = demo(tmp_path, "demo-20261002-120000")
    file(written / "nights" / "x" / "night.json", 1)
    for name in ("demo", "demo-mine", "demo-2026-1", "nights"):
        demo(tmp_path, name)
    homes = demo_homes(tmp_path)
    assert {each.path for each in homes} == {old, young, written}
    assert [each.path for each in old_demos(homes, settings, NOW)] == [old]
    assert old_demos(homes, StorageSettings(home=tmp_path, demo_days=0), NOW) == []


def test_a_demo_that_runs_is_left_alone_even_where_it_began_after_the_look(tmp_path):
    folder = demo(tmp_path)
    with Home(folder).held():
        (running,) = demo_homes(tmp_path)
        assert running.held
        assert old_demos([running], StorageSettings(home=tmp_path), NOW + 40 * DAY) == []
        assert not remove_demo(running) and (folder / "databases" / "rater.sqlite").exists()
    with NightStore(folder).lock():
        assert demo_homes(tmp_path)[0].held and not remove_demo(running) and folder.exists()
    assert remove_demo(running) and not folder.exists()


def test_what_a_kill_left_of_one_goes_the_next_time(tmp_path, monkeypatch):
    folder = demo(tmp_path)
    monkeypatch.setattr(leftovers.shutil, "rmtree", lambda *_, **__: None)
    assert not remove_demo(demo_homes(tmp_path)[0])
    monkeypatch.undo()
    (half,) = demo_homes(tmp_path)
    assert half.path.name == f".{folder.name}.going" and old_demos([half], StorageSettings(home=tmp_path), NOW) == [
        half
    ]
    assert remove_demo(half) and not half.path.exists()


def test_a_home_that_is_not_there_takes_nothing(tmp_path):
    assert demo_homes(tmp_path / "none") == [] and space_of(tmp_path / "none") == DiskSpace()


@pytest.mark.parametrize(("count", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 2**30, "5.0 GiB")])
def test_sizes_are_readable(count, words):
    assert size(count) == words


def test_the_policy_is_read_from_the_home_and_a_wrong_one_is_refused(tmp_path, monkeypatch):
    (tmp_path / "konomi.toml").write_text("[storage]\nrejected_days = 90\nkeep_units = 5\n")
    assert (StorageSettings(home=tmp_path).rejected_days, StorageSettings(home=tmp_path).keep_units) == (90, 5)
    monkeypatch.setenv("KONOMI_STORAGE_DEMO_DAYS", "0")
    assert StorageSettings(home=tmp_path).demo_days == 0
    (tmp_path / "konomi.toml").write_text("[storage]\nrejected_days = -1\n")
    with pytest.raises(ValueError, match="rejected_days"):
        StorageSettings(home=tmp_path)


def test_demos_that_begin_at_once_have_a_folder_each(tmp_path):
    root = tmp_path / "konomi"
    folders = [new_folder(root, 1_700_000_000.0) for _ in range(3)]
    assert len(set(folders)) == 3 and all(leftovers.DEMO.fullmatch(folder.name) for folder in folders)
    assert {folder.stat().st_mode & 0o777 for folder in (root, *folders)} == {0o700}


def test_a_demo_that_is_refused_leaves_no_folder(tmp_path):
    strange = tmp_path / "person.json"
    strange.write_text("{}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("KONOMI_", "XDG_"))}
    command = [sys.executable, "-m", "konomi", "demo", "--person", str(strange)]
    done = subprocess.run(
        command, env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    assert 'expected {"name"' in done.stderr and not list(tmp_path.rglob("demo-*"))
