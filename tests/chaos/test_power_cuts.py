"""The power goes right after an acknowledgement: what was acknowledged is there, and a weakened konomi is found out.

KONOMI_POWER_CUTS (12) cuts of each kind, seeds from KONOMI_CHAOS_SEED (100) on; a release takes 1,000.
"""

import functools
import os
import random
import tempfile
from pathlib import Path

import pytest

from tests.chaos import power, writers

CUTS = int(os.environ.get("KONOMI_POWER_CUTS", "12"))
SEED = int(os.environ.get("KONOMI_CHAOS_SEED", "100"))
TRIES = 10
"""Cuts within which a mutant must be found."""

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(7200),
    pytest.mark.skipif(not power.usable(), reason="no right to mount an image"),
]


@pytest.fixture
def disk(tmp_path):
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield power.Disk(Path(folder))


def lost_in_writing(disk, seed, mutant="none"):
    """Cuts the power after one of a dozen writes; returns what was acknowledged, and what of it is missing."""
    said = disk.cut([functools.partial(writers.write, seed=seed, mutant=mutant)])
    assert said
    with disk.after() as home:
        return said, writers.missing(home, said)


def lost_in_the_retry_window(disk, seed, mutant="none"):
    """A put is killed after its rename and sent again; the power goes when the second one is acknowledged."""
    data = random.Random(seed).randbytes(20_000)
    first = functools.partial(writers.put_and_die, data=data, point="artifact.before_folder_fsync@2")
    said = disk.cut([first, functools.partial(writers.put_again, data=data, mutant=mutant)])
    assert len(said) == 1
    with disk.after() as home:
        return said, writers.missing(home, said)


KINDS = {"writing": lost_in_writing, "the retry window": lost_in_the_retry_window}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_acknowledged_is_lost(disk, kind, tell):
    acknowledged, lost = 0, []
    for number in range(CUTS):
        said, missing = KINDS[kind](disk, SEED + number)
        acknowledged += len(said)
        lost += [(SEED + number, line) for line in missing]
        if number % 50 == 49:
            tell(f"{number + 1} power cuts in {kind}: {acknowledged} acknowledged, {len(lost)} lost")
    tell(f"{CUTS} power cuts in {kind}: {acknowledged} acknowledged, {len(lost)} lost")
    assert lost == []


@pytest.mark.parametrize(
    ("kind", "mutant"),
    [
        ("the retry window", "no sync of what was there already, nor at start"),
        ("writing", "no sync of folders"),
        ("writing", "synchronous=NORMAL"),
        ("writing", "synchronous=OFF"),
    ],
)
def test_a_weakened_konomi_is_found_out(disk, kind, mutant, tell):
    for number in range(TRIES):
        _, missing = KINDS[kind](disk, SEED + number, mutant)
        if missing:
            tell(f"{mutant}: found in cut {number + 1}: {missing[0]}")
            return
    pytest.fail(f"{TRIES} cuts did not show: {mutant}")
