"""A fit whose caller left stops: over a real socket, bound by the work that is still done, not by a clock."""

import threading
import uuid

import grpc
import pytest

from konomi.v1 import rater_pb2 as pb
from konomi_rater.preference import gaussian_process
from konomi_rater.usecases.fitting import versions
from tests.rater.conftest import grades_of

MOST_MORE = 2
"""Evaluations of the likelihood a fit may still begin once its caller is known to have left; a whole one has dozens."""


class Held:
    """The likelihood of a fit, held at its third evaluation until somebody lets it go on; counts those that follow."""

    def __init__(self, monkeypatch) -> None:
        self._evidence, self.count, self.after = gaussian_process._evidence, 0, 0
        self.begun, self.go_on, self.ended = threading.Event(), threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self._fit = versions.fitting.fit
        monkeypatch.setattr(gaussian_process, "_evidence", self.evidence)
        monkeypatch.setattr(versions.fitting, "fit", self.fit)

    def evidence(self, *arguments):
        self.count += 1
        if self.go_on.is_set():
            self.after += 1
        if self.count == 3:
            self.begun.set()
            assert self.go_on.wait(60)
        return self._evidence(*arguments)

    def fit(self, training, seed, check, threads):
        self.check = check
        try:
            yield from self._fit(training, seed, check, threads)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()

    def caller_is_gone(self) -> bool:
        try:
            self.check()
        except Exception:  # noqa: BLE001  that is how it says so
            return True
        return False


def begin(rater, taste: str, timeout: float = 120):
    request = pb.FitRaterRequest(taste=taste, request_id=str(uuid.uuid4()))
    call = rater.stub.FitRater(request, timeout=timeout)
    reader = threading.Thread(target=lambda: _drain(call), daemon=True)
    reader.start()
    return call


def _drain(call) -> None:
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass


def wait_until(condition, turns: int = 2000) -> None:
    pause = threading.Event()
    for _ in range(turns):
        if condition():
            return
        pause.wait(0.02)
    raise AssertionError("it never came about")


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_a_fit_whose_caller_left_stops_at_the_next_step(rater, library, monkeypatch, how):
    rater.label(library.taste, grades_of(library, library.digests[:60]))
    held = Held(monkeypatch)
    call = begin(rater, library.taste, timeout=4 if how == "deadline" else 120)
    assert held.begun.wait(60)
    if how == "cancelled":
        call.cancel()
    wait_until(held.caller_is_gone)
    held.go_on.set()
    assert held.ended.wait(60)
    assert held.after <= MOST_MORE
    assert getattr(held.error, "reason", "") == "CANCELLED"
    monkeypatch.undo()
    assert not rater.call("ListRaterVersions", pb.ListRaterVersionsRequest(taste=library.taste)).rater_versions
    assert rater.fit(library.taste).active, "the rater goes on for those who stay"


def test_a_fit_whose_caller_stays_goes_on_to_the_end(rater, library, monkeypatch):
    rater.label(library.taste, grades_of(library, library.digests[:60]))
    held = Held(monkeypatch)
    begin(rater, library.taste)
    assert held.begun.wait(60)
    held.go_on.set()
    wait_until(
        lambda: len(rater.call("ListRaterVersions", pb.ListRaterVersionsRequest(taste=library.taste)).rater_versions)
    )
    assert held.error is None and held.after > 5 * MOST_MORE
