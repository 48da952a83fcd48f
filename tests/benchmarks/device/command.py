"""The command line of the check: which sections there are, what they are thought to take, what is said at the end."""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from konomi_chassis.process import keep_freed_memory
from tests.benchmarks.device import basics, generating, learning, precision, rating, scarcity
from tests.benchmarks.device.sections import Check, RowFile, Section, run, table
from tests.benchmarks.results import FOLDER

SECTIONS = (
    Section("versions", 15, basics.versions),
    Section("loading", 35, basics.loading),
    Section("ceilings", 5, basics.ceilings),
    Section("generator sd1", 40, generating.sd1),
    Section("generator sdxl", 75, generating.sdxl),
    Section("adapters", 30, generating.adapters),
    Section("parity", 35, precision.parity),
    Section("lora step", 85, learning.steps),
    Section("rater", 60, rating.rater),
    Section("scarcity", 45, scarcity.scarcity),
    Section("two processes", 25, scarcity.two_processes),
    Section("compile", 50, generating.compiled),
)
"""In the order they run: what is cut first comes last. Seconds on an H200, an estimate."""
DIVISOR = 16
"""Of a rehearsal's widths."""


def arguments(given: Sequence[str]) -> argparse.Namespace:
    """Returns what the command line says."""
    parser = argparse.ArgumentParser(prog="device_check.py", description="Measures and checks konomi on one device.")
    parser.add_argument("--out", type=Path, default=FOLDER / "device", help="folder of rows.jsonl and table.txt")
    parser.add_argument("--budget", type=float, help="seconds in all; 520, or no limit in a rehearsal")
    parser.add_argument("--rehearse", action="store_true", help="the same lines on tiny models, on the CPU")
    parser.add_argument("--divisor", type=int, help="of the layouts' widths: 1, or 16 in a rehearsal")
    parser.add_argument("--sections", default="", help="some of them, with commas between")
    parser.add_argument("--device", help='"cuda", "cuda:1" or "cpu"; cuda, or cpu in a rehearsal')
    options = parser.parse_args(given)
    options.budget = options.budget or (math.inf if options.rehearse else 520.0)
    options.divisor = options.divisor or (DIVISOR if options.rehearse else 1)
    options.device = options.device or ("cpu" if options.rehearse else "cuda")
    options.sections = [name for name in options.sections.split(",") if name]
    unknown = set(options.sections) - {section.name for section in SECTIONS}
    if unknown:
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in SECTIONS)}")
    return options


def main(given: Sequence[str]) -> int:
    """Runs the check; returns 0 where every section ran to its end."""
    options = arguments(given)
    keep_freed_memory()
    chosen = [section for section in SECTIONS if not options.sections or section.name in options.sections]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        (home / "models").mkdir(parents=True)
        check = Check(options.device, home, options.rehearse, options.divisor, options.budget)
        rows = RowFile(options.out / "rows.jsonl", check)
        whole = run(check, chosen, rows)
    shown = table(rows.rows)
    (options.out / "table.txt").write_text(shown + "\n", "utf-8")
    print(shown)
    return 0 if whole else 1
