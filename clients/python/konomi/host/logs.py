"""Logs that stay small: one that has grown is copied beside itself and emptied, while its writers go on.

Every writer appends (O_APPEND), so after the emptying each line still comes behind the one before. Only what is written
in the instant between the last read and the emptying is lost; a kill in between leaves lines twice and loses none.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

LIMIT_BYTES = 10 * 1024 * 1024
"""Size from which a log is turned over."""
KEPT = 3
"""Files of one log: the one that grows, and those it was copied to."""
CHUNK = 1024 * 1024


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


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _copy(source: BinaryIO, target: BinaryIO) -> None:
    while chunk := source.read(CHUNK):
        target.write(chunk)
