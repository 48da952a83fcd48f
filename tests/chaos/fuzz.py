"""One parser under atheris: `python -m tests.chaos.fuzz PARSER RUNS FOLDER` ends with 0 where nothing fell.

A process of its own, because libFuzzer ends the one it runs in. Inputs that made a parser fall, or take longer than
five seconds, are left in FOLDER. atheris' coverage steers what comes next, so konomi's parsers and those of the
standard library are instrumented.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import atheris

SECONDS = 5
"""Time on a processor an answer may take, whatever else the machine does."""
HANGS = 120
"""Time on the wall after which a parser hangs."""
MEGABYTES = 1024
MOST_BYTES = 8192


def main(name: str, runs: int, folder: Path) -> None:
    """Runs a parser on so many inputs; libFuzzer ends the process, with 0 where it answered all of them."""
    with atheris.instrument_imports(include=["konomi", "konomi_chassis", "zipfile", "tarfile", "json", "tomllib"]):
        from tests.chaos.parsers import PARSERS

        parser = PARSERS[name]
        corpus = folder / "corpus"
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(parser.seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
            parser.answer(seed)  # what is imported at the first call is instrumented too

    options = [
        f"-runs={runs}",
        f"-timeout={HANGS}",
        f"-rss_limit_mb={MEGABYTES if name not in HEAVY else 3 * MEGABYTES}",
        f"-max_len={MOST_BYTES}",
        f"-artifact_prefix={folder}{os.sep}",
        "-seed=20261128",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], timed(parser.answer))
    atheris.Fuzz()


def timed(answer: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Returns what gives bytes to a parser and falls where it took too long."""

    def ask(data: bytes) -> None:
        began = time.process_time()
        answer(data)
        taken = time.process_time() - began
        if taken > SECONDS:
            raise AssertionError(f"took {taken:.1f} s of a processor")

    return ask


HEAVY = ("parquet", "manifest", "plan")
"""Parsers behind libraries that take hundreds of megabytes before they read a byte."""

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
