"""Sections of a check of one device: each with an estimate and a deadline of its own, its rows on disk as they come."""

import gc
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.trainer import published_layouts as published

CUT_ORDER = {"compile": 50.0, "sdxl batch 8": 10.0, "png": 10.0}
"""What is left out first when the run is late, with the seconds that saves; the first is a section, the rest parts."""
REHEARSAL_SCALE = 8
"""What sides of pictures are divided by in a rehearsal."""


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: what was measured, in words.
        value: the measurement; None where `note` says why there is none.
        unit: its unit.
        against: what it is compared with, in the same unit.
        most, least: the goal of value over against, or of the value where there is nothing to compare with.
        note: what else to know.
    """

    what: str
    value: float | None = None
    unit: str = ""
    against: float | None = None
    most: float | None = None
    least: float | None = None
    note: str = ""

    @property
    def figure(self) -> float | None:
        """What the goal is about."""
        return self.value / self.against if self.value is not None and self.against else self.value

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.figure is None or (self.most is None and self.least is None):
            return None
        return (self.most is None or self.figure <= self.most) and (self.least is None or self.figure >= self.least)


@dataclass
class Check:
    """What every section works with.

    Attributes:
        device: "cuda", "cuda:1" or "cpu".
        home: a scratch home with the models.
        rehearse: the same lines on tiny models.
        divisor: of the layouts' widths.
        budget: seconds in all.
        cut: sections and parts that are left out because the run is late.
        ceilings: measured once: "flops" a second in half precision, "bytes" a second.
    """

    device: str
    home: Path
    rehearse: bool
    divisor: int
    budget: float
    began: float = field(default_factory=time.monotonic)
    cut: set[str] = field(default_factory=set)
    ceilings: dict[str, float] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return torch.device(self.device).type == "cuda"

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.budget - (time.monotonic() - self.began)

    def take(self, real: int, tiny: int) -> int:
        """Returns a number for the measurement, or the rehearsal's."""
        return tiny if self.rehearse else real

    def side(self, layout: str) -> int:
        """Returns the side of a layout's pictures in pixels."""
        return published.SIDES[layout] // (REHEARSAL_SCALE if self.rehearse else 1)

    def now(self) -> float:
        """Returns a moment in seconds at which the device has nothing left to do."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, work: Callable[[], Any], times: int = 1) -> float:
        """Returns what one of `times` repetitions takes, on the mean."""
        began = self.now()
        for _ in range(times):
            work()
        return (self.now() - began) / times

    def forget_peak(self) -> None:
        """Begins counting the device's peak memory anew."""
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> float:
        """Returns the peak of the device's memory since then in GB; 0 where nothing counts it."""
        return torch.cuda.max_memory_allocated(self.device) / 1e9 if self.on_gpu else 0.0

    def reserved(self) -> float:
        """Returns what torch holds of the device's memory, used or not, in GB."""
        return torch.cuda.memory_reserved(self.device) / 1e9 if self.on_gpu else 0.0

    def tidy(self) -> None:
        """Gives back what a section left behind."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()
            self.forget_peak()


@dataclass(frozen=True)
class Section:
    """A part of the check with the seconds it is thought to take on an H200."""

    name: str
    seconds: float
    run: Callable[[Check], Iterable[Row]]


class Overrun(BaseException):
    """A section's deadline came; no handler of the measured code takes it for a failure of its own."""


class RowFile:
    """The rows of a run: one JSON line each, on the disk before the next is measured."""

    def __init__(self, path: Path, check: Check) -> None:
        """Begins the file anew."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._check = path.open("w", encoding="utf-8"), check
        self.rows: list[dict[str, Any]] = []

    def add(self, section: str, row: Row) -> None:
        """Appends a row."""
        at = round(time.monotonic() - self._check.began, 1)
        line = {"section": section, **asdict(row), "ratio": row.figure if row.against else None, "met": row.met}
        self.rows.append(line | {"at": at, "device": self._check.device, "rehearsal": self._check.rehearse})
        self._file.write(json.dumps(self.rows[-1], sort_keys=True) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def run(check: Check, sections: Sequence[Section], rows: RowFile) -> bool:
    """Runs the sections that fit; returns whether all of them ran to their end.

    A section that fails is named with its error, one that does not fit the time left with both numbers.
    """
    whole = True
    for number, section in enumerate(sections):
        check.cut |= late(sections[number:], check)
        if section.name in check.cut or section.seconds > check.left:
            note = f"skipped: its {section.seconds:.0f} s do not fit, {max(0.0, check.left):.0f} s are left"
            rows.add(section.name, Row("section", note=note))
            whole = False
            continue
        began = time.monotonic()
        try:
            with deadline(check.left if check.rehearse else min(2 * section.seconds, check.left)):
                for row in section.run(check):
                    rows.add(section.name, row)
            note = ""
        except Overrun:
            note, whole = f"cut off after {time.monotonic() - began:.0f} s", False
        except Exception as error:  # noqa: BLE001  a section's failure is a row, and the rest is worth measuring
            note, whole = f"failed: {type(error).__name__}: {str(error)[:400]}", False
        rows.add(section.name, Row("section", time.monotonic() - began, "s", section.seconds, note=note))
        check.tidy()
    return whole


def late(ahead: Sequence[Section], check: Check) -> set[str]:
    """Returns what must be left out for the sections ahead to fit: in the order agreed, and no more than needed."""
    missing = sum(section.seconds for section in ahead if section.name not in check.cut) - check.left
    cut: set[str] = set()
    for name, saved in CUT_ORDER.items():
        if missing <= 0:
            break
        if name not in check.cut:
            cut.add(name)
            missing -= saved
    return cut


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises Overrun in the block when the seconds are over."""

    def stop(_signal: int, _frame: object) -> None:
        raise Overrun

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, min(max(seconds, 0.001), 1e6))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Returns the rows as a table to read."""
    lines = []
    for row in rows:
        value = "" if row["value"] is None else f"{row['value']:.4g} {row['unit']}"
        against = "" if row["against"] is None else f" against {row['against']:.4g}, ratio {row['ratio'] or 0:.3g}"
        goals = [f"{word} {row[name]:g}" for word, name in (("≤", "most"), ("≥", "least")) if row[name] is not None]
        verdict = "" if row["met"] is None else f" (goal {' '.join(goals)}: {'met' if row['met'] else 'NOT met'})"
        lines.append(f"{row['section']:16} {row['what']:62} {value}{against}{verdict} {row['note']}".rstrip())
    return "\n".join(lines)
