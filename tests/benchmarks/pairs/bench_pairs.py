"""What pairs teach: the rater from pairs alone, from picks, and from pairs beside grades, against grades alone.

Question: do 100 pairs alone order images at least as well as 30 grades, and do 20 grades with 100 pairs do it better
than the 20 grades? Method: 24 simulated persons over 1,600 starter images (800 may be judged, 800 are the test), and 20
draws over the valence of 399 emoji (a crowd's, not a person's). Pairs and picks are drawn at random, each side judged
anew with the person's noise (.3 for the emoji); a pick is 3 of 9. The figure is the area under the ROC curve of SSR or
better, against what the person says of a fresh image; every arm has the same persons, and a difference is the mean of
the paired ones with its 95 % bootstrap interval over persons (draws). One baseline is not konomi's: a logistic
regression on the differences of standardised embeddings. Favourites: 20 of the images the person calls UR (of
the emoji, all but two), and up to 300 of the rest, ungraded, liked ones among them; against the plain mean of their
embeddings. `make bench-pairs`; minutes on one core: 4 for the images, once, and 2; `--persons 3` is a smoke test.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from konomi_rater.preference.comparisons import Preference
from konomi_rater.preference.fitting import Fitted, fit
from konomi_rater.preference.metrics import auc
from konomi_rater.preference.training import Training
from konomi_starter.persons.utility import QUANTILES
from tests.benchmarks.rater import emoji, persons, pool
from tests.benchmarks.rater.taste import interval
from tests.benchmarks.results import merge

IMAGES, OPEN = 1600, 800
PERSONS, DRAWS = 24, 20
EMOJI_NOISE = 0.3
SHOWN, PICKED = 9, 3
ARMS: Mapping[str, tuple[int, int, int]] = {
    "20 grades": (20, 0, 0),
    "30 grades": (30, 0, 0),
    "100 pairs": (0, 100, 0),
    "12 picks": (0, 0, 12),
    "20 grades, 100 pairs": (20, 100, 0),
    "20 grades, 12 picks": (20, 0, 12),
    "100 grades": (100, 0, 0),
    "100 grades, 100 pairs": (100, 100, 0),
}
"""Name to how many grades, pairs and picks."""
LOGISTIC = "100 pairs, logistic on differences"
DUELS = (
    ("100 pairs", "30 grades"),
    ("12 picks", "30 grades"),
    ("100 pairs", LOGISTIC),
    ("20 grades, 100 pairs", "20 grades"),
    ("20 grades, 12 picks", "20 grades"),
    ("20 grades, 100 pairs", "100 pairs"),
    ("100 grades, 100 pairs", "100 grades"),
)


FAVOURITES, UNGRADED = 20, 300
FAVOURITE_DUELS = (
    ("favourites", "plain mean of the favourites"),
    ("favourites", "mean of the favourites less the mean of all"),
    ("favourites, 30 pairs", "favourites"),
)


@dataclass(frozen=True)
class Bed:
    """One person's images.

    Attributes:
        open: (N, D) embeddings that may be judged.
        grades: (N,) what the person says of them.
        utility: (N,) hidden, of spread 1.
        noise: standard deviation of one judgement.
        test: (M, D) embeddings of the test images.
        liked: (M,) bool, SSR or better when asked of them.
    """

    open: np.ndarray
    grades: np.ndarray
    utility: np.ndarray
    noise: float
    test: np.ndarray
    liked: np.ndarray


def judged(bed: Bed, grades: int, pairs: int, picks: int, rng: np.random.Generator) -> Training:
    """Lets the person grade, compare and pick among random images."""
    graded = rng.permutation(len(bed.open))[:grades]
    row = {int(image): number for number, image in enumerate(graded)}
    said: list[Preference] = []

    def prefer(winner: int, loser: int) -> None:
        said.append(Preference(row.setdefault(int(winner), len(row)), row.setdefault(int(loser), len(row))))

    def asked(images: np.ndarray) -> np.ndarray:
        return images[np.argsort(-(bed.utility[images] + bed.noise * rng.standard_normal(len(images))))]

    for _ in range(pairs):
        prefer(*asked(rng.choice(len(bed.open), 2, replace=False)))
    for _ in range(picks):
        order = asked(rng.choice(len(bed.open), SHOWN, replace=False))
        for winner in order[:PICKED]:
            for loser in order[PICKED:]:
                prefer(winner, loser)
    images = list(row)
    groups = [str(image) for image in images]
    return Training(
        embeddings=bed.open[images[:grades]],
        grades=bed.grades[images[:grades]],
        groups=groups[:grades],
        drawn=np.ones(grades, bool),
        background=bed.open,
        comparisons=said,
        compared=bed.open[images[grades:]],
        compared_groups=groups[grades:],
    )


def of_differences(training: Training, bed: Bed) -> np.ndarray:
    """Returns the order (M,) a logistic regression on differences of standardised embeddings gives."""
    scaler = StandardScaler().fit(bed.open)
    rows = scaler.transform(training.seen())
    gaps = np.array([rows[one.winner] - rows[one.loser] for one in training.comparisons])
    both = np.concatenate([gaps, -gaps])
    model = LogisticRegression(fit_intercept=False, C=0.01, max_iter=500)
    model.fit(both, np.arange(len(both)) < len(gaps))
    return np.asarray(scaler.transform(bed.test) @ model.coef_[0])


def favourites(bed: Bed, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Returns the orders (M,) that favourites, the rest ungraded, lead to."""
    best = rng.permutation(np.flatnonzero(bed.grades == 5))
    liked = best[: min(FAVOURITES, len(best) - 2)]
    rest = np.sort(rng.permutation(np.setdiff1d(np.arange(len(bed.open)), liked))[:UNGRADED])
    pairs = judged(bed, 0, 30, 0, rng)
    names, count = [f"liked {image}" for image in liked], len(liked)
    alone = Training(
        bed.open[liked], bed.grades[liked], names, np.zeros(count, bool), bed.open, unlabelled=bed.open[rest]
    )
    beside = replace(
        alone,
        comparisons=[Preference(one.winner + count, one.loser + count) for one in pairs.comparisons],
        compared=pairs.compared,
        compared_groups=pairs.compared_groups,
    )
    orders = {}
    for name, training in (("favourites", alone), ("favourites, 30 pairs", beside)):
        *_, version = fit(training, 0)
        assert isinstance(version, Fitted)
        orders[name] = version.head.predict(bed.test).utility
    mean, middle = bed.open[liked].mean(axis=0), bed.open.mean(axis=0)
    orders["plain mean of the favourites"] = bed.test @ mean
    orders["mean of the favourites less the mean of all"] = (bed.test - middle) @ (mean - middle)
    return orders


def measured(beds: Sequence[Callable[[], Bed]], seed: int) -> dict[str, list[dict[str, float]]]:
    """Returns, for every arm, its figures of every person."""
    found: dict[str, list[dict[str, float]]] = {}
    for number, make in enumerate(beds):
        bed = make()
        for name, counts in ARMS.items():
            training = judged(bed, *counts, np.random.default_rng((11, seed, number)))
            *_, version = fit(training, 0)
            assert isinstance(version, Fitted)
            said = version.head.predict(bed.test)
            figures = {"auc": auc(bed.liked, said.utility), "ssr": float(said.probabilities[:, 3:].sum(1).mean())}
            if "pair_accuracy" in version.metrics:
                figures["pair_accuracy"] = version.metrics["pair_accuracy"].value
            found.setdefault(name, []).append(figures)
            if name == "100 pairs":
                order = of_differences(training, bed)
                found.setdefault(LOGISTIC, []).append({"auc": auc(bed.liked, order)})
        for name, order in favourites(bed, np.random.default_rng((12, seed, number))).items():
            found.setdefault(name, []).append({"auc": auc(bed.liked, order)})
        print(f"\r{number + 1} of {len(beds)}", end="", flush=True)
    print()
    return found


def rows_of(where: str, figures: Mapping[str, Sequence[Mapping[str, float]]]) -> list[dict[str, Any]]:
    """Returns a row a duel, with the difference, and what is said of P(SSR or better) where it is assumed."""
    said: list[dict[str, Any]] = []
    for one, other in DUELS:
        own, against = ([each["auc"] for each in figures[name]] for name in (one, other))
        gaps = [left - right for left, right in zip(own, against, strict=True)]
        row = {"id": "pairs", "what": f"{where}: {one} against {other}", "unit": "auc", "n": len(own)}
        said.append(
            row | {"value": np.mean(own), "baseline": np.mean(against), "difference": [np.mean(gaps), *interval(gaps)]}
        )
    for one, other in FAVOURITE_DUELS:
        own, against = ([each["auc"] for each in figures[name]] for name in (one, other))
        gaps = [left - right for left, right in zip(own, against, strict=True)]
        row = {"id": "favourites", "what": f"{where}: {one} against {other}", "unit": "auc", "n": len(own)}
        said.append(
            row | {"value": np.mean(own), "baseline": np.mean(against), "difference": [np.mean(gaps), *interval(gaps)]}
        )
    for name in ("100 pairs", "12 picks"):
        shares = [each["ssr"] for each in figures[name]]
        row = {"id": "pairs-shares", "what": f"{where}: mean P(SSR or better) of test images, {name}", "unit": "share"}
        said.append(row | {"value": np.mean(shares), "baseline": 0.12, "n": len(shares), "interval": interval(shares)})
    return said


def people(count: int) -> list[Callable[[], Bed]]:
    """Returns simulated persons over starter images."""
    images = pool.load(IMAGES)

    def bed(number: int) -> Bed:
        person = persons.person(images.records, number)
        rows, liked = images.embeddings, person.again[OPEN:] >= 4
        return Bed(rows[:OPEN], person.said[:OPEN], person.utility[:OPEN], person.noise, rows[OPEN:], liked)

    return [lambda number=number: bed(number) for number in range(count)]  # type: ignore[misc]


def crowd(draws: int) -> list[Callable[[], Bed]]:
    """Returns draws of open and test images of the emoji, by the starter's embedder."""
    pictures, valence = emoji._fetch()
    path = pool.FOLDER / "emoji-starter.npy"
    if not path.exists():
        np.save(path, emoji._starter(pictures))
    rows, grades = np.load(path), 1 + np.searchsorted(np.quantile(valence, QUANTILES), valence)
    utility = (valence - valence.mean()) / valence.std()

    def bed(draw: int) -> Bed:
        order = np.random.default_rng((3, 0, draw)).permutation(len(rows))
        test, open_ = np.split(order, [int(len(order) * emoji.TEST_SHARE)])
        return Bed(rows[open_], grades[open_], utility[open_], EMOJI_NOISE, rows[test], grades[test] >= 4)

    return [lambda draw=draw: bed(draw) for draw in range(draws)]  # type: ignore[misc]


def main() -> None:
    """Measures both beds; emoji that cannot be fetched are left out, and said."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", type=int, default=PERSONS, help="simulated persons, and draws of emoji at most")
    parser.add_argument("--seed", type=int, default=0, help="seed of every draw")
    arguments = parser.parse_args()
    with threadpool_limits(1):
        merge("pairs", rows_of("simulated persons", measured(people(arguments.persons), arguments.seed)))
        try:
            draws = crowd(min(arguments.persons, DRAWS))
        except (OSError, ValueError) as error:
            print(f"emoji: not run, {error}")
            return
        merge("pairs", rows_of("emoji valence", measured(draws, arguments.seed)))


if __name__ == "__main__":
    main()
