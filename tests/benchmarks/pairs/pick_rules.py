"""Which order within a burst keeps the person's best: by the rater's lower bound, its mean, or more or less doubt.

Question: `konomi pick --one-per-cluster` takes the frame with the highest lower bound. Doubt that near-copies share is
then subtracted from each of them, which costs nothing; doubt that differs decides. Does another order do better?

Method: the bursts, hidden tastes and grades of `bench_pick`, several persons to each set of pictures. The rater scores
every frame of a burst; each rule takes one; the share of bursts in which that is the frame the person likes best is
compared with the lower bound's, person by person. Sets 100 and above are for choosing a rule, 200 and above for
reporting one. Two minutes a set of four persons on two quiet cores.
"""

import argparse
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from konomi.v1 import rater_pb2 as pb
from tests.benchmarks.serving.bench_pick import FRAMES, GRADED, NOISE, SCENES, frame, grade, looks, portraits, write
from tests.benchmarks.serving.rig import Server

UTILITY, DEVIATION, LOWER = 0, 1, 2
BATCH = 50
Z95 = 1.96
RULES: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "lower bound (mean - 1 sd), as it is": lambda score: score[..., LOWER],
    "mean": lambda score: score[..., UTILITY],
    "mean - 0.5 sd": lambda score: score[..., UTILITY] - 0.5 * score[..., DEVIATION],
    "mean - 1.5 sd": lambda score: score[..., UTILITY] - 1.5 * score[..., DEVIATION],
    "mean - 2 sd": lambda score: score[..., UTILITY] - 2 * score[..., DEVIATION],
    "mean + 0.5 sd": lambda score: score[..., UTILITY] + 0.5 * score[..., DEVIATION],
    "P(SSR or UR)": lambda score: score[..., 6:8].sum(-1) + 1e-6 * score[..., UTILITY],
    "P(UR)": lambda score: score[..., 7] + 1e-6 * score[..., UTILITY],
}
"""Name to what a rule orders the frames of a burst by."""


def collect(server: Server, folder: Path, pictures: int, persons: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns what each person truly thinks of every frame, and what a rater fitted on their grades says.

    Args:
        server: a rater.
        folder: where the pictures are written.
        pictures: seed of the pictures.
        persons: how many persons.

    Returns:
        For each (SCENES, FRAMES) utilities, and (SCENES, FRAMES, 8) mean, deviation, lower bound and chances of grades.
    """
    rng = np.random.default_rng((20, pictures))
    people = portraits(GRADED + SCENES, pictures)
    known = [frame(one, rng) for one in people[:GRADED]]
    frames = [frame(scene, rng) for scene in people[GRADED:] for _ in range(FRAMES)]
    graded = [write(folder, f"graded-{place}.jpg", image) for place, image in enumerate(known)]
    shot = [write(folder, f"shot-{place}.jpg", image) for place, image in enumerate(frames)]
    table, seen = (np.array([looks(image) for image in images]) for images in (known, frames))
    centre, spread = table.mean(0), table.std(0)
    found = []
    for person in range(persons):
        draw = np.random.default_rng((77, pictures, person))
        weights = draw.normal(0, 1, 4)
        utility = (table - centre) / spread @ weights
        noisy = utility + NOISE * utility.std() * draw.standard_normal(GRADED)
        grades = 1 + np.searchsorted(np.quantile(noisy, (0.3, 0.6, 0.82, 0.94)), noisy)
        taste = f"rules-{pictures}-{person}"
        grade(server, taste, graded, grades)
        true = ((seen - centre) / spread @ weights).reshape(SCENES, FRAMES)
        found.append((true, scored(server, taste, shot).reshape(SCENES, FRAMES, -1)))
    return found


def scored(server: Server, taste: str, images: Sequence[bytes]) -> np.ndarray:
    """Returns mean, deviation, lower bound and chances of grades of each image."""
    rows = []
    with server.client() as client:
        for first in range(0, len(images), BATCH):
            asked = [pb.ImageInput(content=image) for image in images[first : first + BATCH]]
            for result in client.rater.score_images(taste=f"tastes/{taste}", images=asked).results:
                one = result.score
                rows.append([one.utility, one.std, one.lower_bound, *one.grade_probabilities])
    return np.array(rows)


def kept(true: np.ndarray, order: np.ndarray) -> float:
    """Returns the share of bursts in which the frame an order puts first is the person's best."""
    taken = true[np.arange(len(true)), order.argmax(1)]
    return float((taken >= true.max(1) - 1e-9).mean())


def interval(values: np.ndarray) -> str:
    """Returns a mean over persons with its normal interval."""
    return f"{values.mean():+.3f} ± {Z95 * values.std(ddof=1) / np.sqrt(len(values)):.3f}"


def main() -> None:
    """Collects and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, nargs="+", default=[100, 101], help="seeds of the pictures")
    parser.add_argument("--persons", type=int, default=4, help="persons to each set of pictures, 2 or more in all")
    options = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="pick-rules-") as folder:
        server = Server(Path(folder), 2)
        try:
            for pictures in options.sets:
                found += collect(server, Path(folder) / "pictures" / str(pictures), pictures, options.persons)
        finally:
            server.stop()
    shares = {name: np.array([kept(true, rule(score)) for true, score in found]) for name, rule in RULES.items()}
    base = next(iter(shares.values()))
    print(f"{len(found)} persons, {SCENES * len(found)} bursts of {FRAMES}")
    for name, values in shares.items():
        print(f"{name:38} kept the best {interval(values)}, beside the lower bound {interval(values - base)}")


if __name__ == "__main__":
    main()
