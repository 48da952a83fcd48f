"""Logs that stay small: one that has grown is copied beside itself and emptied, while its writers go on; their end.

Every writer appends (O_APPEND), so after the emptying each line still comes behind the one before. Only what is written
in the instant between the last read and the emptying is lost; a kill in between leaves lines twice and loses none.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from konomi.host.terminal import visible

LIMIT_BYTES = 10 * 1024 * 1024
"""Size from which a log is turned over."""
KEPT = 3
"""Files of one log: the one that grows, and those it was copied to."""
CHUNK = 1024 * 1024
SHOWN_LINES = 200
"""Lines of a log that are shown at most."""
SHOWN_BYTES = 64 * 1024
"""Bytes of a log that are read for that, from its end."""
LINE_LENGTH = 2000
"""Characters of a line that are shown at most."""


def turn_over(log: Path, limit: int = LIMIT_BYTES, kept: int = KEPT) -> bool:
    """Empties a log that has reached its limit into LOG.1, what was there into LOG.2 and so on; the oldest goes.

    A full disk, or a log that is not there, is no error: the log then goes on as it is.

    Returns:
        Whether it was emptied.
    """
    try:
        if log.stat().st_size < limit or log.is_symlink():
            return False
        copy = log.with_name(f".{log.name}.copy")
        try:
            with log.open("rb") as source, copy.open("wb") as target:
                _copy(source, target)
                target.flush()
                os.fsync(target.fileno())
                for number in range(kept - 2, 0, -1):
                    with suppress(FileNotFoundError):
                        _numbered(log, number).replace(_numbered(log, number + 1))
                copy.replace(_numbered(log, 1))
                with _numbered(log, 1).open("ab") as late:
                    _copy(source, late)  # what came while the copy was written out
                os.truncate(log, 0)
        finally:
            copy.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def last_lines(log: Path, count: int = SHOWN_LINES) -> list[str]:
    """Returns the last lines of a log, oldest first, without characters that act on a terminal; none where it is not.

    A line that begins before what is read is left out. A link is not followed: the log is a file of the home.

    Args:
        log: the file; it may be large, cut in mid-line, or no UTF-8.
        count: lines at most.
    """
    data, begins = b"", 0
    with suppress(OSError), os.fdopen(os.open(log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        begins = max(0, file.seek(0, os.SEEK_END) - SHOWN_BYTES)
        file.seek(begins)
        data = file.read(SHOWN_BYTES)
    lines = data.decode("utf-8", "replace").splitlines()
    return [visible(line)[:LINE_LENGTH] for line in lines[1 if begins else 0 :][-count:]]


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while chunk := source.read(CHUNK):
        target.write(chunk)
