"""What a search for images met besides images: what was there and not understood, and what was passed over."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_NAMED = 1000
"""Things named one by one; what is beyond is counted."""


@dataclass(frozen=True)
class Unread:
    """Something that was there and was not understood.

    Attributes:
        path: the file it stood in, as it is shown.
        what: "rating", "prompt", "seed", "caption" or "row".
        reason: upper-case, for scripts.
        message: the same for people.
    """

    path: str
    what: str
    reason: str
    message: str

    def as_dict(self) -> dict[str, str]:
        """Returns it as JSON has it."""
        return {"path": self.path, "what": self.what, "reason": self.reason, "message": self.message}


Complaint = Callable[[str, str, str], None]
"""Takes what was not understood of one file: what, reason, message."""


@dataclass
class Tally:
    """Counts and names what a search met besides images."""

    unread: list[Unread] = field(default_factory=list)
    """The first of what was not understood."""
    unread_counts: Counter[str] = field(default_factory=Counter)
    """What was not understood ("rating", "row", …) to how often, all of it."""
    passed_over: Counter[str] = field(default_factory=Counter)
    """Kind of file ("." and its ending, or "links") to how many of it are no images konomi reads."""

    def at(self, path: str) -> Complaint:
        """Returns what notes something of one file that was not understood."""

        def complain(what: str, reason: str, message: str) -> None:
            self.unread_counts[what] += 1
            if len(self.unread) < MOST_NAMED:
                self.unread.append(Unread(path, what, reason, message))

        return complain
