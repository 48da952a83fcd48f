"""The places: in all, per caller, for labels, for anonymous callers."""

import contextlib
import threading

import pytest

from konomi.errors import ResourceExhausted
from konomi_chassis.auth.authentication import ANONYMOUS, Principal
from konomi_chassis.rpc.admission import ANONYMOUS_IN_FLIGHT, Admission
from konomi_chassis.settings import ServerSettings

OTHER, LABEL = "/konomi.v1.RaterService/ScoreImages", "/konomi.v1.RaterService/RecordLabels"
A, B, OWNER = Principal("a", "tool", "x"), Principal("b", "tool", "x"), Principal("owner", "owner")


@pytest.fixture
def admission(tmp_path):
    return Admission(ServerSettings(home=tmp_path, max_in_flight=5, max_in_flight_per_principal=3, label_reserve=1))


def take(stack, admission, *calls):
    for rpc, caller in calls:
        stack.enter_context(admission.admit(rpc, caller))


def refused(admission, rpc, caller):
    try:
        with admission.admit(rpc, caller):
            return False
    except ResourceExhausted as error:
        return error.retry_after is not None and error.reason == "BUSY"


def test_each_caller_has_a_share_and_all_have_a_bound(admission):
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[(OTHER, A)] * 3)
        assert refused(admission, OTHER, A)
        take(stack, admission, (OTHER, B))
        assert refused(admission, OTHER, B), "the last place is kept for labels"
        take(stack, admission, (LABEL, OWNER))
        assert refused(admission, LABEL, OWNER)
    assert not refused(admission, OTHER, A)


def test_anonymous_callers_have_their_own_places(admission):
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[("/grpc.health.v1.Health/Watch", ANONYMOUS)] * ANONYMOUS_IN_FLIGHT)
        assert refused(admission, "/grpc.health.v1.Health/Check", ANONYMOUS)
        assert not refused(admission, OTHER, A)
        assert admission.wait_until_idle(0)


def test_a_place_is_given_back_after_an_error(admission):
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), admission.admit(OTHER, A):
            raise ZeroDivisionError


def test_waiting_for_the_last_call(admission):
    inside, leave = threading.Event(), threading.Event()

    def call():
        with admission.admit(OTHER, A):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=call)
    thread.start()
    assert inside.wait(5)
    assert not admission.wait_until_idle(0.05)
    leave.set()
    assert admission.wait_until_idle(5)
    thread.join()
