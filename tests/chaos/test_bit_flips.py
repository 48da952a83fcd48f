"""One flipped bit in anything konomi keeps: the same answer or an error that names the damage, never another answer.

KONOMI_FLIPS (10,000) flips over all classes of files, drawn from KONOMI_CHAOS_SEED (100).
"""

import os
import random
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from pydantic import ValidationError

from konomi.errors import KonomiError
from tests.chaos.bit_flips import CLASSES, comparable

FLIPS = int(os.environ.get("KONOMI_FLIPS", "10000"))
SEED = int(os.environ.get("KONOMI_CHAOS_SEED", "100"))
FEW = 300
HEAD = 128
"""Bytes at a file's beginning that are struck as often as all others: headers."""
KEPT = ("digest", "tokens/lock")
"""Files that stand for something else and are not struck."""


@pytest.fixture
def memory(tmp_path):
    """A folder in memory, where there is one: every opened database syncs."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else tmp_path) as folder:
        yield Path(folder)


def flip(folder, rng):
    """Flips one bit of one file and returns where: (file, byte, bit)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    files = [path for path in files if str(path.relative_to(folder)) not in KEPT]
    even = rng.random() < 0.5
    (path,) = rng.choices(files, None if even else [file.stat().st_size for file in files])
    size = path.stat().st_size
    place, bit = rng.randrange(min(size, HEAD) if rng.random() < 0.25 else size), rng.randrange(8)
    data = bytearray(path.read_bytes())
    data[place] ^= 1 << bit
    path.write_bytes(data)
    return str(path.relative_to(folder)), place, bit


def outcome(ask, folder, wanted):
    """Returns "same", "told", "wrong" or "traceback", and what was said."""
    try:
        answer = comparable(ask(folder))
    except (KonomiError, ValidationError) as error:
        return "told", str(error)
    except Exception as error:  # noqa: BLE001  what is no konomi error would be a raw traceback
        return "traceback", f"{type(error).__name__}: {error}"
    return ("same", "") if answer == wanted else ("wrong", "")


def strike(name, count, seed, memory):
    """Flips `count` bits, one at a time, and returns how often what came of it, and the places that went wrong."""
    kind, rng = CLASSES[name], random.Random(f"{seed} {name}")
    whole, struck = memory / name / "whole", memory / name / "struck"
    whole.mkdir(parents=True)
    kind.make(whole)
    shutil.copytree(whole, struck)
    wanted = comparable(kind.ask(struck))
    outcomes, wrong = Counter(), []
    for _ in range(count):
        shutil.rmtree(struck)
        shutil.copytree(whole, struck)
        where = flip(struck, rng)
        what, said = outcome(kind.ask, struck, wanted)
        outcomes[what] += 1
        if what == "traceback" or (what == "wrong" and kind.guarded):
            wrong.append((where, what, said))
    return outcomes, wrong


def strike_all(count, memory, tell):
    each, wrong, total = -(-count // len(CLASSES)), {}, Counter()
    for name in CLASSES:
        outcomes, places = strike(name, each, SEED, memory)
        tell(f"{name:<30} " + ", ".join(f"{what} {outcomes[what]}" for what in ("same", "told", "wrong", "traceback")))
        total += outcomes
        if places:
            wrong[name] = places
    tell(f"{'all':<30} {dict(total)}")
    return wrong


@pytest.mark.slow
def test_few_flips(memory, tell):
    assert strike_all(FEW, memory, tell) == {}


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_many_flips(memory, tell):
    assert strike_all(FLIPS, memory, tell) == {}


@pytest.mark.slow
def test_the_harness_sees_an_unguarded_file(memory):
    """Without page checksums flips do give other answers: the very fault this guards against."""
    from konomi_chassis.storage.sqlite import page_checksums

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(page_checksums, "_loaded", False)
        outcomes, wrong = strike("rater database", 150, SEED, memory)
    assert outcomes["wrong"] and wrong
