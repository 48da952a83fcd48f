"""The token by which a hub gives files only some may have: from the environment, or a file nobody else can read.

It is a secret: it stands in no message and no record, and `hub` sends it to the hub's own address alone.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from konomi.errors import FailedPrecondition
from konomi.i18n.catalogue import text

VARIABLE = "HF_TOKEN"
TOKEN = re.compile(r"[\x21-\x7e]{8,512}")
MOST_BYTES = 4096
OTHERS = 0o077
"""Rights of anybody but the owner."""


@dataclass(frozen=True)
class HubToken:
    """A token, or none.

    Attributes:
        secret: what is sent; "" where there is none.
        source: where it comes from, in a word for messages.
    """

    secret: str = field(default="", repr=False)
    source: str = ""


def read_token(file: Path) -> HubToken:
    """Returns the token of HF_TOKEN, else that of a file, else none.

    Args:
        file: which may be missing.

    Raises:
        FailedPrecondition: the file can be read by others (reason TOKEN_RIGHTS), or what it or the variable holds is no
            token (reason TOKEN_FORM).
    """
    said = os.environ.get(VARIABLE, "").strip()
    if said:
        return HubToken(_checked(said, VARIABLE), VARIABLE)
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return HubToken()
    with os.fdopen(handle, "rb") as opened:
        state = os.fstat(opened.fileno())
        if state.st_mode & OTHERS or state.st_uid != os.geteuid():
            raise FailedPrecondition(
                text("{file} holds a secret and others can read it, or it is another's: chmod 600 {file}", file=file),
                reason="TOKEN_RIGHTS",
            )
        raw = opened.read(MOST_BYTES)
    return HubToken(_checked(raw.decode("ascii", "replace").strip(), str(file)), str(file))


def _checked(secret: str, source: str) -> str:
    if not TOKEN.fullmatch(secret):
        raise FailedPrecondition(
            text("{source} was expected to hold one token of the hub and nothing else; it does not", source=source),
            reason="TOKEN_FORM",
        )
    return secret
