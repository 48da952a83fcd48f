"""One parser under atheris: `python -m tests.chaos.fuzz PARSER RUNS FOLDER` ends with 0 where nothing fell.

A process of its own, because libFuzzer ends the one it runs in. Inputs that made a parser fall, or take longer than
five seconds, are left in FOLDER. atheris' coverage steers what comes next, so konomi's parsers and those of the
standard library are instrumented.
"""

import os
import sys
from pathlib import Path

import atheris

SECONDS = 5
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
        f"-timeout={SECONDS}",
        f"-rss_limit_mb={MEGABYTES if name not in HEAVY else 3 * MEGABYTES}",
        f"-max_len={MOST_BYTES}",
        f"-artifact_prefix={folder}{os.sep}",
        "-seed=20261128",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], parser.answer)
    atheris.Fuzz()


HEAVY = ("parquet", "manifest", "plan")
"""Parsers behind libraries that take hundreds of megabytes before they read a byte."""

if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
