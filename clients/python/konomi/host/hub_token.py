"""The token by which another server knows its user: from the environment, or a file nobody else can read.

It is a secret: it stands in no message and no record, and goes to that server's own address alone. The first of them
was the hub's, which gives some files only to whom it knows.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from konomi.errors import FailedPrecondition
from konomi.i18n.catalogue import N_, text

VARIABLE = "HF_TOKEN"
IMMICH = "IMMICH_API_KEY"
MALFORMED = {
    VARIABLE: N_("{source} was expected to hold one token of the hub and nothing else; it does not"),
    IMMICH: N_("{source} was expected to hold one API key of Immich and nothing else; it does not"),
}
"""The variable of a server's token to what is said where there stands none."""
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


def read_token(file: Path, variable: str = VARIABLE) -> HubToken:
    """Returns the token of a variable of the environment, else that of a file, else none.

    Args:
        file: which may be missing.
        variable: of the environment, one of MALFORMED.

    Raises:
        FailedPrecondition: the file can be read by others (reason TOKEN_RIGHTS), or what it or the variable holds is no
            token (reason TOKEN_FORM).
    """
    said = os.environ.get(variable, "").strip()
    if said:
        return HubToken(_checked(said, variable, variable), variable)
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
    return HubToken(_checked(raw.decode("ascii", "replace").strip(), str(file), variable), str(file))


def _checked(secret: str, source: str, variable: str) -> str:
    if not TOKEN.fullmatch(secret):
        raise FailedPrecondition(text(MALFORMED[variable], source=source), reason="TOKEN_FORM")
    return secret
