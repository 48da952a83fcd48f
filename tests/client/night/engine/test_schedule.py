"""A night at an hour of the day: the hour, the wait, and a real night started by it."""

import signal
import sys
import threading
import time as clock
from dataclasses import replace
from datetime import datetime, time, timedelta

import pytest

from konomi.cli.night import ahead
from konomi.cli.night.queue import run_night
from konomi.cli.night.schedule import following, parsed, wait_until
from konomi.errors import AlreadyExists, FailedPrecondition, InvalidArgument
from konomi.home import Home
from konomi.night.engine import trial
from konomi.night.gateway.services import NightServices
from konomi.night.records.store import NightStore
from konomi.v1 import rater_pb2
from tests.client.night.engine import evening
from tests.client.night.engine.test_trial import grade, request


def test_the_next_such_hour_is_today_or_tomorrow():
    evening = time(22, 0)
    assert following(datetime(2026, 11, 22, 21, 59, 59), evening) == datetime(2026, 11, 22, 22, 0)
    assert following(datetime(2026, 11, 22, 22, 0), evening) == datetime(2026, 11, 23, 22, 0)
    assert following(datetime(2026, 12, 31, 23, 0), evening) == datetime(2027, 1, 1, 22, 0)


@pytest.mark.parametrize("wrong", ["25:00", "22", "ten", "22:60", ""])
def test_what_is_no_hour_is_refused(wrong):
    with pytest.raises(InvalidArgument, match="HH:MM"):
        parsed(wrong)


def test_a_clock_that_is_set_forward_ends_the_wait():
    shown = iter([datetime(2026, 1, 1, 0, 0), datetime(2026, 1, 2, 0, 0)])
    looks = []
    stopped = threading.Event()
    begin = datetime(2026, 1, 1, 0, 0, 0, 10_000)
    assert wait_until(begin, lambda: next(shown), stopped, lambda: looks.append(1))
    assert looks == [1]


@pytest.mark.parametrize("days", [1, 2, 30])
def test_a_clock_that_is_set_back_makes_no_wait_of_days(days):
    begin, day = datetime(2026, 1, 3, 22, 0), timedelta(days=1)
    back = begin - days * day
    shown = [begin - timedelta(hours=1), back - timedelta(hours=1), back - timedelta(minutes=1), back]
    looks = iter(shown)
    quick = threading.Event()
    quick.wait = lambda seconds: assert_short(seconds)
    assert wait_until(begin, lambda: next(looks), quick, lambda: None)
    assert next(looks, None) is None, "it begins at ten in the evening of the day the clock shows"


def assert_short(seconds: float) -> bool:
    assert 0 < seconds <= 30
    return False


def test_the_wish_to_stop_ends_the_wait():
    stopped = threading.Event()
    stopped.set()
    assert not wait_until(datetime(2026, 1, 2), lambda: datetime(2026, 1, 1), stopped, lambda: None)


def test_a_night_begins_at_the_hour_and_ctrl_c_ends_the_wait_for_the_next(bench):
    home = bench.home("hour")
    child = bench.spawn(home, "night", "schedule", "22:00", *bench.start(home)[2:], before=evening.fall)
    ended = home / "report" / "index.html"  # the check before the wait refuses nothing
    deadline = clock.monotonic() + 240
    while not ended.exists() and clock.monotonic() < deadline:
        assert child.poll() is None, child.communicate()[1]
        clock.sleep(0.2)
    assert ended.exists()
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=120) == 0


@pytest.mark.parametrize(("code", "passed_on"), [(None, 0), (0, 0), (4, 4)])
def test_a_night_the_wish_to_stop_itself_ended_did_not_fail(tmp_path, code, passed_on):
    """A night has no ear for it while it begins, nor once its report is written (None: such a one)."""
    listens = "" if code is None else f"signal.signal(signal.SIGTERM, lambda *_: sys.exit({code}));"
    ready = tmp_path / "ready"
    script = f"import pathlib, signal, sys, time; {listens} pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    stopped = threading.Event()

    def stop() -> None:
        while not ready.exists():
            clock.sleep(0.01)
        stopped.set()

    threading.Thread(target=stop, daemon=True).start()
    assert run_night([sys.executable, "-c", script], stopped) == passed_on


def test_a_wrong_schedule_is_refused(bench):
    code, _, err = bench.konomi(bench.home("wrong-hour"), "night", "schedule", "29:00", "converge")
    assert code == 2, err
    assert "HH:MM" in err


REFUSED = {
    "units": (2, ("converge", "--units", "9"), "A night makes at most"),
    "plan": (2, ("none.toml",), "the plan none.toml cannot be used"),
    "base": (1, ("converge", "--base", "sdxl"), "there is no base model sdxl here; at hand: redder, starter"),
    "prompts": (4, ("converge",), "The taste's images carry no prompts"),
    "likes": (4, ("golden",), "golden needs 8 images graded UR, and 0 are; grade 8 more UR"),
}
"""Exit code, what is asked for, and what is said."""


def test_what_the_night_would_refuse_at_its_hour_is_refused_at_once_in_the_same_words(bench):
    begun = {}
    for name, (_, words, _) in REFUSED.items():
        for command in (("start",), ("schedule", "22:00")):
            home = bench.home(f"{name}-{command[0]}")
            begun[name, command[0]] = bench.spawn(home, "night", *command, *words)
    said = {}
    for key, child in begun.items():
        out, err = child.communicate(timeout=240)
        said[key] = (child.returncode, out, err)
    for name, (code, _, sentence) in REFUSED.items():
        assert said[name, "start"][0] == code and sentence in said[name, "start"][2]
        assert said[name, "schedule"] == said[name, "start"], "the same code and the same words, and no wait"


def test_what_may_change_until_the_hour_is_only_said(bench):
    home = bench.home("away")
    (home / "stand-in.json").write_text("{}")
    broken = bench.shadow / "konomi_generator" / "__main__.py"
    whole = broken.read_text()
    broken.write_text("import sys\nprint('the disk is busy', file=sys.stderr)\nsys.exit(1)\n")
    code, last, err = bench.konomi(home, *bench.start(home, "--check"))
    broken.write_text(whole)
    assert (code, last) == (0, {"state": "checked"}), err
    assert "this cannot be looked at now, so the night looks for itself at its hour: the generator ended" in err
    assert not list((home / "nights").glob("*/request.json"))


def test_a_trial_that_comes_first_at_the_hour_is_said(hands, capsys):
    grade(hands.home, rater_pb2.SOURCE_IMPORTED)
    (hands.home / "near-liked").write_text("0.0")
    nights = NightStore(hands.home)
    home = Home(hands.home)
    ahead._ask(hands, home, request(), nights, False)
    assert "16 trial images of starter come first at that hour" in capsys.readouterr().err
    trial.look(NightServices(hands, "tastes/default"), request(), hands.home, lambda *beat: None)
    ahead._ask(hands, home, request(), nights, False)
    said = capsys.readouterr().err
    assert "The base model starter cannot draw this taste" in said and "--anyway starts it all the same" in said
    ahead._ask(hands, home, request(), nights, True)
    assert capsys.readouterr().err == ""


def test_a_night_of_other_words_is_refused_unless_it_runs(tmp_path):
    nights, other = NightStore(tmp_path), replace(request(), asked="other words")
    begun = nights.begin(request().asked, request)
    assert ahead._goes_on(nights, request())
    with pytest.raises(FailedPrecondition, match=f"The night {begun.id} is not finished") as caught:
        ahead._goes_on(nights, other)
    assert caught.value.reason == "NIGHT_UNFINISHED"
    with nights.lock():
        assert not ahead._goes_on(nights, other)
    with pytest.raises(AlreadyExists, match="has ended already") as used:
        nights.require_unused(begun.id)
    assert used.value.reason == "NIGHT_EXISTS"
