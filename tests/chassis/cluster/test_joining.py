"""A head that dies while it is joined: whoever waits is told, and the next one waits for the same attempt."""

import threading

import pytest

from konomi_chassis.cluster.joining import Joining


class Head:
    """Lets in when it is told to, counts who asks, and listens or does not."""

    def __init__(self) -> None:
        self.lets_in, self.listening, self.asked = threading.Event(), True, 0
        self.error: Exception | None = None

    def init(self) -> None:
        self.asked += 1
        self.lets_in.wait(60)
        if self.error is not None:
            raise self.error

    def listens(self) -> None:
        if not self.listening:
            raise ConnectionRefusedError


def test_joining_ends_where_the_head_goes_and_the_next_one_goes_on_with_the_same_attempt() -> None:
    head, joining = Head(), Joining()
    head.listening = False
    for _ in range(2):
        with pytest.raises(TimeoutError):
            joining.join(head.init, head.listens, head_seconds=0.1)
        assert joining.under_way and head.asked == 1
    head.lets_in.set()
    joining.join(head.init, head.listens, head_seconds=3600.0)
    assert not joining.under_way and head.asked == 1, "what came of it is taken by whoever asks next"
    joining.join(head.init, head.listens, head_seconds=3600.0)
    assert head.asked == 2


def test_a_head_that_listens_and_lets_nobody_in_is_given_up_too() -> None:
    head, joining = Head(), Joining()
    with pytest.raises(TimeoutError):
        joining.join(head.init, head.listens, head_seconds=3600.0, most=0.1)
    head.lets_in.set()


def test_what_joining_raises_is_raised_and_it_can_be_tried_again() -> None:
    head, joining = Head(), Joining()
    head.error = ConnectionError("no such cluster")
    head.lets_in.set()
    with pytest.raises(ConnectionError, match="no such cluster"):
        joining.join(head.init, head.listens, head_seconds=3600.0)
    head.error = None
    joining.join(head.init, head.listens, head_seconds=3600.0)
    assert not joining.under_way and head.asked == 2
