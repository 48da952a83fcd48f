"""`konomi doctor`: what is missing or unsafe here, and the one line that fixes each."""

from typing import Annotated

import typer

from konomi.cli.console import FAILED, Json, emit, say
from konomi.cli.doctor.checks import examine
from konomi.cli.doctor.finding import Finding
from konomi.cli.doctor.integrity import examine_deeply
from konomi.home import Home
from konomi.i18n.catalogue import text

MARKS = {"ok": "ok  ", "warn": "note", "fail": "FAIL"}


Deep = Annotated[
    bool, typer.Option("--deep", help="Also read everything the home holds, and say what is damaged. Takes long.")
]


def doctor(deep: Deep = False, as_json: Json = False) -> None:
    """Say what is missing or unsafe here, and the line that fixes each.

    Example: konomi doctor --json
    """
    findings = examine(Home.locate())
    if deep:
        findings += examine_deeply(Home.locate())
    healthy = all(finding.state != "fail" for finding in findings)
    if as_json:
        emit({"ok": healthy, "checks": [finding.as_dict() for finding in findings]})
    else:
        for finding in findings:
            _print(finding)
        say(text("nothing stands in the way") if healthy else text("put right what is marked FAIL"))
    if not healthy:
        raise typer.Exit(FAILED)


def _print(finding: Finding) -> None:
    say(f"{MARKS[finding.state]} {finding.name:<18} {finding.detail}")
    if finding.fix:
        say(f"     {'':<18} → {finding.fix}")
