"""The places of every lane: in all, per caller, for the owner, for callers without a token."""

import contextlib
import threading

import pytest

from konomi.errors import ResourceExhausted
from konomi_chassis.auth.authentication import ANONYMOUS, Principal
from konomi_chassis.rpc.admission import Admission
from konomi_chassis.rpc.lanes import NAMED, OPEN_AT_ONCE, WATCHES_AT_ONCE, CallLane, lane_of
from konomi_chassis.settings import ServerSettings

A, B, OWNER = Principal("a", "tool", "x"), Principal("b", "tool", "x"), Principal("owner", "owner")


@pytest.fixture
def admission(tmp_path):
    return Admission(ServerSettings(home=tmp_path, max_in_flight=5, max_in_flight_per_principal=3, label_reserve=1))


def take(stack, admission, *calls):
    for lane, caller in calls:
        stack.enter_context(admission.admit(lane, caller))


def refused(admission, lane, caller):
    try:
        with admission.admit(lane, caller):
            return False
    except ResourceExhausted as error:
        return error.retry_after is not None and error.reason == "BUSY"


def test_each_caller_has_a_share_of_the_work_and_all_have_a_bound(admission):
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[(CallLane.WORK, A)] * 3)
        assert refused(admission, CallLane.WORK, A)
        take(stack, admission, (CallLane.WORK, B), (CallLane.WORK, OWNER))
        assert refused(admission, CallLane.WORK, B) and refused(admission, CallLane.WORK, OWNER)
        assert not refused(admission, CallLane.LABELS, A) and not refused(admission, CallLane.READS, A)
    assert not refused(admission, CallLane.WORK, A)


@pytest.mark.parametrize("lane", [CallLane.LABELS, CallLane.READS])
def test_whatever_others_do_the_owner_finds_a_place_for_labels_and_reads(admission, lane):
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[(lane, A)] * 3, (lane, B))
        assert refused(admission, lane, B), "the last place is the owner's"
        take(stack, admission, (lane, OWNER))
        assert refused(admission, lane, OWNER)


def test_the_owner_is_bound_by_no_share_of_labels(admission):
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[(CallLane.LABELS, OWNER)] * 5)
        assert refused(admission, CallLane.LABELS, OWNER)


@pytest.mark.parametrize(("lane", "most"), [(CallLane.OPEN, OPEN_AT_ONCE), (CallLane.WATCH, WATCHES_AT_ONCE)])
def test_callers_without_a_token_have_places_of_their_own(admission, lane, most):
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[(lane, ANONYMOUS)] * most)
        assert refused(admission, lane, ANONYMOUS)
        assert not any(refused(admission, named, A) for named in NAMED)
        assert not refused(admission, CallLane.HEALTH, ANONYMOUS)
        assert admission.wait_until_idle(0)


def test_a_place_is_given_back_after_an_error(admission):
    for _ in range(20):
        with pytest.raises(ZeroDivisionError), admission.admit(CallLane.WORK, A):
            raise ZeroDivisionError


def test_waiting_for_the_last_call(admission):
    inside, leave = threading.Event(), threading.Event()

    def call():
        with admission.admit(CallLane.READS, A):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=call)
    thread.start()
    assert inside.wait(5)
    assert not admission.wait_until_idle(0.05)
    leave.set()
    assert admission.wait_until_idle(5)
    thread.join()


@pytest.mark.parametrize(
    ("rpc", "lane"),
    [
        ("/grpc.health.v1.Health/Check", CallLane.HEALTH),
        ("/grpc.health.v1.Health/Watch", CallLane.WATCH),
        ("/konomi.v1.RaterService/RecordLabels", CallLane.LABELS),
        ("/konomi.v1.RaterService/UndoComparison", CallLane.LABELS),
        ("/konomi.v1.RaterService/ListImages", CallLane.READS),
        ("/konomi.v1.ArtifactService/GetArtifact", CallLane.READS),
        ("/konomi.v1.RaterService/ScoreImages", CallLane.WORK),
        ("/konomi.v1.TrainerService/WatchTrainingRun", CallLane.WORK),
    ],
)
def test_the_lane_of_an_rpc(rpc, lane):
    assert lane_of(rpc) is lane


def delay(admission, lane, caller):
    with pytest.raises(ResourceExhausted) as caught, admission.admit(lane, caller):
        pass
    assert f"try again in {caught.value.retry_after:.1f} seconds" in caught.value.message
    return caught.value.retry_after


def test_a_crowd_comes_back_one_after_another_and_costs_other_callers_no_wait(admission):
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[(CallLane.WORK, A)] * 3)
        own = [delay(admission, CallLane.WORK, A) for _ in range(100)]
        assert own == sorted(own) and own[-1] - own[0] > 3
        take(stack, admission, *[(CallLane.WORK, B)] * 2)
        assert delay(admission, CallLane.WORK, B) == 1.0, "the flood of A is A's to wait for"
    with contextlib.ExitStack() as stack:
        take(stack, admission, *[(CallLane.WORK, A)] * 3)
        assert delay(admission, CallLane.WORK, A) == 1.0, "its flood is over"
