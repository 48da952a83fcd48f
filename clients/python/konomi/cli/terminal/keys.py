"""Single keys from a terminal, or one key per line from anything else."""

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

ESCAPE = b"\x1b"
STRINGS = (b"_", b"P", b"]", b"^", b"X")
"""What begins an escape sequence that ends with ESC backslash: APC, DCS, OSC, PM, SOS (ECMA-48)."""
SEQUENCE_SECONDS = 0.05
"""A longer rest after ESC means that somebody pressed the key itself."""


class Keys(Iterator[str]):
    """Yields keys until the input ends."""

    def __init__(self, interactive: bool) -> None:
        """Reads single keys where `interactive`, else lines."""
        self.interactive = interactive

    def __next__(self) -> str:
        key = pressed(sys.stdin.fileno()) if self.interactive else self._line()
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


def pressed(terminal: int) -> str:
    """Returns the next key; an arrow, or a terminal's late answer with digits in it, is one key that means nothing."""
    byte = os.read(terminal, 1)
    if byte != ESCAPE:
        return byte.decode(errors="replace")
    kind, read = _next(terminal), b""
    if kind == b"[":
        while (final := _next(terminal)) and not 0x40 <= final[0] <= 0x7E:
            continue
    elif kind == b"O":
        _next(terminal)
    elif kind in STRINGS:
        while not read.endswith(ESCAPE + b"\\") and (byte := _next(terminal)):
            read += byte
    return ESCAPE.decode()


def _next(terminal: int) -> bytes:
    """Returns the next byte of a sequence, nothing where none follows."""
    return os.read(terminal, 1) if select.select([terminal], [], [], SEQUENCE_SECONDS)[0] else b""
