"""How near to a person's best frame of a burst any rater could come, and what brings konomi's nearer.

Question: `konomi pick --one-per-cluster` keeps the person's best of five near-copies in .55 of the bursts. What stands
in the way: the person, who cannot tell near-copies apart twice alike; the embedding, in which they lie too close; or
the grades, which are few and spent on unlike pictures?

Method: the bursts, hidden tastes and noise of `bench_pick`, embedded once and kept. Ceilings: the person asked anew,
each frame judged with the noise of a grade; a ridge given the true utility of every single and every frame of 40 other
bursts; and the same given all but five of the judged bursts too. Then the rater as it is fits on more grades, on grades
of which a part is spent on near-copies of other scenes (graded, or compared in pairs), and with two figures of
technical quality beside the embedding; and near-copies are ordered as `pick` does it, by a ridge on plain embeddings
beside the lower bound, with what the lead over the next frame says. Sets 100 and above are for choosing, 300 and above
for reporting. Drawing and embedding a set take two to four minutes on two cores, once; measuring four persons two.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from konomi.taste.scoring.picking import LEVEL, RIDGE
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders
from konomi_rater.measures.near_copy_order import learn_near_copy_order
from konomi_rater.preference.comparisons import Preference
from konomi_rater.preference.fitting import Fitted, fit
from konomi_rater.preference.training import Training
from tests.benchmarks.pairs.pick_rules import interval, kept
from tests.benchmarks.results import FOLDER
from tests.benchmarks.serving.bench_pick import EMBEDDER, FRAMES, NOISE, SCENES, frame, looks, portraits

SINGLES, OTHERS = 240, 40
"""Pictures that may be graded, each of another portrait; and bursts of which near-copies may be compared or graded."""
FOLD = 5
"""Bursts left out at once."""
AGAIN = 50
"""How often a person is asked anew, for what they agree with themselves."""
SHARES = (0.3, 0.6, 0.82, 0.94)


@dataclass(frozen=True)
class Bed:
    """The pictures of a set, as a rater and as a person sees them.

    Attributes:
        rows: (N, D) embeddings: the singles, then the other bursts, then the bursts that are judged.
        quality: (N, 2) log sharpness and contrast.
        looks: (N, 4) what a hidden taste goes by.
    """

    rows: np.ndarray
    quality: np.ndarray
    looks: np.ndarray

    @property
    def judged(self) -> np.ndarray:
        """The rows (SCENES, FRAMES) of the bursts that are judged."""
        first = SINGLES + OTHERS * FRAMES
        return np.arange(first, first + SCENES * FRAMES).reshape(SCENES, FRAMES)

    @property
    def others(self) -> np.ndarray:
        """The rows (OTHERS, FRAMES) of the bursts that may be asked about."""
        return np.arange(SINGLES, SINGLES + OTHERS * FRAMES).reshape(OTHERS, FRAMES)


def quality(image: Image.Image) -> np.ndarray:
    """Returns two figures of technical quality: log variance of the Laplacian (sharpness), and contrast."""
    grey = image.convert("L")
    edges = np.asarray(grey.filter(ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), 1, 128)), np.float32)
    return np.array([np.log(edges.var() + 1.0), np.asarray(grey, np.float32).std() / 255])


def pictures_of(seed: int) -> list[Image.Image]:
    """Returns the pictures of a seed, drawn now if they were not before (a minute on two quiet cores)."""
    path = FOLDER / "pick" / f"portraits-{seed}.npz"
    if not path.exists():
        drawn = portraits(SINGLES + OTHERS + SCENES, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(path, pixels=np.stack([np.asarray(one) for one in drawn]))
    with np.load(path, allow_pickle=False) as arrays:
        people = [Image.fromarray(pixels) for pixels in arrays["pixels"]]
    rng, times = np.random.default_rng((31, seed)), [1] * SINGLES + [FRAMES] * (OTHERS + SCENES)
    return [frame(one, rng) for one, count in zip(people, times, strict=True) for _ in range(count)]


def bed(seed: int) -> Bed:
    """Returns the pictures of a seed as numbers, embedded now if they were not before (a minute more)."""
    path = FOLDER / "pick" / f"ceiling-{seed}.npz"
    if not path.exists():
        images, tower = pictures_of(seed), Embedders(FOLDER / "pick" / "models", Placement("cpu", 2, 0)).open(EMBEDDER)
        pixels = [np.asarray(one) for one in images]
        rows = [tower.embed(pixels[at : at + 32], keep=False) for at in range(0, len(pixels), 32)]
        seen = {
            "quality": np.array([quality(one) for one in images]),
            "looks": np.array([looks(one) for one in images]),
        }
        np.savez(path, rows=np.concatenate(rows), **seen)
    with np.load(path, allow_pickle=False) as arrays:
        return Bed(arrays["rows"], arrays["quality"], arrays["looks"])


@dataclass(frozen=True)
class Person:
    """A hidden taste over a bed.

    Attributes:
        utility: (N,) of every picture, deviation 1 over the singles.
        said: (N,) grade of every picture, asked once.
        rng: of whatever else they are asked.
    """

    utility: np.ndarray
    said: np.ndarray
    rng: np.random.Generator

    def judged(self, rows: np.ndarray) -> np.ndarray:
        """Returns what they think of pictures (...,) at one moment."""
        return np.asarray(self.utility[rows] + NOISE * self.rng.standard_normal(rows.shape))


def person(pictures: Bed, seed: int, number: int) -> Person:
    """Returns a person of `bench_pick`: warmth, brightness, sharpness and colour, each with a weight of the seed."""
    rng = np.random.default_rng((77, seed, number))
    singles = pictures.looks[:SINGLES]
    utility = (pictures.looks - singles.mean(0)) / singles.std(0) @ rng.normal(0, 1, 4)
    utility = (utility - utility[:SINGLES].mean()) / utility[:SINGLES].std()
    noisy = utility + NOISE * rng.standard_normal(len(utility))
    return Person(utility, 1 + np.searchsorted(np.quantile(noisy[:SINGLES], SHARES), noisy), rng)


def training(rows: np.ndarray, pictures: Bed, one: Person, singles: int, frames: int = 0, pairs: int = 0) -> Training:
    """Returns what a rater is fitted on.

    Args:
        rows: (N, D) what it sees of the pictures.
        pictures: the bed.
        one: the person.
        singles: how many single pictures are graded.
        frames: how many frames of other bursts are graded, all of a burst.
        pairs: how many pairs of frames of a burst are compared.
    """
    graded = [*range(singles), *pictures.others.reshape(-1)[:frames]]
    row = {int(at): place for place, at in enumerate(graded)}
    said = []
    for number in range(pairs):
        two = one.rng.permutation(pictures.others[number % OTHERS])[:2]
        loser, winner = two[np.argsort(one.judged(two))]
        said.append(Preference(row.setdefault(int(winner), len(row)), row.setdefault(int(loser), len(row))))
    images = np.array(list(row))
    groups = [str(at) if at < SINGLES else f"burst {(at - SINGLES) // FRAMES}" for at in images]
    known, count = rows[: SINGLES + OTHERS * FRAMES], len(graded)
    return Training(
        embeddings=rows[images[:count]],
        grades=one.said[images[:count]],
        groups=groups[:count],
        drawn=np.ones(count, bool),
        background=known,
        comparisons=said,
        compared=rows[images[count:]],
        compared_groups=groups[count:],
    )


def fitted(rows: np.ndarray, pictures: Bed, one: Person, counts: tuple[int, int, int]) -> np.ndarray:
    """Returns the lower bounds (SCENES, FRAMES) of a rater fitted on so many singles, frames and pairs."""
    *_, version = fit(training(rows, pictures, one, *counts), 0)
    assert isinstance(version, Fitted)
    said = version.head.predict(rows[pictures.judged.reshape(-1)])
    return np.asarray(said.utility - said.std).reshape(SCENES, FRAMES)


def by_ridge(pictures: Bed, one: Person, singles: int, bounds: np.ndarray) -> np.ndarray:
    """Returns what near-copies (SCENES, FRAMES) are worth beside each other, as `konomi pick` has it."""
    order = learn_near_copy_order(pictures.rows[:singles], one.said[:singles])
    assert order is not None
    return np.asarray((bounds + RIDGE * order(pictures.rows[pictures.judged])) / (1 + RIDGE))


def by_lead(true: np.ndarray, order: np.ndarray) -> dict[str, float]:
    """Returns the share of bursts with a clear lead, and in how many of those and of the others the best is kept."""
    ranked = np.sort(order, axis=1)
    clear = ranked[:, -1] - ranked[:, -2] >= LEVEL
    return {
        "share of bursts with a clear lead": float(clear.mean()),
        "kept where the lead is clear": kept(true[clear], order[clear]),
        "kept where it is not": kept(true[~clear], order[~clear]),
    }


def beside(pictures: Bed, weight: float) -> np.ndarray:
    """Returns the embeddings with the figures of technical quality beside them, of length `weight` on average."""
    known = pictures.quality[: SINGLES + OTHERS * FRAMES]
    extra = weight * (pictures.quality - known.mean(0)) / known.std(0) / np.sqrt(known.shape[1])
    rows = np.concatenate([pictures.rows, extra], axis=1)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def told(pictures: Bed, one: Person, *, others_alone: bool) -> np.ndarray:
    """Returns what a ridge says that was given the true utility of all pictures but those it is asked about.

    With `others_alone` of none that is judged, else of all but FOLD bursts at a time.
    """
    order = np.zeros((SCENES, FRAMES))
    for first in range(0, SCENES, FOLD):
        out = pictures.judged[first : first + FOLD]
        left_out = pictures.judged if others_alone else out
        taught = np.setdiff1d(np.arange(len(pictures.rows)), left_out)
        scaler = StandardScaler().fit(pictures.rows[taught])
        model = RidgeCV(np.logspace(1, 5, 9)).fit(scaler.transform(pictures.rows[taught]), one.utility[taught])
        order[first : first + FOLD] = model.predict(scaler.transform(pictures.rows[out.reshape(-1)])).reshape(out.shape)
    return order


ARMS: Mapping[str, tuple[int, int, int]] = {
    "100 grades, lower bound alone": (100, 0, 0),
    "50 grades": (50, 0, 0),
    "200 grades": (200, 0, 0),
    "50 grades, 50 pairs of near-copies": (50, 0, 50),
    "100 grades, 100 pairs of near-copies": (100, 0, 100),
    "50 grades, and 50 of frames of bursts": (50, 50, 0),
    "100 grades, and 100 of frames of bursts": (100, 100, 0),
}
"""Name to how many singles are graded, frames of other bursts are graded, and pairs of near-copies are compared."""


def measured(seed: int, persons: int) -> list[dict[str, float]]:
    """Returns, for each person of a set, the share of bursts whose best each arm keeps, and what bounds it."""
    pictures, found = bed(seed), []
    quality_beside = {weight: beside(pictures, weight) for weight in (0.3, 0.6)}
    for number in range(persons):
        one = person(pictures, seed, number)
        true = one.utility[pictures.judged]
        top = np.sort(true, axis=1)
        bounds = {name: fitted(pictures.rows, pictures, one, counts) for name, counts in ARMS.items()}
        figures = {name: kept(true, said) for name, said in bounds.items()}
        finer = by_ridge(pictures, one, 100, bounds[BASE])
        figures["50 grades, with the ridge"] = kept(true, by_ridge(pictures, one, 50, bounds["50 grades"]))
        figures["200 grades, with the ridge"] = kept(true, by_ridge(pictures, one, 200, bounds["200 grades"]))
        figures |= {WITH_RIDGE: kept(true, finer)} | by_lead(true, finer)
        for weight, rows in quality_beside.items():
            figures[f"100 grades, quality beside, {weight}"] = kept(true, fitted(rows, pictures, one, ARMS[BASE]))
        again = [kept(true, one.judged(pictures.judged)) for _ in range(AGAIN)]
        figures |= {
            "the person asked anew": float(np.mean(again)),
            "ridge told 440 true utilities": kept(true, told(pictures, one, others_alone=True)),
            "ridge told 615 true utilities": kept(true, told(pictures, one, others_alone=False)),
            "deviation within a burst": float(true.std(1).mean()),
            "best less second": float((top[:, -1] - top[:, -2]).mean()),
        }
        found.append(figures)
        print(f"\r{number + 1} of {persons}", end="", flush=True)
    print()
    return found


BASE, WITH_RIDGE = "100 grades, lower bound alone", "100 grades, with the ridge"


def main() -> None:
    """Measures, or only makes the pictures; rows are kept, so that sets may be measured one at a time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, nargs="+", default=[100, 101, 300], help="seeds of the pictures")
    parser.add_argument("--persons", type=int, default=4, help="persons to each set")
    parser.add_argument("--only", choices=["draw", "embed"], help="make so much of the first set, then stop")
    options = parser.parse_args()
    if options.only:
        (pictures_of if options.only == "draw" else bed)(options.sets[0])
        return
    rows: list[dict[str, float]] = []
    for seed in options.sets:
        path = FOLDER / "pick" / f"measured-{seed}-{options.persons}.json"
        if not path.exists():
            with threadpool_limits(1):
                path.write_text(json.dumps(measured(seed, options.persons)), "utf-8")
        rows += json.loads(path.read_text("utf-8"))
    print(f"{len(rows)} persons, {SCENES} bursts of {FRAMES} each")
    for name in rows[0]:
        values, base = (np.array([row[key] for row in rows]) for key in (name, BASE))
        print(f"{name:42} {interval(values)}, beside the lower bound alone {interval(values - base)}")


if __name__ == "__main__":
    main()
