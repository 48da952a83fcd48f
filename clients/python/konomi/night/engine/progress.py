"""What a person sees while a night works: bars on a terminal, one line a step elsewhere, a heartbeat for `status`."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from konomi.host.terminal import encodable, visible
from konomi.night.alarms import work
from konomi.night.records.store import Heartbeat

HEARTBEAT_SECONDS = 1.0
"""How often the heartbeat file is written at most."""
NEWEST = 12
"""Images the heartbeat names at most."""
DRAFTING = "/draft-"
"""In the names of the steps whose images are drafts."""


class View:
    """Takes the beats of a night's steps; `beat` may be called from any thread."""

    def __init__(
        self,
        show: Callable[[str, int, int], None],
        heartbeat: Callable[[Heartbeat], None],
        clock: Callable[[], float] = time.time,
        up: Callable[[], float] = time.monotonic,
    ) -> None:
        """Takes what shows a line with how far it is, what keeps the heartbeat, the clock, and what nobody sets."""
        self._show = show
        self._heartbeat = heartbeat
        self._clock, self._up = clock, up
        self._step = ""
        self._next = 0.0
        self._made: deque[str] = deque(maxlen=NEWEST)
        self._drafts = False

    def beat(self, name: str, done: int, total: int, made: str = "") -> None:
        """Notes that a step began (total 0) or advanced, and the digest of the image that was made, where one was."""
        if total == 0:
            self._step = name
        if made:
            self._note(made)
        self._show(self._step, done, total)
        now = self._up()
        if now >= self._next or total == 0:
            self._next = now + HEARTBEAT_SECONDS
            told, up = round(self._clock(), 1), round(now, 1)
            beat: Heartbeat = {"step": self._step, "done": done, "total": total, "time": told, "up": up}
            if self._made:
                beat |= {"made": list(self._made), "drafts": self._drafts}
            self._heartbeat(beat)

    def _note(self, made: str) -> None:
        """Keeps the digest of an image; drafts, which are only rated, never stand among images drawn in full."""
        drafts = DRAFTING in self._step
        if drafts != self._drafts:
            self._made.clear()
        self._drafts = drafts
        self._made.appendleft(made)


@contextmanager
def showing(language: str, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yields what shows a step's progress on standard error.

    Args:
        language: "en" or "ja".
        quiet: show nothing.
    """
    if quiet:
        yield lambda step, done, total: None
    elif sys.stderr.isatty():
        with _bars(language) as show:
            yield show
    else:
        yield _lines(language)


@contextmanager
def _bars(language: str) -> Iterator[Callable[[str, int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None)

        def show(step: str, done: int, total: int) -> None:
            bars.update(task, description=visible(work(step, language)), completed=done, total=total or None)

        yield show


def _lines(language: str) -> Callable[[str, int, int], None]:
    last = ""

    def show(step: str, done: int, total: int) -> None:
        nonlocal last
        line = work(step, language)
        if line != last:
            last = line
            notice(line)

    return show


def notice(line: str) -> None:
    """Writes one line for whoever watches the night, on standard error."""
    print(encodable(visible(line), sys.stderr), file=sys.stderr, flush=True)
