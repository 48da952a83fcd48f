"""The check of `konomi doctor` for what the settings name outside the home: PostgreSQL, a bucket, a Ray cluster."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from typing import TypedDict

from konomi.cli.doctor.finding import Finding
from konomi.client.refusals import told
from konomi.errors import from_item
from konomi.home import Home
from konomi.host.extras import missing
from konomi.i18n.catalogue import N_, text

SECONDS = 120
NAMED = (("database", "KONOMI_DATABASE_URL"), ("store", "KONOMI_STORE_URL"))
"""Tables of konomi.toml whose `url` names something elsewhere, and their variables."""
EXECUTORS = ("executor", "train_executor", "embed_executor")
"""Settings of the table [scale] that name a cluster where they are "ray"."""
KINDS = {"database": N_("database"), "bucket": N_("bucket"), "cluster": N_("cluster")}


class ReachedLine(TypedDict):
    """What a service has asked, as its line of JSON says it; `code` is the number of a gRPC status, 0 for none."""

    kind: str
    place: str
    code: int
    reason: str
    problem: str


def elsewhere(home: Home, environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Yields whether database, bucket and cluster answer; nothing where the home stands on itself alone."""
    if missing("rater") or not _named(home, os.environ if environment is None else environment):
        return
    command = [sys.executable, "-m", "konomi_chassis", "reach", "--home", str(home.root)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        yield Finding(
            "elsewhere", "fail", text("database, bucket or cluster did not answer within {seconds} s", seconds=SECONDS)
        )
        return
    yield from (_finding(json.loads(line)) for line in ran.stdout.splitlines())
    if ran.returncode:
        said = (ran.stderr.strip().splitlines() or [text("no reason given")])[-1]
        yield Finding("elsewhere", "fail", said, text("correct {path}", path=home.configuration))


def _finding(line: ReachedLine) -> Finding:
    name = text(KINDS[line["kind"]])
    if not line["code"]:
        return Finding(name, "ok", text("{place} answers", place=line["place"]))
    return Finding(name, "fail", str(told(from_item(line["code"], line["reason"], line["problem"]))))


def _named(home: Home, environment: Mapping[str, str]) -> bool:
    """Says whether anything elsewhere is set; a file that cannot be read is another check's business."""
    try:
        tables = tomllib.loads(home.configuration.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError):
        tables = {}
    table = {name: value for name, value in tables.items() if isinstance(value, dict)}
    return any(environment.get(variable) or table.get(name, {}).get("url") for name, variable in NAMED) or any(
        "ray" in (environment.get(f"KONOMI_SCALE_{name.upper()}"), table.get("scale", {}).get(name))
        for name in EXECUTORS
    )
