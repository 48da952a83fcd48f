"""What a person likes, in words: words of prompts and captions more frequent among SSR and UR than among the rest.

A word is told by its risk ratio: the share of liked images whose prompt has it, over the share of the others. The
interval is the log interval of Katz et al. 1978 (Biometrika 34, 469-474) with half an image added to each count
(Walter 1975), at 95 % over all words tried together (Bonferroni), so that a word that is told is hardly chance.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from konomi.client import Client, paging
from konomi.client.services import taste_name
from konomi.v1 import rater_pb2

GOOD = 4
"""The grade SSR: an image of it or better is liked."""
FEWEST = 8
"""Liked images, and others, below which no word is tried."""
OFTEN = 3
"""Graded images a word must stand with at least."""
CONFIDENCE = 0.95
MOST_WORDS = 3
"""Words told on either side."""
EXAMPLES = 8

_SYNTAX = re.compile(r"<[^<>]*>|(?<=[^\s:]):-?\d*\.?\d+(?=[)\]\s,]|$)|[()\[\]{}\\]|\b(?:BREAK|AND)\b")
"""What prompts hold beside words: tags of adapters, weights, brackets and keywords."""
_BETWEEN = re.compile(r"[,;|\n。、,;]+")
_WORD = re.compile(r"[^\W\d_][\w'-]*")
_SMALL = re.compile(
    "an?|and|are|as|at|be|by|for|from|has|have|her|his|in|into|is|its?|no|not|of|on|or|out|over|than|that|the|their|"
    "this|to|under|up|very|was|were|which|with|without"
)
"""English words that say nothing alone."""


@dataclass(frozen=True)
class GradedImage:
    """An image with its prompt or caption and its owner's grade, 1 (N) to 5 (UR)."""

    digest: str
    prompt: str
    grade: int


@dataclass(frozen=True)
class Word:
    """A word, or a phrase between commas, that tells what is liked from the rest.

    Attributes:
        words: the word, in lower case.
        liked: share of the liked images it stands with, and `rest` of the others.
        rest: see `liked`.
        ratio: liked over rest; above 1 it goes with what is liked.
        sure: the end of the interval of `ratio` that is nearer to 1: so much at least.
        images: liked images it stands with, the best graded first.
    """

    words: str
    liked: float
    rest: float
    ratio: float
    sure: float
    images: tuple[str, ...]


@dataclass(frozen=True)
class Likes:
    """What the grades of a taste say of what is liked.

    Attributes:
        liked: images graded SSR or better, of `graded` in all.
        graded: see `liked`.
        words: what goes with being liked, the surest first.
        shunned: what goes with not being liked.
        images: some of the liked images, those of the words first, then the best graded.
    """

    liked: int
    graded: int
    words: tuple[Word, ...]
    shunned: tuple[Word, ...]
    images: tuple[str, ...]


def likes_of(client: Client, taste: str) -> Likes:
    """Returns what the grades of a taste, by id or name, say of what is liked."""
    grades = [rater_pb2.Grade.ValueType(grade) for grade in range(1, 6)]
    images = []
    filter_ = rater_pb2.ImageFilter(grades=grades)
    for page in paging.pages(client.rater.list_images, taste=taste_name(taste), filter=filter_):
        shown = (image for image in page.images if not image.pixels_collected)
        images += [GradedImage(image.digest, image.prompt, int(image.grade)) for image in shown]
    return compared(images)


def compared(images: Sequence[GradedImage]) -> Likes:
    """Returns what tells the liked among graded images from the others."""
    best_first = sorted(images, key=lambda image: (-image.grade, image.digest))
    liked = [image for image in best_first if image.grade >= GOOD]
    rest = [image for image in best_first if image.grade < GOOD]
    words = _told(liked, rest) if min(len(liked), len(rest)) >= FEWEST else []
    more = sorted((word for word in words if word.sure > 1), key=lambda word: (-word.sure, word.words))[:MOST_WORDS]
    fewer = sorted((word for word in words if word.sure < 1), key=lambda word: (word.sure, word.words))[:MOST_WORDS]
    shown = [digest for turn in range(EXAMPLES) for word in more for digest in word.images[turn : turn + 1]]
    shown = list(dict.fromkeys([*shown, *(image.digest for image in liked)]))[:EXAMPLES]
    return Likes(len(liked), len(images), tuple(more), tuple(fewer), tuple(shown))


def features(prompt: str) -> frozenset[str]:
    """Returns the phrases of a prompt, and the words of those that have several."""
    plain = _SYNTAX.sub(" ", prompt).casefold()
    phrases = {" ".join(phrase.split()) for phrase in _BETWEEN.split(plain)}
    words = {word for phrase in phrases if " " in phrase for word in _WORD.findall(phrase) if len(word) > 2}
    return frozenset(feature for feature in phrases | words if feature and not _SMALL.fullmatch(feature))


def _told(liked: Sequence[GradedImage], rest: Sequence[GradedImage]) -> list[Word]:
    """Returns the words whose interval leaves 1 out; of words that stand with the same images the longest."""
    standing = _standing([*liked, *rest])
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / max(1, len(standing)))
    words = []
    for images, feature in standing.items():
        having = [image for image in liked if image.digest in images]
        a, b = len(having), len(images) - len(having)
        low, high = _interval(a, len(liked), b, len(rest), z)
        if low > 1 or high < 1:
            shares = a / len(liked), b / len(rest)
            ratio = math.sqrt(low * high)
            digests = tuple(image.digest for image in having[:EXAMPLES])
            words.append(Word(feature, *shares, ratio, low if low > 1 else high, digests))
    return words


def _standing(images: Iterable[GradedImage]) -> Mapping[frozenset[str], str]:
    """Returns digests to the longest word that stands with exactly these; rare words and words of all are left out."""
    having: dict[str, set[str]] = {}
    digests = set()
    for image in images:
        digests.add(image.digest)
        for feature in features(image.prompt):
            having.setdefault(feature, set()).add(image.digest)
    standing: dict[frozenset[str], str] = {}
    for feature in sorted(having, key=lambda feature: (len(feature), feature)):
        if OFTEN <= len(having[feature]) < len(digests):
            standing[frozenset(having[feature])] = feature
    return standing


def _interval(a: int, n: int, b: int, m: int, z: float) -> tuple[float, float]:
    """Returns the interval of the ratio of a of n to b of m, half an image added to each count."""
    ratio = (a + 0.5) / (n + 0.5) / ((b + 0.5) / (m + 0.5))
    error = math.sqrt(1 / (a + 0.5) - 1 / (n + 0.5) + 1 / (b + 0.5) - 1 / (m + 0.5))
    return ratio * math.exp(-z * error), ratio * math.exp(z * error)
