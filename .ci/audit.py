"""Looks up the pins of constraints.txt in the advisory database of the package index, and says of how many it knows.

A finding fails, but for those waived below until a date. Where no database answers nothing is known, and that is said:
a machine without one still runs the tests.
"""

import json
import subprocess
import sys
from datetime import date

WAIVED: dict[str, tuple[str, str]] = {}
"""Advisory id to the day the waiver ends, "2026-12-31", and why it does not touch konomi."""

COMMAND = (
    *(".venv/bin/uv", "tool", "run", "--quiet", "pip-audit==2.10.1", "--no-deps", "--disable-pip"),
    *("--progress-spinner", "off", "--timeout", "5", "--format", "json", "--requirement", "constraints.txt"),
)
SECONDS = 300


def main(today: date) -> int:
    """Prints what is known of the pins; returns 1 where one has an advisory nobody waived."""
    try:
        answer = subprocess.run(COMMAND, capture_output=True, text=True, timeout=SECONDS, check=False).stdout
        pins = json.loads(answer)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        print("pins: no auditor can be had here; NOTHING is known of them")
        return 0
    looked_up = [pin for pin in pins if "skip_reason" not in pin]
    open_findings = [
        f"{pin['name']} {pin['version']}: {finding['id']}, mended in {finding['fix_versions'] or 'no version'}"
        for pin in looked_up
        for finding in pin["vulns"]
        if not _waived({finding["id"], *finding["aliases"]}, today)
    ]
    print("\n".join(open_findings) or f"pins: {len(looked_up)} of {len(pins)} looked up, no open advisory")
    if len(looked_up) < len(pins):
        print(f"pins: NOTHING is known of {len(pins) - len(looked_up)}: the advisory database did not answer for them")
    return 1 if open_findings else 0


def _waived(ids: set[str], today: date) -> bool:
    return any(today <= date.fromisoformat(WAIVED[name][0]) for name in ids & WAIVED.keys())


if __name__ == "__main__":
    sys.exit(main(date.today()))
