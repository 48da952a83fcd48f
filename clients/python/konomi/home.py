"""The home folder: where everything of one konomi lives, and whether `konomi up` runs on it."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from konomi.errors import FailedPrecondition, Unavailable
from konomi.files import LOOK_SECONDS, is_locked, write_atomically
from konomi.i18n.catalogue import text

_chosen: ContextVar[bool] = ContextVar("konomi_home_chosen", default=False)

STARTER_PARTS = ("diffusion/model_index.json", "embedder/model.safetensors", "reader/model.safetensors")


def default_home() -> Path:
    """Returns KONOMI_HOME, or ~/.local/share/konomi where it is not set.

    Raises:
        FailedPrecondition: this user has no home directory, as in many a container, and none was named.
    """
    named = os.environ.get("KONOMI_HOME")
    return Path(named) if named else _own_folder("~") / ".local" / "share" / "konomi"


def _own_folder(path: str | Path) -> Path:
    """Returns a path with "~" put in full.

    Raises:
        FailedPrecondition: nobody knows whose home directory that is.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        line = text("this user has no home directory (HOME is not set): name a folder with --home or KONOMI_HOME")
        raise FailedPrecondition(line, reason="NO_HOME", field="home") from error


@dataclass(frozen=True)
class Home:
    """The layout of a home folder; nothing is created before it is needed."""

    root: Path

    @classmethod
    def locate(cls, home: str | Path | None = None) -> "Home":
        """Returns the given home, KONOMI_HOME, or the default one."""
        return cls(_own_folder(home if home is not None else default_home()).absolute())

    @property
    def token_file(self) -> Path:
        """The owner's token, which the services make at their first start."""
        return self.root / "tokens" / "owner.token"

    @property
    def up_file(self) -> Path:
        """Addresses of what `konomi up` runs."""
        return self.root / "run" / "up.json"

    @property
    def configuration(self) -> Path:
        """Settings of all components."""
        return self.root / "konomi.toml"

    @property
    def models(self) -> Path:
        """Base models and embedders."""
        return self.root / "models"

    def log(self, role: str) -> Path:
        """Returns the log file of a role."""
        return self.root / "logs" / f"{role}.log"

    def has_starter(self) -> bool:
        """Says whether the starter models are installed."""
        return all((self.models / "starter" / part).is_file() for part in STARTER_PARTS)

    def running(self) -> dict[str, str]:
        """Returns the addresses of what `konomi up` runs here, by role.

        Raises:
            Unavailable: it does not run, or has not finished starting.
        """
        if self.is_up() and self.up_file.is_file():
            addresses = json.loads(self.up_file.read_text())
            return {role: address for role, address in addresses.items() if isinstance(address, str)}
        raise Unavailable(text("nothing runs on {home}; start it first: konomi up", home=self.root), reason="NOT_UP")

    def is_up(self) -> bool:
        """Says whether a living process holds this home up."""
        return is_locked(self._lock_file)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds this home up for one process; the lock ends with the process, however it ends.

        Raises:
            FailedPrecondition: another process holds it, or the folder cannot be written.
        """
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)  # others have no business in it
            self._lock_file.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._lock_file, fallback_to_soft=False)
            lock.acquire(timeout=LOOK_SECONDS)
        except Timeout as error:
            raise FailedPrecondition(
                text("konomi already runs on {home}: stop it first, or choose another --home", home=self.root),
                reason="ALREADY_UP",
            ) from error
        except OSError as error:
            why = text("cannot write the home {home}: {why}", home=self.root, why=error.strerror)
            raise FailedPrecondition(why) from error
        try:
            yield
        finally:
            self.up_file.unlink(missing_ok=True)
            lock.release()

    def announce(self, addresses: Mapping[str, str]) -> None:
        """Writes the addresses for other processes, complete or not at all."""
        write_atomically(self.up_file, json.dumps(dict(addresses)).encode())

    @property
    def _lock_file(self) -> Path:
        return self.root / "run" / "up.lock"


def choose(home: str) -> None:
    """Makes a home that was named on the command line that of this process and of its children."""
    os.environ["KONOMI_HOME"] = home
    _chosen.set(True)


def chosen() -> bool:
    """Says whether the home was named on the command line."""
    return _chosen.get()
