"""A disk as strict as POSIX allows, replayed from a trace: bytes last once synced, names once their folder is.

ext4 makes every name durable with the next sync of anything; others need not. From the system calls of a process
(strace) this keeps, of everything it made under a folder, what a power cut at the end is sure to leave.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

CALLS = "openat,creat,mkdir,mkdirat,rename,renameat,renameat2,write,pwrite64,sendfile,ftruncate,fsync,fdatasync"
NAMED = re.compile(r'"((?:[^"\\]|\\.)*)"')
OPENED = re.compile(r"<([^>]*)>")


class StrictDisk:
    """What is under a folder: names not yet durable, and files with bytes not yet durable."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._names: set[str] = set()
        self._bytes: set[str] = set()
        self._seen: set[str] = set()

    def lost(self, path: Path) -> list[str]:
        """Returns what of a file a power cut would take now: its bytes, its name, or that of a folder above it."""
        text, lost = str(path), []
        if text in self._bytes:
            lost.append(f"the bytes of {path.name}")
        places = [path, *path.parents]
        return lost + [f"the name of {place.name}" for place in places if str(place) in self._names]

    def replay(self, line: str) -> None:
        """Takes one line of `strace -y`."""
        call, result = line.partition("(")[0].split()[-1], line.rpartition("= ")[2]
        if result.startswith("-") or "resumed" in line.split("(")[0]:
            return
        names = [os.path.normpath(name) for name in NAMED.findall(line) if name.startswith("/")]
        first = OPENED.search(line)
        place = first[1] if first else ""
        if call in ("fsync", "fdatasync"):
            self._bytes.discard(place)
            self._names = {name for name in self._names if os.path.dirname(name) != place}
        elif call in ("write", "pwrite64", "sendfile", "ftruncate"):
            self._mark(self._bytes, place)
        elif (call in ("openat", "creat") and ("O_CREAT" in line or call == "creat") and names) or (
            call.startswith("mkdir") and names
        ):
            self._name(names[-1])
        elif call.startswith("rename") and len(names) == 2:
            self._moved(*names)

    def _moved(self, source: str, target: str) -> None:
        for known in (self._bytes, self._names):
            inside = {name for name in known if name == source or name.startswith(source + "/")}
            known -= inside
            known |= {target + name[len(source) :] for name in inside if known is self._bytes or name != source}
        self._seen.discard(target)
        self._name(target)

    def _name(self, name: str) -> None:
        """Takes a new name; one that was seen before is only opened once more."""
        if name not in self._seen:
            self._mark(self._names, name)
            self._seen.add(name)

    def _mark(self, known: set[str], name: str) -> None:
        if name.startswith(self._root + "/"):
            known.add(name)


def trace(code: str, arguments: list[str], log: Path, root: Path) -> tuple[list[str], StrictDisk]:
    """Runs Python code under strace; returns the lines it printed, and the disk under `root` at its end."""
    command = ["strace", "-f", "-y", "-s", "4096", "-o", str(log), "-e", f"trace={CALLS}", "-e", "signal=none"]
    ran = subprocess.run(
        [*command, sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=600, check=False
    )
    if ran.returncode:
        raise AssertionError(ran.stderr)
    disk = StrictDisk(root)
    for line in log.read_text(errors="replace").splitlines():
        disk.replay(line)
    return ran.stdout.splitlines(), disk
