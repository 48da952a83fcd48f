"""A queue that gives everybody a turn: people in turn, and each person's calls in turn, so that nobody is starved."""

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Items by person and call; a person with many calls gets no more turns than one with a single call."""

    def __init__(self) -> None:
        self._people: OrderedDict[str, OrderedDict[object, deque[T]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, person: str, call: object, item: T) -> None:
        """Adds an item behind the others of its call."""
        self._people.setdefault(person, OrderedDict()).setdefault(call, deque()).append(item)
        self._count += 1

    def take(self) -> T:
        """Removes and returns the item whose turn it is.

        Raises:
            LookupError: the queue is empty.
        """
        person, calls = next(iter(self._people.items()), (None, None))
        if person is None or calls is None:
            raise LookupError("expected an item, the queue is empty")
        call, items = next(iter(calls.items()))
        item = items.popleft()
        self._count -= 1
        calls.move_to_end(call)
        self._people.move_to_end(person)
        if not items:
            del calls[call]
        if not calls:
            del self._people[person]
        return item
