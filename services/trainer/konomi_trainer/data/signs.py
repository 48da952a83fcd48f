"""Which rows a signed batch is made of: selected images, each with an avoided one of its prompt, and base images.

Every bucket has an endless row of places, which groups of images are cut from: in each run of `PERIOD` places pairs of
a selected image and its avoided one, and base images in the share they have in the bucket. With a quarter of base
images a batch of 16 is 6 selected, 6 avoided and 4 of the base. The row is a function of the bucket and the seed alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from konomi_trainer.data import buckets

SIGNS = {"selected": 1, "avoided": -1}
"""Role → the direction an image gives; 0, a pull to the base model's own answer, for every other role."""
PERIOD = 16
STREAM, SELECTED, BASE = 2, 0, 1


@dataclass(frozen=True)
class Rows:
    """Rows of one signed group.

    Attributes:
        index: (n,) int64 places in the bucket.
        signs: (n,) int64: 1 toward an image, -1 away from it, 0 held at the base.
    """

    index: np.ndarray
    signs: np.ndarray


@dataclass(frozen=True)
class SignedBucket:
    """The images of one bucket by what they are for.

    Attributes:
        signs: (N,) int64, see SIGNS.
        captions: (N,) int64 row of each image's caption.
        number: of the bucket among all.
        seed: of the run.
    """

    signs: np.ndarray
    captions: np.ndarray
    number: int
    seed: int

    @cached_property
    def selected(self) -> np.ndarray:
        """Places of the selected images."""
        return np.flatnonzero(self.signs == 1)

    @cached_property
    def base(self) -> np.ndarray:
        """Places of the base images."""
        return np.flatnonzero(self.signs == 0)

    @cached_property
    def partners(self) -> Sequence[np.ndarray]:
        """For each selected image the places of the avoided ones of its prompt, each to begin with another of them."""
        avoided: dict[int, list[int]] = defaultdict(list)
        for place in np.flatnonzero(self.signs == -1).tolist():
            avoided[int(self.captions[place])].append(place)
        seen: dict[int, int] = defaultdict(int)
        found = []
        for place in self.selected.tolist():
            caption = int(self.captions[place])
            found.append(np.roll(np.array(avoided[caption], dtype=np.int64), -seen[caption]))
            seen[caption] += 1
        return found

    def period(self) -> np.ndarray:
        """Returns what a run of places is for, (PERIOD,) int64: 1 selected, -1 the avoided one of it, 0 base."""
        members = len(self.selected) + len(self.base)
        pairs = round(PERIOD / 2 * len(self.selected) / members)
        if len(self.selected) and len(self.base):
            pairs = min(max(pairs, 1), PERIOD // 2 - 1)
        others = PERIOD // 2 - pairs
        twos = [((place + 0.5) / pairs, 0) for place in range(pairs)]
        twos += [((place + 0.5) / others, 1) for place in range(others)]
        return np.concatenate([np.array([0, 0] if base else [1, -1]) for _, base in sorted(twos)])

    def rows(self, first: int, size: int) -> Rows:
        """Returns the rows at places first … first + size - 1 of the endless row.

        A selected image without an avoided one of its prompt leaves its second place to a base image, or is held at the
        base itself where there is none.

        Args:
            first: place of the first row.
            size: how many.
        """
        pattern = self.period()
        kinds = pattern[(first + np.arange(size)) % PERIOD]
        start = _before(pattern, 1, first) - int(kinds[0] == -1)  # a pair may have begun in the group before
        pulled = self._epochs(self.selected, SELECTED, start, int((kinds == 1).sum()) + int(kinds[0] == -1))
        still = self._epochs(self.base, BASE, _before(pattern, 0, first), int((kinds == 0).sum()))
        index, signs = np.empty(size, np.int64), kinds.astype(np.int64)
        pair = next_base = 0
        for row, kind in enumerate(kinds.tolist()):
            if kind == 1:
                index[row] = self.selected[pulled[pair]]
            elif kind == -1:
                index[row], signs[row] = self._partner(int(pulled[pair]), start + pair)
                pair += 1
            else:
                index[row] = self.base[still[next_base]]
                next_base += 1
        return Rows(index, signs)

    def _epochs(self, places: np.ndarray, kind: int, first: int, size: int) -> np.ndarray:
        if not size:
            return np.empty(0, np.int64)
        return buckets.order(len(places), self.seed, (STREAM, self.number, kind), first, size)

    def _partner(self, selected: int, pair: int) -> tuple[int, int]:
        """Returns place and sign of what comes with a selected image: the avoided ones of its prompt take turns."""
        avoided = self.partners[selected]
        if len(avoided):
            return int(avoided[pair // len(self.selected) % len(avoided)]), -1
        if len(self.base):
            return int(self.base[pair % len(self.base)]), 0
        return int(self.selected[selected]), 0


def _before(pattern: np.ndarray, kind: int, first: int) -> int:
    """Returns how many places of a kind there are before a place of the endless row."""
    periods, place = divmod(first, PERIOD)
    return periods * int((pattern == kind).sum()) + int((pattern[:place] == kind).sum())
