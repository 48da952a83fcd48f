"""The queue of nights: its order and its damage, and real nights run by it, killed, and what is done at the end."""

import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from konomi.cli.night import end_action
from konomi.cli.night.end_action import QueueSettings, perform, refuse
from konomi.cli.night.queue import work_through
from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from konomi.home import Home
from konomi.night.records.queue import MOST, SHOWN, NightQueue, QueueState
from konomi.night.records.state import NightState, StateName
from konomi.night.records.store import NightStore
from konomi.web.nights import NightEndpoints, QueueEndpoints
from tests.client.night.engine import evening

STARTED = ("converge", "--units", "1")


@pytest.fixture
def queue(tmp_path: Path) -> NightQueue:
    return NightQueue(tmp_path, lambda: 7.0)


def ids(queue: NightQueue) -> list[str]:
    return [night.id for night in queue.waiting()]


def test_nights_wait_in_order_and_are_moved_and_removed(queue: NightQueue, tmp_path: Path):
    for id in ("aa", "ab", "b"):
        queue.add(STARTED, tmp_path, id)
    assert [(night.added, night.words, night.folder) for night in queue.nights()] == [(7.0, STARTED, str(tmp_path))] * 3
    assert [night.id for night in queue.move("b", 1)] == ["b", "aa", "ab"]
    assert [night.id for night in queue.move("b", 9)] == ["aa", "ab", "b"]
    assert [night.id for night in queue.move("b", 2)] == ["aa", "b", "ab"]
    queue.note("aa", QueueState.RUNNING)
    assert [night.id for night in queue.move("ab", 1)] == ["aa", "ab", "b"], "the one that runs stays in front"
    assert queue.remove("ab").id == "ab" and ids(NightQueue(tmp_path)) == ["aa", "b"]
    for wrong in ("x", ""):
        with pytest.raises(NotFound, match="the queue has no night"):
            queue.remove(wrong)
    with pytest.raises(AlreadyExists) as caught:
        queue.add(STARTED, tmp_path, "b")
    assert caught.value.reason == "NIGHT_EXISTS"
    with pytest.raises(InvalidArgument, match="from 1 on, got 0"):
        queue.move("b", 0)


def test_what_runs_can_be_neither_moved_nor_removed(queue: NightQueue, tmp_path: Path):
    queue.add(STARTED, tmp_path, "a")
    queue.note("a", QueueState.RUNNING)
    with pytest.raises(FailedPrecondition, match="only a night that waits") as caught:
        queue.move("a", 1)
    assert caught.value.reason == "NIGHT_NOT_WAITING"
    with queue.running():
        assert queue.runs
        with pytest.raises(FailedPrecondition, match="konomi night stop") as caught:
            queue.remove("a")
        assert caught.value.reason == "NIGHT_RUNS"
        with pytest.raises(FailedPrecondition) as caught, NightQueue(tmp_path).running():
            pass
        assert caught.value.reason == "QUEUE_RUNS"
    assert not queue.runs
    assert queue.remove("a").id == "a", "its process is gone"


def test_old_nights_make_way_and_a_full_queue_says_so(queue: NightQueue, tmp_path: Path):
    for number in range(SHOWN + 2):
        queue.add(STARTED, tmp_path, str(number))
        queue.note(str(number), QueueState.FINISHED, 0)
    queue.add(STARTED, tmp_path, "new")
    assert [night.id for night in queue.nights()] == [str(number) for number in range(2, SHOWN + 2)] + ["new"]
    for number in range(MOST - 1):
        queue.add(STARTED, tmp_path, f"more-{number}")
    with pytest.raises(ResourceExhausted) as caught:
        queue.add(STARTED, tmp_path)
    assert caught.value.reason == "QUEUE_FULL"


def test_many_who_add_at_once_lose_nothing(queue: NightQueue, tmp_path: Path):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: NightQueue(tmp_path).add(STARTED, tmp_path, str(number)), range(24)))
    assert sorted(ids(queue), key=int) == [str(number) for number in range(24)]


def test_a_damaged_queue_is_read_from_its_copy_and_without_one_says_what_to_do(queue: NightQueue, tmp_path: Path):
    queue.add(STARTED, tmp_path, "a")
    (tmp_path / "queue" / "queue.json").write_bytes(b"\0" * 40)
    assert ids(queue) == ["a"]
    for path in (tmp_path / "queue").glob("queue.*"):
        if path.suffix != ".lock":
            path.write_bytes(b"{")
    with pytest.raises(FailedPrecondition, match=r"queue\.json cannot be read: remove it") as caught:
        queue.nights()
    assert caught.value.reason == "QUEUE_DAMAGED"


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"then_run": "no-such-command now"}, FailedPrecondition, "this machine has no command no-such-command"),
        ({"then_run": "echo 'unfinished"}, InvalidArgument, "cannot be read as a command"),
        ({"then_run": " "}, InvalidArgument, "then_run is empty"),
        ({"then_call": "nowhere"}, InvalidArgument, "then_call is no address apprise knows"),
    ],
)
def test_an_end_that_cannot_come_is_refused_in_the_evening(tmp_path: Path, settings, kind, words):
    with pytest.raises(kind, match=words):
        refuse(QueueSettings(home=tmp_path, **settings))


def test_a_machine_that_nobody_can_send_to_sleep_says_so(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(end_action.sys, "platform", "plan9")
    with pytest.raises(FailedPrecondition, match="then_run"):
        refuse(QueueSettings(home=tmp_path, then_suspend=True))


def test_the_machine_sleeps_unless_somebody_is_awake(tmp_path: Path, monkeypatch, capsys):
    asleep = tmp_path / "asleep"
    code = f"import pathlib; pathlib.Path({str(asleep)!r}).touch()"
    monkeypatch.setitem(end_action.SLEEP, sys.platform, (sys.executable, "-c", code))
    awake = threading.Event()
    awake.set()
    assert perform(QueueSettings(home=tmp_path, then_suspend=True), [], awake) and not asleep.exists()
    assert perform(QueueSettings(home=tmp_path, then_suspend=True, then_seconds=0), [], threading.Event())
    assert asleep.exists() and "goes to sleep in 60 s; Ctrl-C keeps it awake" in capsys.readouterr().err
    failing = QueueSettings(home=tmp_path, then_run=f"{sys.executable} -c 'raise SystemExit(3)'")
    assert not perform(failing, [], threading.Event())
    assert "ended with exit code 3" in capsys.readouterr().err


@pytest.mark.parametrize(("state", "code"), [(StateName.FINISHED, 0), (StateName.HALTED, 5)])
def test_a_night_killed_between_its_end_and_its_note_is_no_failure(tmp_path: Path, capsys, monkeypatch, state, code):
    """What a kill of the queue just then leaves: its night ended and told, and still running by the queue."""
    queue, nights = NightQueue(tmp_path), NightStore(tmp_path)
    queue.add(STARTED, tmp_path, "night")
    queue.note("night", QueueState.RUNNING)
    (nights.folder / "night").mkdir(parents=True)
    nights.write("night", NightState(night="night", state=state, steps=(), units=()))
    nights.deliver("night")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("nothing is left to run"))
    (ended,) = work_through(Home(tmp_path), queue, threading.Event())
    assert (ended.state, ended.code) == (QueueState(state.value), code)
    assert [(night.state, night.code) for night in queue.nights()] == [(QueueState(state.value), code)]
    assert "had come to its end already: converge --units 1" in capsys.readouterr().err


@pytest.mark.slow
def test_nights_run_one_after_another_a_refused_one_keeps_no_other_and_the_end_is_done(bench):
    home, done = bench.home("queue"), bench.folder / "done"
    first = bench.start(home)[2:]
    NightQueue(home).add(("converge", "--prompts", "gone.txt"), home, "00000000-0000-4000-8000-000000000002")
    code, last, err = bench.konomi(home, "night", "queue", "add", *first)
    assert code == 0, err
    queue = NightQueue(home)
    assert last["place"] == 2 and queue.waiting()[1].id == last["id"]
    end = f'{sys.executable} -c "import pathlib; pathlib.Path({str(done)!r}).touch()"'
    child = bench.spawn(home, "night", "queue", "run", "--then-run", end)
    _, err = child.communicate(timeout=300)
    assert child.returncode == 1, "one failed"
    assert [(night.state, night.code) for night in queue.nights()] == [("failed", 2), ("finished", 0)], err
    assert done.exists() and NightStore(home).latest() == last["id"]


@pytest.mark.slow
def test_a_queue_that_was_killed_goes_on_where_its_night_was(bench):
    home = bench.home("killed-queue")
    queue = NightQueue(home)
    night = queue.add(bench.start(home)[2:], home)
    child = bench.spawn(home, "night", "schedule", "22:00", "--once", before=evening.fall)
    record = home / "nights" / night.id / "night.json"
    end = time.monotonic() + 240
    while not (record.exists() and json.loads(record.read_text())["units"]) and time.monotonic() < end:
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.05)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=120) == 0
    assert queue.waiting()[0].state is QueueState.WAITING
    queue.note(night.id, QueueState.RUNNING)  # as kill -9 would have left it
    child = bench.spawn(home, "night", "queue", "run")
    _, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    assert queue.nights()[0].state is QueueState.FINISHED
    assert [path.parent.name for path in (home / "nights").glob("*/request.json")] == [night.id]


@pytest.mark.slow
def test_the_page_adds_a_night_by_the_words_of_its_form(bench, monkeypatch):
    home = bench.home("page-queue")
    for name, value in bench.environment(home).items():
        monkeypatch.setenv(name, value)
    nights = NightEndpoints(Home(home))
    endpoints = QueueEndpoints(Home(home), nights)
    asked = {"system": "converge", "units": 2, "images": 24, "taste": "tastes/default", "seed": 7}
    monkeypatch.chdir(home)
    with pytest.raises(FailedPrecondition, match="no prompts"):  # the stand-in's images have none
        endpoints.add(asked)
    assert endpoints.show({}) == {"nights": [], "runs": False}
    queue = NightQueue(home)
    queue.add(nights.words(asked), home, "a")
    queue.add(("longtail", "--base", "sdxl"), home, "b")
    assert queue.nights()[0].words == (
        "converge",
        "--units",
        "2",
        "--images",
        "24",
        "--taste",
        "default",
        "--seed",
        "7",
    )
    shown = endpoints.move({"id": "b", "place": 1})["nights"]
    assert [(night["id"], night["system"], night["taste"], night["base"]) for night in shown] == [
        ("b", "longtail", "default", "sdxl"),
        ("a", "converge", "default", ""),
    ]
    assert [night["id"] for night in endpoints.remove({"id": "b"})["nights"]] == ["a"]
    with pytest.raises(InvalidArgument, match="expected place from 1 to"):
        endpoints.move({"id": "a", "place": 0})


@pytest.mark.slow
def test_a_night_its_owner_stops_ends_the_work_and_nothing_follows(bench):
    home, done = bench.home("stopped-queue"), bench.folder / "followed"
    queue = NightQueue(home)
    night = queue.add(bench.start(home)[2:], home)
    queue.add(("longtail",), home, "next")
    end = f'{sys.executable} -c "import pathlib; pathlib.Path({str(done)!r}).touch()"'
    child = bench.spawn(home, "night", "queue", "run", "--then-run", end)
    record = home / "nights" / night.id / "night.json"
    deadline = time.monotonic() + 240
    while not (record.exists() and json.loads(record.read_text())["units"]) and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.05)
    code, _, err = bench.konomi(home, "night", "stop")
    assert code == 0, err
    _, err = child.communicate(timeout=240)
    assert "nights still wait" in err and not done.exists()
    assert [one.id for one in queue.waiting()] == [night.id, "next"], "the owner's stop stands"
    assert json.loads(record.read_text())["state"] == "stopped"
