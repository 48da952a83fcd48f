"""`konomi doctor --deep`: reads everything the home holds once and says what is damaged, and how to come back."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import TypedDict

from konomi.cli.doctor.finding import Finding
from konomi.home import Home
from konomi.host.extras import install_line, missing, pip_line
from konomi.i18n.catalogue import N_, text

READERS = (("konomi_chassis", "examine"), ("konomi_rater.examination",))
"""Modules of the services that read a home, with their command; each prints a line of JSON for what it has read."""
KINDS = {
    "database": N_("database"),
    "artifact": N_("artifact"),
    "artifacts": N_("artifacts"),
    "labels": N_("labels"),
    "images": N_("images"),
    "head": N_("rater version"),
}
FOREIGN = "night.sqlite"
"""Kept by the library that runs nights, in its own way."""


class ExaminedLine(TypedDict):
    """One thing a service has read, as its line of JSON says it."""

    kind: str
    name: str
    count: int
    problem: str
    checked: bool
    held: bool


def examine_deeply(home: Home) -> Iterator[Finding]:
    """Yields what was read: databases, labels, heads, artifacts. Takes as long as reading the whole home takes."""
    if missing("rater"):
        yield Finding("integrity", "fail", text("the rater's parts read it and are not installed"), pip_line("rater"))
        return
    if not home.root.is_dir():
        yield Finding("integrity", "ok", text("no home yet; nothing to read"))
        return
    for module, *words in READERS:
        command = [sys.executable, "-m", module, *words, "--home", str(home.root)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        yield from (_finding(json.loads(line)) for line in ran.stdout.splitlines())
        if ran.returncode:
            said = (ran.stderr.strip().splitlines() or [text("no reason given")])[-1]
            yield Finding("integrity", "fail", text("not everything could be read: {why}", why=said))


def _finding(seen: ExaminedLine) -> Finding:
    name = text(KINDS[seen["kind"]])
    if seen["problem"]:
        problem, _, fix = str(seen["problem"]).partition(" Stop konomi,")
        return Finding(name, "fail", f"{seen['name']}: {problem}", f"Stop konomi,{fix}" if fix else "")
    if seen["kind"] != "database":
        return Finding(name, "ok", text("{name}: {count} read, all whole", name=seen["name"], count=seen["count"]))
    if seen["checked"]:
        words = {"name": seen["name"], "count": seen["count"]}
        if seen["held"]:
            detail = text(
                "{name}: {count} pages, every checksum right; its log was not read: konomi runs and has it open",
                **words,
            )
        else:
            detail = text("{name}: {count} pages, every checksum right", **words)
        return Finding(name, "ok", detail)
    if seen["name"] == FOREIGN:
        return Finding(name, "ok", text("{name}: readable; it has no checksums", name=seen["name"]))
    detail = text("{name}: readable, but without checksums: a flipped bit would not be seen", name=seen["name"])
    return Finding(
        name, "warn", detail, text("start konomi once with room on the disk; or: {line}", line=install_line("apsw"))
    )
