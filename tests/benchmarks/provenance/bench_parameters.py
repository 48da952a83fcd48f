"""Parameters alone: how well a taste is told from how images were made, where pixels say nothing of it, or half.

Question: at 30 to 300 labels, does konomi's fit order images as well as trees that see the parameters alone, where
pixels know nothing, and is it no worse where pixels know all? Method: 12 parameters drawn evenly from 0 to 1,
embeddings of 64 numbers with a falling spectrum; the utility is a function of the parameters (Friedman's first, 1991;
bands of four of them; a line), of the pixels (a line), or half of either; label noise .35 of its spread, grades at the
usual quantiles; 600 images are the test, against the utility. Beside it, on the same labels: extremely randomised trees
of scikit-learn and LightGBM with its defaults, which see the parameters alone, and konomi's own fit where nobody knows
how an image was made. A difference is the mean of the paired ones with its 95 % bootstrap interval over worlds. Two
minutes on one core.
"""

import argparse
from collections.abc import Iterator, Mapping
from typing import Any

import lightgbm
import numpy as np
from sklearn.ensemble import ExtraTreesRegressor
from threadpoolctl import threadpool_limits

from konomi_rater.preference.fitting import Fitted, fit
from konomi_rater.preference.metrics import spearman
from konomi_rater.preference.provenance.parameters import Provenance
from konomi_rater.preference.training import Training
from konomi_starter.persons.utility import QUANTILES
from tests.benchmarks.rater.taste import interval
from tests.benchmarks.results import merge

WORLDS, OPEN, TESTED = 10, 400, 600
COUNTS = (30, 50, 100, 300)
NOISE = 0.35
BEDS: Mapping[str, tuple[str, float]] = {
    "Friedman's first": ("friedman", 0.0),
    "bands": ("bands", 0.0),
    "a line": ("line", 0.0),
    "half Friedman's first, half pixels": ("friedman", 0.5),
    "half bands, half pixels": ("bands", 0.5),
    "pixels alone": ("line", 1.0),
}
"""Bed to the function of the parameters and the share of the variance that pixels show."""


def world(kind: str, shown: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns embeddings (N, 64), parameters (N, 12), utility (N,) and grades (N,)."""
    rng, count = np.random.default_rng((31, seed)), OPEN + TESTED
    made = rng.random((count, 12))
    if kind == "friedman":
        wave, bow = np.sin(np.pi * made[:, 0] * made[:, 1]), (made[:, 2] - 0.5) ** 2
        utility = 10 * wave + 20 * bow + 10 * made[:, 3] + 5 * made[:, 4]
    elif kind == "bands":
        low = rng.uniform(0, 0.7, 4)
        inside = (made[:, :4] > low) & (made[:, :4] < low + 0.35)
        utility = inside @ np.array([1.5, 1.2, 1.0, 0.8]) + 1.5 * ((made[:, 0] > low[0]) & (made[:, 1] > 0.5))
    else:
        utility = made @ rng.standard_normal(12)
    rows = rng.standard_normal((count, 64)) * np.arange(1, 65) ** -0.5
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    seen = rows @ rng.standard_normal(64)
    utility = np.sqrt(1 - shown) * _standard(utility) + np.sqrt(shown) * _standard(seen)
    said = utility + NOISE * rng.standard_normal(count)
    return rows.astype(np.float32), made, utility, 1 + np.searchsorted(np.quantile(utility, QUANTILES), said)


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std()


def _one(kind: str, shown: float, seed: int, count: int) -> dict[str, float]:
    """Returns the rank agreement of each method on one world's test images."""
    rows, made, utility, grades = world(kind, shown, seed)
    told = [Provenance("", "base", {f"p{at}": float(value) for at, value in enumerate(row)}) for row in made]

    def konomi(known: list[Provenance]) -> np.ndarray:
        names = [str(row) for row in range(count)]
        drawn = np.ones(count, bool)
        training = Training(rows[:count], grades[:count], names, drawn, rows[:OPEN], provenances=known[:count])
        *_, last = fit(training, seed)
        assert isinstance(last, Fitted)
        return last.head.predict(rows[OPEN:], known[OPEN:] or None).utility

    forest = ExtraTreesRegressor(200, min_samples_leaf=2, random_state=seed, n_jobs=1)
    boosted = lightgbm.LGBMRegressor(n_jobs=1, verbose=-1)
    answers = {
        "konomi": konomi(told),
        "konomi, pixels alone": konomi([]),
        "ExtraTrees": forest.fit(made[:count], grades[:count]).predict(made[OPEN:]),
        "LightGBM default": np.asarray(boosted.fit(made[:count], grades[:count]).predict(made[OPEN:])),
    }
    truth = utility[OPEN:]
    return {name: spearman(truth, answer) if np.ptp(answer) else 0.0 for name, answer in answers.items()}


def rows(worlds: int) -> Iterator[dict[str, Any]]:
    """Yields a row a bed, count and rival."""
    for bed, (kind, shown) in BEDS.items():
        for count in COUNTS:
            found = [_one(kind, shown, seed, count) for seed in range(worlds)]
            for rival in list(found[0])[1:]:
                own, other = ([one[name] for one in found] for name in ("konomi", rival))
                gaps = np.subtract(own, other)
                yield {
                    "id": "parameters",
                    "what": f"{bed}, {count} labels: konomi against {rival}",
                    "unit": "srcc",
                    "n": worlds,
                    "value": float(np.mean(own)),
                    "baseline": float(np.mean(other)),
                    "difference": [float(gaps.mean()), *interval(gaps)],
                }


def main() -> None:
    """Measures and writes build/bench/rater.parameters.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=WORLDS)
    done = []
    with threadpool_limits(1):
        for row in rows(parser.parse_args().worlds):
            mean, low, high = row["difference"]
            print(f"{row['what']:85} {row['baseline']:.3f} -> {row['value']:.3f}", end=" ")
            print(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]", flush=True)
            done.append(row)
    merge("rater.parameters", done)


if __name__ == "__main__":
    main()
