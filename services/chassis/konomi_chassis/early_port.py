"""A role's command with the standard library alone: whether its port can be had, before anything else, and its end.

The libraries of a role take a second and more to load; whoever named a port that another program has shall not wait for
them. Only what is certain is said here: everything else is left to the server, which asks again when it binds.
"""

import argparse
import errno
import faulthandler
import os
import socket
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

REFUSED_CONFIGURATION = 78
"""Exit code of a role whose configuration cannot be served; EX_CONFIG of sysexits.h."""
TAKEN = "Cannot listen on {target}: the port is taken or the address is not this machine's."
HOST = "127.0.0.1"
READERS = ("rater",)
"""Roles that can run beside the one that writes."""


def parser(role: str) -> argparse.ArgumentParser:
    """Returns the parser of the command line every role shares."""
    parser = argparse.ArgumentParser(prog=f"konomi_{role}", description=f"Serves konomi's {role}.")
    parser.add_argument("--home", type=Path, help="folder where state lives; default KONOMI_HOME")
    parser.add_argument("--host", help="address to bind; default 127.0.0.1")
    parser.add_argument("--port", type=int, help="port to bind; 0, the default, takes a free one")
    if role in READERS:
        help_text = "answer beside the rater that writes, from its database and store, and change nothing"
        parser.add_argument("--read-only", action="store_true", default=None, help=help_text)
    return parser


def refusal(role: str, argv: Sequence[str]) -> int:
    """Returns 78, with a sentence on stderr, where the port asked for is surely taken; 0 otherwise.

    Args:
        role: "rater", "generator" or "trainer".
        argv: command line without the program's name.
    """
    host, port = _asked(vars(parser(role).parse_args(argv)), os.environ)
    if not is_taken(host, port):
        return 0
    print(TAKEN.format(target=f"[{host}]:{port}" if ":" in host else f"{host}:{port}"), file=sys.stderr, flush=True)
    return REFUSED_CONFIGURATION


def is_taken(host: str, port: int) -> bool:
    """Says whether every address of a host refuses a port because another program has it."""
    if not 0 < port <= 65535:
        return False
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return bool(addresses) and all(_obstacle(*address) == errno.EADDRINUSE for address in addresses)


def _obstacle(family: int, kind: int, protocol: int, _name: str, address: Any) -> int | None:
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind(address)
    except OSError as error:
        return error.errno
    return None


def _asked(arguments: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, int]:
    """Returns the host and port of the command line, the environment or konomi.toml, in this order as for settings."""
    upper = {name.upper(): value for name, value in environment.items()}
    home = arguments["home"] or upper.get("KONOMI_HOME") or "~/.local/share/konomi"
    table = _table(home)
    host, port = (
        next(
            value
            for value in (arguments[name], upper.get(f"KONOMI_{name.upper()}"), table.get(name), default)
            if value is not None
        )
        for name, default in (("host", HOST), ("port", 0))
    )
    try:
        return str(host).strip("[]"), int(port)
    except (TypeError, ValueError):
        return HOST, 0  # the settings say what is wrong with it


def _table(home: str | Path) -> dict[str, Any]:
    try:
        table = tomllib.loads((Path(home).expanduser() / "konomi.toml").read_text("utf-8-sig")).get("server", {})
    except (OSError, RuntimeError, ValueError):
        return {}
    return table if isinstance(table, dict) else {}


EXIT_SECONDS = 30


def leave(code: int, seconds: float = EXIT_SECONDS) -> NoReturn:
    """Ends the process; where a library's end hangs, after so many seconds with every thread's place on stderr.

    A server that has stopped has nothing left to lose, and whoever waits for it would wait for ever.
    """
    faulthandler.dump_traceback_later(seconds, exit=True)  # a thread in C, which needs no interpreter
    sys.exit(code)
