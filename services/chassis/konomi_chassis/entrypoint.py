"""The command line every role shares: `--home HOME --host HOST --port PORT`, then serve until told to stop."""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError

from konomi.errors import KonomiError
from konomi.settings import bypass_proxies_on_loopback
from konomi_chassis.early_port import REFUSED_CONFIGURATION, parser
from konomi_chassis.server import ServedService, serve
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore

Build = Callable[[ServerSettings, ArtifactStore], Sequence[ServedService]]


def run(role: str, build: Build, argv: Sequence[str]) -> int:
    """Reads settings, joins the role's parts, serves.

    Args:
        role: "rater", "generator" or "trainer".
        build: makes the role's services from the settings and the store.
        argv: command line without the program's name.

    Returns:
        The exit code; 78 with a sentence on stderr for a configuration that cannot be served.
    """
    os.umask(0o077)  # whatever lies in a home is its owner's alone
    bypass_proxies_on_loopback(os.environ)
    try:
        settings = ServerSettings(**_arguments(role, argv))
        store = ArtifactStore(StoreSettings(home=settings.home))
        services = build(settings, store)
    except ValidationError as error:
        for problem in error.errors():
            print(f"{'.'.join(map(str, problem['loc'])) or role}: {problem['msg']}", file=sys.stderr)
        return REFUSED_CONFIGURATION
    except (KonomiError, OSError) as error:
        print(f"{role} cannot start: {error}", file=sys.stderr)
        return REFUSED_CONFIGURATION
    return serve(role, services, settings, store)


def _arguments(role: str, argv: Sequence[str]) -> dict[str, Any]:
    given = vars(parser(role).parse_args(argv))  # a role's own flags it reads itself
    return {key: value for key, value in given.items() if value is not None and key in ServerSettings.model_fields}
