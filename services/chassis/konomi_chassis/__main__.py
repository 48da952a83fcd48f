"""`python -m konomi_chassis issue|revoke|rotate|examine|reach|probe`: a home's tokens, what it holds and stands on."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from pydantic import ValidationError

from konomi.errors import FailedPrecondition, KonomiError
from konomi.settings import default_home
from konomi_chassis.auth.tokens import SCOPES, issue_token, revoke_tokens, rotate_owner_token
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.rpc.health_probe import probe
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.examination import examine_artifacts, examine_databases
from konomi_chassis.storage.reach import asked, reached

DAY_SECONDS = 24 * 3600


def main(argv: Sequence[str], now: float) -> int:
    """Runs one command; prints a new token on stdout, and nothing else there.

    Args:
        argv: command line without the program's name.
        now: seconds since the epoch.

    Returns:
        0, or 2 with a sentence on stderr.
    """
    os.umask(0o077)
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "issue":
            expires = now + arguments.days * DAY_SECONDS if arguments.days else None
            print(issue_token(arguments.home, arguments.principal, arguments.scope, arguments.taste, expires))
        elif arguments.command == "examine":
            _examine(arguments.home)
        elif arguments.command == "reach":
            _reach(arguments.home)
        elif arguments.command == "probe":
            probe(arguments.address, arguments.ca, arguments.name)
        elif arguments.command == "revoke":
            print(f"{revoke_tokens(arguments.home, arguments.principal)} token(s) removed", file=sys.stderr)
        else:
            rotate_owner_token(arguments.home)
    except KonomiError as error:
        print(error.message, file=sys.stderr)
        return 2
    except ValidationError as error:
        for wrong in error.errors():
            print(f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}", file=sys.stderr)
        return 2
    return 0


def _examine(home: Path) -> None:
    """Prints a line of JSON for each database and each damaged artifact, and one for all artifacts."""
    for examined in examine_databases(home / "databases"):
        print(json.dumps(asdict(examined)), flush=True)
    settings = StoreSettings(home=home)
    if settings.url or (home / "artifacts").is_dir():
        for examined in examine_artifacts(ArtifactStore(settings)):
            print(json.dumps(asdict(examined)), flush=True)


def _reach(home: Path) -> None:
    """Prints a line of JSON for the database, the bucket and the cluster of a home, as far as it has them."""
    scale = ScaleSettings(home=home)
    for answer in reached(home):
        print(json.dumps(asdict(answer)), flush=True)
    if scale.uses_ray:
        print(json.dumps(asdict(asked("cluster", lambda: _cluster(scale)))), flush=True)


def _cluster(scale: ScaleSettings) -> str:
    """Joins the cluster and leaves it again."""
    if find_spec("ray") is None:
        raise FailedPrecondition(
            "[scale] names a Ray cluster, and Ray is not installed; run: pip install 'konomi[ray]'",
            reason="MISSING_EXTRA",
        )
    from konomi_chassis.cluster.connection import ClusterConnection

    ClusterConnection(scale, StoreSettings(home=scale.home)).close()
    return scale.address


def _parser() -> argparse.ArgumentParser:
    what = "Issues, revokes and rotates tokens; reads everything of a home and says what is damaged."
    parser = argparse.ArgumentParser(prog="konomi_chassis", description=what)
    commands = parser.add_subparsers(dest="command", required=True)
    issue = commands.add_parser("issue", help="make a token and print it")
    issue.add_argument("--principal", required=True, help="who will hold it")
    issue.add_argument("--scope", required=True, choices=SCOPES)
    issue.add_argument("--taste", help="taste id it is bound to")
    issue.add_argument("--days", type=float, help="days it is good for; default: no end")
    revoke = commands.add_parser("revoke", help="remove every token of a principal")
    revoke.add_argument("--principal", required=True)
    rotate = commands.add_parser("rotate", help="replace the owner's local token")
    examine = commands.add_parser("examine", help="read every database and artifact once, one line of JSON each")
    reach = commands.add_parser("reach", help="ask database, bucket and cluster that are set, one line of JSON each")
    probed = commands.add_parser("probe", help="ask a service whether it serves; exits with 2 where it does not")
    probed.add_argument("--address", required=True, help="HOST:PORT of the service")
    probed.add_argument("--ca", type=Path, help="PEM file of its certificate's authority; without it no TLS is spoken")
    probed.add_argument("--name", default="", help="name its certificate is for, where it is not the host")
    for command in (issue, revoke, rotate, examine, reach):
        command.add_argument("--home", type=Path, default=default_home(), help="home folder; default KONOMI_HOME")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], time.time()))
