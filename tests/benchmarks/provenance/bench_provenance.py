"""What it is worth to know which model made an image: the Gaussian process with and without that part.

Question: where several models made the images of a taste, does the part of how they were made find the person's best
images (AP of UR) and order them (SRCC) better at 20 to 200 labels, and does it cost anything where the person does not
care? Method: simulated persons (tests/benchmarks/rater/persons.py) over 1,600 starter images, 800 may be labelled at
random, the other 800 are the test, against what the person says of a fresh image. Each image is given to one of four
models, whose rendering is a fixed direction added to its embedding (made up, not drawn by four models), as large as
`--shift` of its length. A person who cares adds a liking of each model, of half the spread of their taste; an
indifferent one adds none. The baseline is the same fit, of the same labels in the same run, without the part: trees on
parameters, the model among them, from 50 labels on. A difference is the mean of the paired ones, with its 95 %
bootstrap interval over persons. Minutes on one core: 4 for the images, once; 8 for the fits; `--persons 3` is a smoke
test.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest.mock import patch

import numpy as np
from sklearn.metrics import average_precision_score
from threadpoolctl import threadpool_limits

from konomi_rater.preference import fitting
from konomi_rater.preference.fitting import Fitted
from konomi_rater.preference.metrics import spearman
from konomi_rater.preference.provenance.origins import Origins
from konomi_rater.preference.provenance.parameters import Provenance
from konomi_rater.preference.training import Training
from konomi_starter.persons.utility import QUANTILES
from tests.benchmarks.rater import persons, pool
from tests.benchmarks.rater.taste import interval
from tests.benchmarks.results import merge

IMAGES, OPEN = 1600, 800
PERSONS = 24
COUNTS = (20, 50, 100, 200)
MODELS = ("base", "night/unit-1", "elsewhere:one", "elsewhere:another")
CARES = {"cares": 0.5, "indifferent": 0.0}
"""Kind of person to the spread of what they think of models, that of their taste being 1."""
Figures = Mapping[str, float]


def _shuffled(images: pool.ImagePool) -> pool.ImagePool:
    """Returns the pool in another order: it lies by guidance, and labelled and test images shall be alike."""
    at = np.random.default_rng(15).permutation(len(images.embeddings))
    return pool.ImagePool(
        images.embeddings[at],
        [images.records[row] for row in at],
        [images.prompts[row] for row in at],
        images.seeds[at],
        images.guidance[at],
    )


def made_by(images: pool.ImagePool, shift: float) -> tuple[np.ndarray, list[Provenance], np.ndarray]:
    """Returns the embeddings as the models render them, how each image was made, and the number of its model (N,)."""
    rng = np.random.default_rng(13)
    numbers = rng.integers(0, len(MODELS), len(images.embeddings))
    directions = rng.standard_normal((len(MODELS), images.embeddings.shape[1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    rows = images.embeddings + shift * directions[numbers]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    made = [
        Provenance("", MODELS[number], {"guidance_scale": float(scale)})
        for number, scale in zip(numbers, images.guidance, strict=True)
    ]
    return rows, made, numbers


def _one(images: pool.ImagePool, shift: float, liking: float, number: int, count: int) -> dict[str, Figures]:
    """Returns the figures of one person and one draw of labels, with the part and without."""
    rows, made, models = made_by(images, shift)
    person = persons.person(images.records, number)
    rng = np.random.default_rng((14, number))
    likes = rng.permutation(np.linspace(-1, 1, len(MODELS)))
    utility = person.utility + liking * (likes / likes.std())[models]
    cuts = np.quantile(utility, QUANTILES)
    spread = person.noise * utility.std()
    said, again = (1 + np.searchsorted(cuts, utility + spread * rng.standard_normal(len(utility))) for _ in range(2))
    chosen = rng.permutation(OPEN)[:count]
    training = Training(
        embeddings=rows[chosen],
        grades=said[chosen],
        groups=[str(row) for row in chosen],
        drawn=np.ones(count, bool),
        background=rows[:OPEN],
        provenances=[made[row] for row in chosen],
    )
    figures = {}
    for name in ("with", "without"):
        learn = fitting.learn_origins if name == "with" else lambda _: Origins()
        with patch.object(fitting, "learn_origins", learn):
            *_, last = fitting.fit(training, number)
        assert isinstance(last, Fitted)
        guess = last.head.predict(rows[OPEN:], made[OPEN:]).utility
        figures[name] = {
            "ap_ur": float(average_precision_score(again[OPEN:] == 5, guess)),
            "srcc": spearman(again[OPEN:], guess),
        }
    return figures


def rows(people: int, shifts: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Yields a row a kind of person, rendering difference, count and measure."""
    images = _shuffled(pool.load(IMAGES))
    for kind, liking in CARES.items():
        for shift in shifts:
            for count in COUNTS:
                found = [_one(images, shift, liking, number, count) for number in range(people)]
                for measure in ("ap_ur", "srcc"):
                    own, against = ([one[arm][measure] for one in found] for arm in ("with", "without"))
                    gaps = np.subtract(own, against)
                    yield {
                        "id": "provenance",
                        "what": f"{kind}, rendering {shift}, {count} labels: with the part against without",
                        "unit": measure,
                        "n": people,
                        "value": float(np.mean(own)),
                        "baseline": float(np.mean(against)),
                        "difference": [float(gaps.mean()), *interval(gaps)],
                    }


def main() -> None:
    """Measures and writes build/bench/rater.provenance.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--persons", type=int, default=PERSONS)
    parser.add_argument("--shift", type=float, nargs="+", default=[0.0, 0.2])
    arguments = parser.parse_args()
    done = []
    with threadpool_limits(1):
        for row in rows(arguments.persons, arguments.shift):
            mean, low, high = row["difference"]
            print(f"{row['what']:70} {row['unit']:6} {row['baseline']:.3f} -> {row['value']:.3f}", end=" ")
            print(f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]", flush=True)
            done.append(row)
    merge("rater.provenance", done)


if __name__ == "__main__":
    main()
