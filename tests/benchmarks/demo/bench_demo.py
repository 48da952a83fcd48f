"""P11: wall time of `konomi demo` on this machine, from the command to the report, with the night's share beside it.

Method: one run with the default settings in a fresh home; baselines are the promised 10 and 6 minutes.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.results import Figure, report

PROMISED_SECONDS = 600.0
PROMISED_NIGHT_SECONDS = 360.0


def main() -> None:
    """Runs the demo once and reports."""
    konomi = Path(sys.executable).with_name("konomi")
    with tempfile.TemporaryDirectory() as home:
        start = time.monotonic()
        command = [str(konomi), "demo", "--json", "--home", home, *sys.argv[1:]]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=3600, check=True)
        seconds = time.monotonic() - start
    result = json.loads(done.stdout.splitlines()[-1])
    units = [unit["seconds"] for unit in result["units"] if unit["unit"] != 0]
    figures = [
        Figure("P11", "wall time of konomi demo", seconds, PROMISED_SECONDS, "s", 1),
        Figure("P11", "of it, units of the night", sum(units), PROMISED_NIGHT_SECONDS, "s", len(units)),
    ]
    report("demo", figures)


if __name__ == "__main__":
    main()
