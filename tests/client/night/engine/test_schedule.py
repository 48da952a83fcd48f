"""A night at an hour of the day: the hour, the wait, and a real night started by it."""

import signal
import sys
import threading
import time as clock
from datetime import datetime, time, timedelta

import pytest

from konomi.cli.night.schedule import _run, following, parsed, wait_until
from konomi.errors import InvalidArgument
from tests.client.night.engine import evening


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
    ended = home / "report" / "index.html"
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
    assert _run([sys.executable, "-c", script], stopped) == passed_on


@pytest.mark.parametrize(
    ("arguments", "words"), [(("29:00", "converge"), "HH:MM"), (("22:00",), "expected the system after the hour")]
)
def test_a_wrong_schedule_is_refused(bench, arguments, words):
    code, _, err = bench.konomi(bench.home("wrong-hour"), "night", "schedule", *arguments)
    assert code == 2, err
    assert words in err
