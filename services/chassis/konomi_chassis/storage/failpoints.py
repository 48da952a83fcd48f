"""Named places where a test can kill the process or fail a write; a no-op unless the environment names the place."""

import errno
import os
import signal

VARIABLE = "KONOMI_FAILPOINT"
_hits: dict[str, int] = {}


def failpoint(name: str) -> None:
    """Dies or fails here when KONOMI_FAILPOINT says so.

    The variable reads `name[=action][@n]`: the action is `kill` (default, SIGKILL to this process), `enospc` or `eio`;
    `@n` waits for the n-th time this point is passed (default the first).

    Args:
        name: the point, for example "artifact.before_rename".

    Raises:
        OSError: ENOSPC or EIO, when that is the action.
    """
    setting = os.environ.get(VARIABLE)
    if not setting:
        return
    place, _, count = setting.partition("@")
    place, _, action = place.partition("=")
    if place != name:
        return
    _hits[name] = _hits.get(name, 0) + 1
    if _hits[name] < int(count or 1):
        return
    if action == "enospc":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if action == "eio":
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    os.kill(os.getpid(), signal.SIGKILL)
