"""Finished trials, one JSON line each, and what is said of several: means with paired bootstrap intervals over persons.

A trial is keyed by the digest of what it was asked, so a run that was cut off goes on, and another setting is another
trial. The interval resamples persons and keeps all seeds of one together: seeds of one person are no new persons.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.results import FOLDER

NIGHT = FOLDER / "night"
DRAWS = 4000

Trial = dict[str, Any]


class Trials:
    """The finished trials of one part of the proof."""

    def __init__(self, part: str) -> None:
        """Takes the part's name; the file is build/bench/night/PART.jsonl."""
        self.path = NIGHT / f"{part}.jsonl"

    def all(self) -> dict[str, Trial]:
        """Returns every finished trial by its key; a line that was cut off is left out."""
        found = {}
        for line in self.path.read_text("utf-8").splitlines() if self.path.exists() else []:
            try:
                trial = json.loads(line)
            except ValueError:
                continue
            found[trial["key"]] = trial
        return found

    def do(self, asked: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]) -> Trial:
        """Returns the finished trial of what is asked, working it out where it is not known yet."""
        key = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]
        known = self.all().get(key)
        if known is not None:
            return known
        began = time.monotonic()
        found = work()
        trial = {"key": key, **asked, **found, "wall": round(time.monotonic() - began, 1)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(trial, sort_keys=True) + "\n")
        words = " ".join(str(value) for value in asked.values())[:100]
        print(f"{self.path.stem}: {words} ({trial['wall']} s)", flush=True)
        return trial


def by_person(trials: Iterable[Trial], figure: Callable[[Trial], float]) -> dict[int, float]:
    """Returns each person's mean of a figure over their trials."""
    found: dict[int, list[float]] = {}
    for trial in trials:
        found.setdefault(trial["person"], []).append(figure(trial))
    return {person: float(np.mean(values)) for person, values in sorted(found.items())}


def interval(values: Mapping[int, float] | Sequence[float]) -> tuple[float, float, float]:
    """Returns the mean over persons with its 95 % bootstrap interval."""
    kept = np.array(list(values.values()) if isinstance(values, Mapping) else list(values), float)
    if not len(kept):
        return float("nan"), float("nan"), float("nan")
    drawn = kept[_draws(len(kept))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(kept.mean()), float(low), float(high)


def ratio(above: Mapping[int, float], below: Mapping[int, float], floor: float = 1e-9) -> tuple[float, float, float]:
    """Returns the ratio of two means over the same persons with its paired 95 % bootstrap interval.

    Args:
        above: person to figure.
        below: the same of what it is compared with.
        floor: least mean to divide by, where there may have been nothing to count.
    """
    shared = sorted(set(above) & set(below))
    if not shared:
        return float("nan"), float("nan"), float("nan")
    a, b = (np.array([part[person] for person in shared]) for part in (above, below))
    rows = _draws(len(shared))
    low, high = np.quantile(a[rows].mean(axis=1) / b[rows].mean(axis=1).clip(floor), [0.025, 0.975])
    return float(a.mean() / max(b.mean(), floor)), float(low), float(high)


def at_equal_vendi(curve: Sequence[tuple[float, float]], vendi: float, figure: float) -> float:
    """Returns how much a figure exceeds what today's way has at the same diversity.

    Strength alone buys wins for diversity, so two ways are compared where both keep as much of it.

    Args:
        curve: (Vendi as a share of the base model's, figure) of today's way at several scales of its adapter, the base
            model itself among them; two or more of different Vendi. Beyond its ends the nearest segment goes on.
        vendi: of what is compared, as a share of the base model's.
        figure: of what is compared.
    """
    points = sorted(dict(curve).items())
    if len(points) < 2:
        raise ValueError(f"expected two scales of different Vendi or more, got {len(points)}")
    at = np.array([place for place, _ in points])
    right = int(np.clip(np.searchsorted(at, vendi), 1, len(points) - 1))
    (x0, y0), (x1, y1) = points[right - 1 : right + 1]
    return float(figure - (y0 + (y1 - y0) * (vendi - x0) / (x1 - x0)))


def row(name: str, what: str, value: tuple[float, float, float], baseline: float | None, unit: str, n: int) -> Trial:
    """Returns one figure as night.json holds it; the ratio is value over baseline."""
    said, low, high = (number if np.isfinite(number) else None for number in value)
    return {
        "id": name,
        "what": what,
        "value": said,
        "interval": [low, high],
        "baseline": baseline,
        "unit": unit,
        "n": n,
    }


def _draws(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, count, (DRAWS, count))
