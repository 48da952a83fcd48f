"""The watch runs what is due, in order, and nothing that was cancelled."""

import threading
import time

from konomi_chassis.rpc.deadlines import DeadlineWatch


def test_due_actions_run_in_order_and_cancelled_ones_never():
    watch, ran, done = DeadlineWatch(), [], threading.Event()
    watch.after(0.15, done.set)
    watch.after(0.10, lambda: ran.append("second"))
    watch.after(0.05, lambda: ran.append("first"))
    cancel = watch.after(0.01, lambda: ran.append("never"))
    cancel()
    assert done.wait(5)
    watch.close()
    assert ran == ["first", "second"]


def test_closing_forgets_what_is_scheduled():
    watch, ran = DeadlineWatch(), threading.Event()
    watch.after(0.2, ran.set)
    watch.close()
    time.sleep(0.3)
    assert not ran.is_set()


def test_an_action_that_fails_does_not_end_the_watch():
    watch, ran = DeadlineWatch(), threading.Event()
    watch.after(0.01, lambda: 1 / 0)
    watch.after(0.05, ran.set)
    assert ran.wait(5)
    watch.close()
