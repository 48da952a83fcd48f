"""The best of many images, and of near-copies one: a burst of a camera, or draws that came out almost the same.

Images are gone through from the best lower bound down. One that is almost an image that leads a cluster already joins
that cluster, any other leads a new one (leader clustering; Hartigan 1975, chapter 3): so the best of a burst leads it,
and a chain of small steps never joins what is far apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from konomi.client.messages import GRADES
from konomi.i18n.catalogue import text
from konomi.taste.scoring.run import Scored
from konomi.v1 import rater_pb2 as rater

NEAR_COPY = 0.95
"""Cosine from which two images are near-copies where nobody says otherwise."""


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
        if self.alike:
            count, ahead = len(self.alike) + 1, score.lower_bound - _bound(self.alike[0])
            words += "; " + text("best of {count} near-copies, {ahead:.2f} ahead", count=count, ahead=ahead)
        if score.unknown:
            words += "; " + text("unlike anything graded, so this is a guess")
        return words

    def as_dict(self) -> dict[str, object]:
        """Returns it as JSON has it."""
        near = [image.path for image in self.alike]
        return {"rank": self.rank, "reason": self.reason, "near_copies": near, **self.image.as_dict()}


@dataclass
class _Cluster:
    leader: Scored
    bits: int
    others: list[Scored] = field(default_factory=list)


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
    led = _led(scored, count, cosine)
    return [Picked(rank, cluster.leader, cluster.others) for rank, cluster in enumerate(led, 1)]


def _led(scored: Sequence[Scored], count: int, cosine: float) -> list[_Cluster]:
    """Returns the `count` clusters whose leaders are best; what belongs to none of these is left out."""
    clusters: list[_Cluster] = []
    for image in best(scored, None):
        assert image.score is not None
        signature = image.score.signature
        bits, most = int.from_bytes(signature), differing(cosine, 8 * len(signature))
        apart, at = min((((led.bits ^ bits).bit_count(), at) for at, led in enumerate(clusters)), default=(most + 1, 0))
        if signature and apart <= most:
            clusters[at].others.append(image)
        elif len(clusters) < count:
            clusters.append(_Cluster(image, bits))
    return clusters


def differing(cosine: float, bits: int) -> int:
    """Returns in how many bits the signatures of two images at a cosine differ, on average; see `Score.signature`."""
    return round(math.acos(max(-1.0, min(1.0, cosine))) / math.pi * bits)


def _bound(image: Scored) -> float:
    assert image.score is not None
    return image.score.lower_bound
