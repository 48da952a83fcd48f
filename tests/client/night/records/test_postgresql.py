"""A night whose host died goes on on another one that shares the database: the same artifacts, no finished step again.

The stand-ins of both hosts keep their state in one place, as real services do in a database and a bucket.
"""

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from konomi.errors import FailedPrecondition, Unavailable
from konomi.night.records import postgresql as shared
from konomi.night.records.journal import NAME
from konomi.night.records.store import NightStore
from tests.client.night import nights

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    bench = nights.Bench(tmp_path_factory.mktemp("hosts"))
    yield bench
    bench.close()


@pytest.fixture
def url(postgresql) -> str:
    return postgresql.database()


@pytest.fixture
def hosts(bench, url, tmp_path) -> tuple[Path, Path]:
    """Two homes whose services have their rows and artifacts in common; nothing else of one is seen by the other."""
    made = []
    for name in ("first", "second"):
        home = bench.home(f"{tmp_path.name}-{name}")
        for common in ("databases", "artifacts"):
            (tmp_path / common).mkdir(exist_ok=True)
            (home / common).symlink_to(tmp_path / common, target_is_directory=True)
        (home / "konomi.toml").write_text(f'[database]\nurl = "{url}"\n')
        made.append(home)
    return made[0], made[1]


def kill_all(home: Path, child) -> None:
    """Kills the night and its services at once, as a power cut does."""
    child.kill()
    for pid in nights.roles_of(home).values():
        nights.kill(pid)
    child.communicate(timeout=60)


def wait_for_steps(home: Path, child, count: int) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and child.poll() is None:
        if any(len(path.read_bytes().splitlines()) >= count for path in home.glob(f"nights/*/{NAME}")):
            return
        time.sleep(0.02)
    raise AssertionError(child.communicate(timeout=10)[1])


def steps_of(home: Path) -> list[bytes]:
    (path,) = home.glob(f"nights/*/{NAME}")
    return path.read_bytes().splitlines()


def test_a_night_whose_host_died_goes_on_on_another_one(bench, hosts, postgresql):
    alone, (first, second) = bench.home("alone"), hosts
    code, said, err = bench.konomi(alone, *bench.start(alone))
    assert code == 0, err
    left, once = nights.left_behind(alone, said["night"]), Counter(nights.calls(alone))

    child = bench.spawn(first, *bench.start(first), STAND_IN_SECONDS="0.05")
    wait_for_steps(first, child, 4)
    time.sleep(0.3)
    kill_all(first, child)
    done = steps_of(first)
    assert not (first / "databases" / "night.sqlite").exists() and not list(second.glob("nights/*"))

    code, said, err = bench.konomi(second, "night", "resume", "--json")
    assert code == 0, err
    assert said["state"] == "finished" and nights.left_behind(second, said["night"]) == left
    assert steps_of(second)[: len(done)] == done[: len(steps_of(second))], "what was finished stays as it was"
    again = (Counter(nights.calls(first)) + Counter(nights.calls(second))) - once
    assert sum(again.values()) <= 1, f"only the call under way is made twice: {again}"

    code, said, err = bench.konomi(first, "night", "resume", "--json")
    assert code != 0 and "there is no unfinished night" in err, "the first host hears of the end when it is back"
    assert nights.left_behind(first, NightStore(first).latest()) == left


def test_a_restart_of_the_server_in_the_middle_of_a_night_costs_no_finished_step(bench, hosts, postgresql):
    first, _ = hosts
    child = bench.spawn(first, *bench.start(first), STAND_IN_SECONDS="0.05")
    wait_for_steps(first, child, 3)
    postgresql.stop("fast")
    time.sleep(2)
    postgresql.start()
    out, err = child.communicate(timeout=500)
    code, said = child.returncode, out.strip().splitlines()[-1:]
    if code:  # it struck while a step was being noted
        assert code == 3 and "cannot be reached" in err and "the same command goes on" in err, err
        code, ended, err = bench.konomi(first, "night", "resume", "--json")
        said = [json.dumps(ended)]
    assert code == 0, err
    assert json.loads(said[0])["state"] == "finished"
    again = [call for call, times in Counter(nights.calls(first)).items() if times > 1]
    assert len(again) <= 1, "only the step under way is done again"


def test_a_living_host_keeps_its_night_and_is_named(bench, hosts, url, monkeypatch):
    first, second = hosts
    monkeypatch.setattr(shared.socket, "gethostname", lambda: "cellar")
    told = []
    said = "Another host, cellar, runs a night on this database"
    with (
        NightStore(first).hold(),
        pytest.raises(FailedPrecondition, match=said) as caught,
        shared.held(url, told.append, seconds=0.3),
    ):
        raise AssertionError
    assert caught.value.reason == "NIGHT_RUNNING" and len(told) == 1 and "cellar" in told[0]
    with NightStore(second).hold():
        pass


def test_a_host_that_lost_its_lock_writes_nothing_more(hosts, url, postgresql):
    with shared.held(url, print) as mine:
        mine.keep("n", {"request.json": b"mine"})
        postgresql.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='konomi_nights'")
        with shared.held(url, print) as theirs:
            theirs.keep("n", {"request.json": b"theirs"})
            for write in (
                lambda: mine.keep("n", {"request.json": b"late"}),
                lambda: mine.keep_steps("n", 0, [b"late"]),
            ):
                with pytest.raises(FailedPrecondition, match="runs a night on this database") as caught:
                    write()
                assert caught.value.reason == "NIGHT_RUNNING"
            assert theirs.records("n") == {"request.json": b"theirs"} and theirs.steps("n") == []


def test_a_server_that_is_restarted_costs_a_night_nothing_and_one_that_stays_away_is_said(
    hosts, postgresql, url, monkeypatch
):
    with shared.held(url, print) as records:
        postgresql.stop("fast")
        postgresql.start()
        records.keep("n", {"request.json": b"after"})
        assert records.records("n") == {"request.json": b"after"}
        with pytest.raises(FailedPrecondition, match="runs a night"), shared.held(url, print, seconds=0.3):
            raise AssertionError
        monkeypatch.setattr(shared, "AGAIN_SECONDS", 0.5)
        postgresql.stop("fast")
        try:
            with pytest.raises(Unavailable, match=r"cannot be reached: .*; the same command goes on") as caught:
                records.keep_steps("n", 0, [b"late"])
            assert caught.value.reason == "DATABASE_UNREACHABLE"
        finally:
            postgresql.start()


def test_records_of_before_there_was_a_database_are_taken_there_and_ahead_is_who_did_more(bench, url, tmp_path):
    home, other = bench.home(f"{tmp_path.name}-old"), bench.home(f"{tmp_path.name}-new")
    folder = home / "nights" / "n1"
    folder.mkdir(parents=True)
    for name, said in (("request.json", "{}"), ("night.json", '{"state": "stopped"}'), (NAME, "one\ntwo\n")):
        (folder / name).write_text(said)
    for place in (home, other):
        (place / "konomi.toml").write_text(f'[database]\nurl = "{url}"\n')
    NightStore(home).refresh()
    NightStore(other).refresh()
    theirs = other / "nights" / "n1"
    assert {path.name: path.read_bytes() for path in theirs.iterdir()} == {
        path.name: path.read_bytes() for path in folder.iterdir()
    }
    with (theirs / NAME).open("a") as file:  # ran on without the database
        file.write("three\n")
    (theirs / "night.json").write_text('{"state": "finished"}')
    NightStore(other).refresh()
    with (folder / NAME).open("a") as file:  # did the same step itself, and never told
        file.write("drei\n")
    NightStore(home).refresh()
    assert (folder / NAME).read_text() == "one\ntwo\nthree\n"
    assert json.loads((folder / "night.json").read_text()) == {"state": "finished"}
    (folder / "delivered").touch()  # noted after the lock was given back
    NightStore(home).refresh()
    NightStore(other).refresh()
    assert (theirs / "delivered").exists()


def test_a_name_in_the_database_never_leads_out_of_the_home(hosts, url):
    with shared.held(url, print) as records:
        for name in ("../out", "/out", "..", "a/b", ""):
            records.keep(name, {"request.json": b"{}", "night.json": b"{}"})
    before = sorted(path for path in hosts[0].parent.rglob("*") if "nights" not in path.parts[-2:])
    NightStore(hosts[0]).refresh()
    assert sorted(path for path in hosts[0].parent.rglob("*") if "nights" not in path.parts[-2:]) == before
    assert sorted(path.name for path in (hosts[0] / "nights").iterdir()) == ["lock", "pid"]


def test_what_is_the_same_in_both_is_read_in_neither(hosts, monkeypatch):
    first, _ = hosts
    folder = first / "nights" / "n1"
    folder.mkdir(parents=True)
    for name in ("request.json", "night.json"):
        (folder / name).write_text("{}")
    (folder / NAME).write_text("one\n")
    NightStore(first).refresh()
    monkeypatch.setattr(shared.SharedRecords, "records", None)
    monkeypatch.setattr(shared.SharedRecords, "steps", None)
    NightStore(first).refresh()


@pytest.mark.parametrize(
    ("wrong", "words", "reason"),
    [
        ("mysql://me@host/x", "names no PostgreSQL database", "DATABASE_URL_INVALID"),
        ("postgresql://me@host", "names no PostgreSQL database", "DATABASE_URL_INVALID"),
    ],
)
def test_a_url_that_cannot_be_is_refused_in_words(tmp_path, wrong, words, reason):
    (tmp_path / "konomi.toml").write_text(f'[database]\nurl = "{wrong}"\n')
    with pytest.raises(FailedPrecondition, match=words) as caught:
        NightStore(tmp_path).refresh()
    assert caught.value.reason == reason


def test_off_this_machine_the_records_travel_encrypted(tmp_path, monkeypatch):
    def address(url: str) -> str:
        monkeypatch.setenv("KONOMI_DATABASE_URL", url)
        return shared.address_of(tmp_path)

    assert address("postgresql://me@db.example/k") == "postgresql://me@db.example/k?sslmode=require"
    assert address("postgresql+psycopg://me@db/k?sslmode=verify-full") == "postgresql://me@db/k?sslmode=verify-full"
    assert address("postgresql:///k?host=/run/pg") == "postgresql:///k?host=/run/pg"
    monkeypatch.setattr(shared, "find_spec", lambda _name: None)
    with pytest.raises(FailedPrecondition, match=r"pip install 'konomi\[postgres\]'"):
        address("postgresql:///k")


def test_a_database_that_is_away_says_so(tmp_path):
    (tmp_path / "konomi.toml").write_text(f'[database]\nurl = "postgresql://me@/k?host={tmp_path}"\n')
    with pytest.raises(Unavailable, match="cannot be reached"):
        NightStore(tmp_path).refresh()
