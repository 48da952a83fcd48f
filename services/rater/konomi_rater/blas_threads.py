"""One BLAS thread for a while, for the whole process and from any number of threads at once.

Two threads of BLAS on matrices of some hundred rows wait for each other longer than they compute as soon as anything
else runs: a fit of 500 labels takes 0.7 s with one and 1.5 to 2.5 s with two. It also ties the result to no number of
cores. threadpoolctl's own context restores what it found, which is wrong once two of them overlap.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import ThreadpoolController


class _OneThread:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limit: object = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._limit = ThreadpoolController().limit(limits=1, user_api="blas")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._limit.restore_original_limits()  # type: ignore[attr-defined]


one_blas_thread = _OneThread()
"""A context in which BLAS uses one thread; the last one to leave gives the others back."""
