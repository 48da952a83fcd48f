"""A value that is costly to make, such as what needs torch: made once, at its first use or ahead of it."""

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class LazyValue(Generic[T]):
    """Makes a value at its first use; whoever asks while it is being made waits for it. Safe from many threads.

    A service warms it in a thread of its own once it serves (`ServedService.warm`), so that its port opens early and
    the first use is not slow either. Importing under this one lock also keeps two threads from importing libraries that
    import each other, where Python hands out half of a module rather than wait for ever.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """Takes what makes the value; where that raises, the next use tries again."""
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        """Returns the value, made now where it is not there yet; raises what making it raises."""
        if not self._made:
            with self._lock:
                if not self._made:
                    self._made.append(self._make())
        return self._made[0]

    @property
    def if_made(self) -> T | None:
        """The value, or None where nobody has used it yet, or it is still being made."""
        return self._made[0] if self._made else None


class LazyServicer:
    """The rpcs of a servicer that is made at its first use; a call that comes before waits for it.

    The generated `add_…Servicer_to_server` takes it as it takes the servicer itself.
    """

    def __init__(self, servicer: LazyValue[Any], ready: object = None) -> None:
        """Takes the servicer to come, and an object with the rpcs that need not wait for it."""
        self._servicer, self._ready = servicer, ready

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if hasattr(self._ready, name):
            return getattr(self._ready, name)
        return lambda request, context: getattr(self._servicer(), name)(request, context)
