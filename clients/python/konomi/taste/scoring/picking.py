"""The best of many images, and of near-copies one: a burst of a camera, or draws that came out almost the same.

Frames of a burst lie side by side: files that follow each other in a folder and are much alike are one burst, of which
the best stands for all: by the rater's ridge on embeddings as they are, which sees small differences, and the lower
bound. Then bursts and single images are gone through from the best lower bound down. One that is
almost the image that leads a cluster already joins that cluster, any other leads a new one (leader clustering; Hartigan
1975, chapter 3): so the best leads, and what is far apart is never joined by a chain of small steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

from konomi.client.messages import GRADES
from konomi.i18n.catalogue import text
from konomi.taste.scoring.run import Scored
from konomi.v1 import rater_pb2 as rater

NEAR_COPY = 0.9
"""Cosine from which two images are near-copies where nobody says otherwise."""
SIDE_BY_SIDE, WITHIN_BURST = 0.05, 0.3
"""How much lower it may be between frames that follow each other, and between any frame of a burst and its first."""
FRAMES = 4
"""Frames just before that are looked at; one among them may be blurred."""
RIDGE = 2.0
"""What the ridge counts beside the lower bound among near-copies (tests/benchmarks/pairs)."""
LEVEL = 0.1
"""Lead over the next near-copy, in grades, below which a person as often as not prefers another one."""


@dataclass(frozen=True)
class Picked:
    """An image that was picked.

    Attributes:
        rank: 1 for the best.
        image: it and its score.
        alike: the near-copies it was picked from, best first; empty where they were not looked for.
    """

    rank: int
    image: Scored
    alike: Sequence[Scored] = ()

    @property
    def score(self) -> rater.Score:
        """Its score."""
        assert self.image.score is not None
        return self.image.score

    @property
    def lead(self) -> float | None:
        """How far it is ahead of the next near-copy, in grades; None where there is none."""
        if not self.alike:
            return None
        first, second = _among((self.image, *self.alike))[:2]
        return first - second

    @property
    def is_level(self) -> bool:
        """Says whether the next near-copy may be as good: a person had better look."""
        return self.lead is not None and self.lead < LEVEL - 1e-9

    @property
    def reason(self) -> str:
        """Says why it was picked, in the language in use."""
        score, grade = self.score, self.image.grade
        chance = round(100 * score.grade_probabilities[GRADES.index(grade)]) if grade else 0
        words = text(
            "most likely {grade} ({chance} %), lower bound {bound:.2f}",
            grade=grade,
            chance=chance,
            bound=score.lower_bound,
        )
        if self.lead is not None:
            count, ahead = len(self.alike) + 1, self.lead
            words += "; " + text("best of {count} near-copies, {ahead:.2f} ahead", count=count, ahead=ahead)
        if self.is_level:
            name = PurePath(self.alike[0].path).name
            words += "; " + text("too close to call: look at {name} too", name=name)
        if score.unknown:
            words += "; " + text("unlike anything graded, so this is a guess")
        return words

    def as_dict(self) -> dict[str, object]:
        """Returns it as JSON has it."""
        near = [image.path for image in self.alike]
        told = {"rank": self.rank, "reason": self.reason, "near_copies": near, "lead": self.lead}
        return {**told, "too_close": self.is_level, **self.image.as_dict()}


@dataclass
class _Cluster:
    """Images that are one scene, best first."""

    images: list[Scored]

    @property
    def leader(self) -> Scored:
        return self.images[0]


def best(scored: Sequence[Scored], count: int | None) -> list[Scored]:
    """Returns the images with a score from the best lower bound down, equal ones by their paths.

    Args:
        scored: images, those without a score among them.
        count: how many at most; None for all.
    """
    known = [image for image in scored if image.score is not None]
    return sorted(known, key=lambda image: (-_bound(image), image.path))[:count]


def pick(
    scored: Sequence[Scored], count: int, *, one_per_cluster: bool = False, cosine: float = NEAR_COPY
) -> list[Picked]:
    """Returns the best images, best first.

    Args:
        scored: images, with signatures where near-copies are to be told.
        count: how many at most.
        one_per_cluster: take one of images that are near-copies of each other.
        cosine: from which two images are near-copies, 0..1.
    """
    if not one_per_cluster:
        return [Picked(rank, image) for rank, image in enumerate(best(scored, count), 1)]
    led = _led(_bursts(scored, cosine), count, cosine)
    return [Picked(rank, cluster.leader, cluster.images[1:]) for rank, cluster in enumerate(led, 1)]


def _bursts(scored: Sequence[Scored], cosine: float) -> list[_Cluster]:
    """Returns the bursts among images in the order of their files, single images as bursts of one."""
    runs: list[list[Scored]] = []
    for image in scored:
        if image.score is None:
            continue
        if runs and _follows(image, runs[-1], cosine):
            runs[-1].append(image)
        else:
            runs.append([image])
    return [_Cluster(_best_of_burst(run)) for run in runs]


def _follows(image: Scored, run: Sequence[Scored], cosine: float) -> bool:
    """Says whether an image is one more frame of a burst: like one just before, and not far from the first."""
    if cosine >= 1 or PurePath(image.path).parent != PurePath(run[0].path).parent:
        return False
    near, far = cosine - SIDE_BY_SIDE, cosine - WITHIN_BURST
    return _alike(image, run[0], far) and any(_alike(image, frame, near) for frame in run[-FRAMES:])


def _led(bursts: Sequence[_Cluster], count: int, cosine: float) -> list[_Cluster]:
    """Returns the `count` clusters whose leaders are best; what belongs to none of these is left out."""
    clusters: list[_Cluster] = []
    for burst in sorted(bursts, key=lambda one: (-_bound(one.leader), one.leader.path)):
        joined = next((led for led in clusters if _alike(burst.leader, led.leader, cosine)), None)
        if joined is not None:
            joined.images += burst.images  # the leader stays, so that small steps join no ends
        elif len(clusters) < count:
            clusters.append(_Cluster(list(burst.images)))
    found = [_Cluster(_best_of_burst(cluster.images)) for cluster in clusters]
    return sorted(found, key=lambda one: (-_bound(one.leader), one.leader.path))


def _alike(one: Scored, other: Scored, cosine: float) -> bool:
    """Says whether two images are as near as a cosine, by their signatures; without these they are not."""
    assert one.score is not None and other.score is not None
    first, second = one.score.signature, other.score.signature
    if not first or len(first) != len(second):
        return False
    apart = (int.from_bytes(first) ^ int.from_bytes(second)).bit_count()
    return apart <= differing(cosine, 8 * len(first))


@lru_cache
def differing(cosine: float, bits: int) -> int:
    """Returns in how many bits the signatures of two images at a cosine differ, on average; see `Score.signature`."""
    return round(math.acos(max(-1.0, min(1.0, cosine))) / math.pi * bits)


def _best_of_burst(run: Sequence[Scored]) -> list[Scored]:
    """Returns near-copies, the best first, equal ones by their paths."""
    worth = dict(zip([image.path for image in run], _among(run), strict=True))
    return sorted(run, key=lambda image: (-worth[image.path], image.path))


def _among(run: Sequence[Scored]) -> list[float]:
    """Returns what near-copies are worth beside each other, in grades: the lower bound alone where one has no more."""
    finer = [image.score.near_copy_utility if _is_finer(image) else None for image in run]  # type: ignore[union-attr]
    if None in finer:
        return [_bound(image) for image in run]
    return [(_bound(image) + RIDGE * float(value or 0)) / (1 + RIDGE) for image, value in zip(run, finer, strict=True)]


def _is_finer(image: Scored) -> bool:
    return image.score is not None and image.score.HasField("near_copy_utility")


def _bound(image: Scored) -> float:
    assert image.score is not None
    return image.score.lower_bound
