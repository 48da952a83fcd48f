"""Streams become batches without making anyone wait for a full one."""

import queue
import time

import pytest

from konomi_rater.servicer.streams import gather


def test_everything_comes_in_order_in_batches_of_at_most_the_size():
    batches = list(gather(iter(range(100)), 8, 0.05))
    assert [item for batch in batches for item in batch] == list(range(100))
    assert max(map(len, batches)) == 8


def test_a_caller_that_waits_for_each_answer_is_served():
    waiting: queue.Queue = queue.Queue()
    waiting.put(0)
    batches = gather(iter(waiting.get, None), 8, 0.01)
    for number in range(3):
        assert next(batches) == [number]
        waiting.put(number + 1)
    waiting.put(None)
    assert list(batches) == [[3]]


def test_an_error_comes_after_what_was_before_it():
    def items():
        yield 1
        raise ValueError("broken")

    batches = gather(items(), 8, 0.05)
    assert next(batches) == [1]
    with pytest.raises(ValueError, match="broken"):
        next(batches)


@pytest.mark.slow
def test_a_fast_sender_is_slowed_down():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    batches = gather(items(), 4, 0.0)
    next(batches)
    time.sleep(0.3)
    assert len(taken) <= 20
    batches.close()
    time.sleep(0.5)
    count = len(taken)
    time.sleep(0.3)
    assert len(taken) == count
