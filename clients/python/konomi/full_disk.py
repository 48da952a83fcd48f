"""A full disk told as one: what the system and SQLite say of it becomes one error a person can act on."""

import errno

from konomi.errors import Internal, KonomiError, ResourceExhausted

NUMBERS = (errno.ENOSPC, errno.EDQUOT)
WORDS = ("database or disk is full", "No space left on device", "disk I/O error")
"""What SQLite says, also where another library's error quotes it."""


def is_full(error: BaseException) -> bool:
    """Says whether an error means that the disk has no room."""
    if isinstance(error, OSError) and error.errno in NUMBERS:
        return True
    return any(words in str(error) for words in WORDS)


def told() -> ResourceExhausted:
    """Returns the error that says so."""
    message = "The disk of the home is full: No space left on device. Free some; the same command then goes on."
    return ResourceExhausted(message, reason="DISK_FULL")


def fault(error: Exception, what: str) -> KonomiError:
    """Returns a full disk as such, and any other error as a fault of `what`."""
    return told() if is_full(error) else Internal(f"{what} met a fault of its own: {error!r}")
