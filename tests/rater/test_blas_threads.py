"""One BLAS thread while anybody wants it, and the number from before once the last has left."""

import threading

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from konomi_rater.blas_threads import one_blas_thread


def threads() -> set[int]:
    np.eye(2) @ np.eye(2)
    return {int(found["num_threads"]) for found in threadpool_info() if found["user_api"] == "blas"}


def test_contexts_that_overlap_in_any_order_give_back_what_was_there() -> None:
    with threadpool_limits(2, user_api="blas"):
        first_is_in, second_is_in = threading.Event(), threading.Event()

        def first() -> None:
            with one_blas_thread():
                first_is_in.set()
                second_is_in.wait(10)

        leaving = threading.Thread(target=first)
        leaving.start()
        assert first_is_in.wait(10)
        with one_blas_thread():
            second_is_in.set()
            leaving.join(10)
            assert threads() == {1}, "the other one left, this one has not"
        assert threads() == {2}
