"""Single keys from a terminal, or one key per line from anything else."""

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


class Keys(Iterator[str]):
    """Yields keys until the input ends."""

    def __init__(self, interactive: bool) -> None:
        """Reads single keys where `interactive`, else lines."""
        self.interactive = interactive

    def __next__(self) -> str:
        key = os.read(sys.stdin.fileno(), 1).decode(errors="replace") if self.interactive else self._line()
        if key in ("", "\x03", "\x04"):  # end of input, Ctrl-C, Ctrl-D
            raise StopIteration
        return key.lower()

    def _line(self) -> str:
        for line in sys.stdin:
            key = line.rstrip("\r\n")
            if key:
                return key
        return ""


@contextmanager
def read_keys() -> Iterator[Keys]:
    """Yields the keys of standard input; a terminal is put back as it was."""
    if not sys.stdin.isatty():
        yield Keys(interactive=False)
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield Keys(interactive=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
