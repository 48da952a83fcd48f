"""What the actors of all services share: which machine is fit for the work, which jobs nobody waits for any more."""

import json
import os
from typing import Any

from konomi_chassis.cluster.versions import difference

FORGOTTEN = 256
"""Jobs that were stopped and are remembered."""


class ClusterWorker:
    """The base of an actor's class.

    Args:
        versions: JSON of the libraries that decide what the actor makes, as the service has them.
    """

    def __init__(self, versions: str) -> None:
        os.umask(0o077)
        self._unfit = difference(settings_values(versions))
        self._stopped: dict[str, None] = {}

    def ready(self) -> int:
        """Answers, once the worker is there, with its process."""
        return os.getpid()

    def stop(self, job: str) -> None:
        """Ends a job: what of it has not begun never will. What is stored of it stays.

        Args:
            job: name of a request, one of its own for each.
        """
        self._stopped[job] = None
        while len(self._stopped) > FORGOTTEN:
            del self._stopped[next(iter(self._stopped))]

    def is_stopped(self, job: str) -> bool:
        """Says whether nobody waits for a job any more."""
        return job in self._stopped

    def check_versions(self) -> None:
        """Returns where this machine's libraries are those of the service.

        Raises:
            FailedPrecondition: they are others (reason VERSIONS_DIFFER).
        """
        if self._unfit is not None:
            raise self._unfit


def settings_values(text: str) -> dict[str, Any]:
    """Returns the settings an actor was given as JSON."""
    return dict(json.loads(text))
