"""The checks of `konomi doctor`: each looks at one thing and says the line that puts it right."""

import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from konomi.cli.doctor.elsewhere import elsewhere
from konomi.cli.doctor.exposure import listening, page, privacy, secrets
from konomi.cli.doctor.finding import Finding, command
from konomi.client import connect_home
from konomi.client.refusals import told
from konomi.errors import KonomiError, Unavailable
from konomi.home import Home
from konomi.host.extras import EXTRAS, PURPOSES, install_line, missing, pip_line
from konomi.i18n.catalogue import text
from konomi.night.records.state import StateName
from konomi.night.records.store import NightStore
from konomi.taste.embedder import advice

SQLITE_FLOOR = (3, 51, 3)
"""Below it WAL can corrupt a database that has two connections (sqlite.org/wal.html#walresetbug)."""

RESERVE_BYTES = 2 * 1024**3
COMFORT_BYTES = 10 * 1024**3
NETWORK_FILESYSTEMS = ("nfs", "cifs", "smb", "9p", "ceph", "glusterfs", "lustre", "afs", "fuse.sshfs", "fuse.rclone")
NEEDED = ("rater", "generator", "trainer", "overnight")


def examine(home: Home) -> list[Finding]:
    """Returns what all checks saw; none of them changes anything."""
    extras = [_extra(extra) for extra in EXTRAS]
    checks: tuple[Callable[[Home], Finding], ...] = (
        sqlite,
        writable,
        disk,
        filesystem,
        configuration,
        starter,
        secrets,
        privacy,
        page,
        listening,
        clock,
        nights,
        gpu,
        services,
        embedder,
    )
    return [*extras, *(check(home) for check in checks), *elsewhere(home)]


def _extra(extra: str) -> Finding:
    absent = missing(extra)
    if not absent:
        return Finding(f"extra {extra}", "ok", text("installed"))
    detail = text("not installed: {modules}", modules=", ".join(absent))
    if extra in NEEDED:
        return Finding(f"extra {extra}", "fail", detail, pip_line(extra))
    return Finding(f"extra {extra}", "warn", f"{detail}; {text(PURPOSES[extra])}", pip_line(extra))


def sqlite(home: Home) -> Finding:
    """SQLite must be at least the version without the WAL-reset corruption."""
    try:
        from pysqlite3 import dbapi2
    except ModuleNotFoundError:
        return Finding("SQLite", "fail", text("pysqlite3 is not installed"), pip_line("rater"))
    version = tuple(int(part) for part in dbapi2.sqlite_version.split("."))
    if version < SQLITE_FLOOR:
        wanted = ".".join(str(part) for part in SQLITE_FLOOR)
        detail = text("{found} can corrupt a database; at least {wanted}", found=dbapi2.sqlite_version, wanted=wanted)
        return Finding("SQLite", "fail", detail, install_line("pysqlite3", upgrade=True))
    return Finding("SQLite", "ok", dbapi2.sqlite_version)


def writable(home: Home) -> Finding:
    """The home must be a folder this user can write."""
    place = existing(home.root)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        detail = text("{path} cannot be written", path=place)
        return Finding("home", "fail", detail, text("export KONOMI_HOME=FOLDER, one that you own"))
    return Finding("home", "ok", str(home.root))


def disk(home: Home) -> Finding:
    """The disk of the home must have room for databases, and better for images too."""
    free = shutil.disk_usage(existing(home.root)).free
    detail = text("{free:.1f} GiB free", free=free / 1024**3)
    if free < RESERVE_BYTES:
        return Finding("disk", "fail", detail, text("free at least 2 GiB, or move the home with KONOMI_HOME"))
    if free < COMFORT_BYTES:
        return Finding("disk", "warn", detail, text("a long night wants 10 GiB"))
    return Finding("disk", "ok", detail)


def filesystem(home: Home, mounts: str | None = None) -> Finding:
    """The home must be on a local filesystem: locks and fsync of network ones cannot be trusted."""
    table = Path("/proc/mounts")
    lines = mounts if mounts is not None else (table.read_text() if table.exists() else "")
    place = str(existing(home.root).resolve())
    best = ("", "")
    for fields in (line.split() for line in lines.splitlines()):
        point = fields[1].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best[0]):
            best = (point, fields[2])
    if best[1].startswith(NETWORK_FILESYSTEMS):
        detail = text("{kind} is a network filesystem", kind=best[1])
        return Finding("filesystem", "fail", detail, text("export KONOMI_HOME=FOLDER, one on a local disk"))
    return Finding("filesystem", "ok", best[1] or text("unknown"))


def configuration(home: Home) -> Finding:
    """konomi.toml must be TOML, if there is one."""
    try:
        tomllib.loads(home.configuration.read_text("utf-8-sig") if home.configuration.exists() else "")
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        return Finding("konomi.toml", "fail", str(error), text("correct {path}", path=home.configuration))
    return Finding(
        "konomi.toml", "ok", text("readable") if home.configuration.exists() else text("none, defaults apply")
    )


def starter(home: Home) -> Finding:
    """The starter models should be in the home."""
    if home.has_starter():
        return Finding("starter models", "ok", text("installed"))
    fix = command(sys.executable, "-m", "konomi_starter", "install", "--home", home.root)
    return Finding("starter models", "warn", text("not installed yet; to install them: konomi up"), fix)


def nights(home: Home) -> Finding:
    """The records of nights must be readable; a damaged one is made good, or set aside, by the next night."""
    records = NightStore(home.root)
    lost = [*records.damaged(), *(n for n in records.all() if records.state(n).state == StateName.DAMAGED)]
    if lost:
        detail = text("damaged: {nights}; the other nights go on", nights=", ".join(sorted(lost)))
        return Finding("nights", "warn", detail, "konomi night resume")
    return Finding("nights", "ok", text("{count} on record", count=len(records.all())))


def clock(home: Home, now: float | None = None) -> Finding:
    """The clock must not stand before what the home already holds."""
    newest = max((path.stat().st_mtime for path in home.root.glob("databases/*.sqlite")), default=0.0)
    if (time.time() if now is None else now) < newest - 24 * 3600:
        return Finding("clock", "warn", text("it stands before the newest database"), "timedatectl set-ntp true")
    return Finding("clock", "ok", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)))


def gpu(home: Home) -> Finding:
    """A GPU is no must; one that torch cannot use is worth a word."""
    tool = shutil.which("nvidia-smi")
    names = ""
    if tool:
        command = [tool, "--query-gpu=name,memory.total", "--format=csv,noheader"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        except subprocess.TimeoutExpired:
            return Finding("GPU", "warn", text("nvidia-smi does not answer"), text("restart the machine's driver"))
        names = ", ".join(done.stdout.split("\n")).strip(", ") if done.returncode == 0 else ""
    if not names:
        return Finding("GPU", "ok", text("none: fine for the starter models, slow for larger ones"))
    try:
        build = version("torch")
    except PackageNotFoundError:
        build = "+cpu"
    if "+cpu" in build:
        detail = text("{names}, but torch cannot use it", names=names)
        return Finding("GPU", "warn", detail, install_line("torch", upgrade=True))
    return Finding("GPU", "ok", names)


def services(home: Home) -> Finding:
    """Whether `konomi up` runs here and its rater answers."""
    try:
        with connect_home(home.root) as client:
            client.rater.list_tastes(page_size=1, timeout=10.0)
    except Unavailable as error:
        state = "fail" if home.is_up() else "ok"
        return Finding("services", state, told(error) if home.is_up() else text("not running"), "konomi up")
    except KonomiError as error:
        return Finding("services", "fail", told(error), "konomi up")
    return Finding("services", "ok", ", ".join(f"{role} {address}" for role, address in client.addresses.items()))


def embedder(home: Home) -> Finding:
    """A taste that holds images the starter embedder does not know should use another."""
    if not home.is_up():
        return Finding("embedder", "ok", text("asked when the services run"))
    try:
        with connect_home(home.root) as client:
            names = [taste.name for taste in client.rater.list_tastes(page_size=1000).tastes]
            advised = {name: line for name in names if (line := advice(client, name))}
    except KonomiError as error:
        return Finding("embedder", "warn", told(error))
    if advised:
        return Finding("embedder", "warn", ", ".join(advised), "; ".join(advised.values()))
    return Finding("embedder", "ok", text("fits the images of every taste"))


def existing(path: Path) -> Path:
    """Returns the path, or its nearest parent that exists."""
    return path if path.exists() or path == path.parent else existing(path.parent)
