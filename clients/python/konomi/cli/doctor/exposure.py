"""The checks of `konomi doctor` for what other people can reach: files, the page, the services."""

import ipaddress
import os
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from konomi.cli.doctor.finding import Finding, command
from konomi.errors import FailedPrecondition
from konomi.home import Home
from konomi.i18n.catalogue import text
from konomi.web.settings import PageSettings

OTHERS = 0o077
"""The permissions of everybody but the owner."""


def secrets(home: Home) -> Finding:
    """Tokens and keys must be readable by their owner alone."""
    if not home.token_file.exists():
        return Finding("token", "ok", text("none yet; the first start makes one"))
    open_to_others = _open_to_others([*home.token_file.parent.iterdir(), home.root / "run" / "page.key"])
    if open_to_others:
        mode = max(_mode(path) for path in open_to_others)
        detail = text("others can read it (mode {mode:o})", mode=mode)
        return Finding("token", "fail", detail, command("chmod", "600", *open_to_others))
    return Finding("token", "ok", text("mode {mode:o}", mode=_mode(home.token_file)))


def privacy(home: Home) -> Finding:
    """Other people of this machine should not be able to look at the owner's images and grades."""
    if not home.root.is_dir():
        return Finding("privacy", "ok", text("no home yet; the first start makes one for you alone"))
    mode = _mode(home.root)
    if mode & OTHERS:
        detail = text("other people of this machine can look into the home (mode {mode:o})", mode=mode)
        return Finding("privacy", "warn", detail, command("chmod", "700", home.root))
    return Finding("privacy", "ok", text("the home is yours alone (mode {mode:o})", mode=mode))


def page(home: Home) -> Finding:
    """The page should answer to this machine only; to others only with a certificate."""
    try:
        settings = PageSettings(home=home.root)
    except ValidationError as error:
        wrong = error.errors()[0]
        detail = f"[page] {'.'.join(str(part) for part in wrong['loc'])}: {wrong['msg']}"
        return Finding("page", "fail", detail, text("correct {path}", path=home.configuration))
    except FailedPrecondition:
        return Finding("page", "ok", text("asked when konomi.toml can be read"))
    host, pair = settings.page_host, (settings.page_certificate, settings.page_key)
    if is_loopback(host):
        return Finding("page", "ok", text("only this machine reaches it ({host})", host=host))
    back = text("remove page_host from [page] in {path}, or KONOMI_PAGE_HOST", path=home.configuration)
    if None in pair:
        detail = text("it will not start on {host} without page_certificate and page_key", host=host)
        return Finding("page", "fail", detail, back)
    missing = [path for path in pair if path is not None and not path.is_file()]
    if missing:
        detail = text("there is no file {path}", path=missing[0])
        return Finding("page", "fail", detail, text("correct {path}", path=home.configuration))
    open_to_others = _open_to_others([path for path in pair[1:] if path is not None])
    if open_to_others:
        detail = text("others can read its key (mode {mode:o})", mode=_mode(open_to_others[0]))
        return Finding("page", "fail", detail, command("chmod", "600", *open_to_others))
    return Finding("page", "warn", text("others on the network reach it ({host})", host=host), back)


def listening(home: Home, environment: Mapping[str, str] | None = None) -> Finding:
    """Rater, generator and trainer should answer to this machine only; to others only with a certificate."""
    server = _server(home) | {
        name: value
        for name in ("host", "tls_certificate", "tls_key")
        if (value := (os.environ if environment is None else environment).get(f"KONOMI_{name.upper()}"))
    }
    host = str(server.get("host", "127.0.0.1"))
    if is_loopback(host):
        return Finding("listening", "ok", text("only this machine reaches the services ({host})", host=host))
    back = text("remove host from [server] in {path}, or KONOMI_HOST", path=home.configuration)
    if not server.get("tls_certificate"):
        detail = text("the services will not start on {host} without tls_certificate and tls_key", host=host)
        return Finding("listening", "fail", detail, back)
    return Finding("listening", "warn", text("others on the network reach the services ({host})", host=host), back)


def is_loopback(host: str) -> bool:
    """Says whether an address is this machine's alone."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _server(home: Home) -> dict[str, Any]:
    """Returns the [server] table; a file that cannot be read is another check's business."""
    try:
        table = tomllib.loads(home.configuration.read_text("utf-8-sig")).get("server", {})
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError):
        return {}
    return table if isinstance(table, dict) else {}


def _open_to_others(paths: Iterable[Path]) -> list[Path]:
    """Returns the files with something in them that others may read or change; a lock is an empty one."""
    return sorted(path for path in paths if path.is_file() and path.stat().st_size and _mode(path) & OTHERS)


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
