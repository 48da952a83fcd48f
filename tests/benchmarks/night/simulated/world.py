"""A fast bed for long nights: real embeddings and konomi's own rater, selection, guards and recipe; no diffusion.

What is stood in for is the generator alone. The base model draws from embeddings of real starter images; a unit draws a
member of its training set and steps away from it along the base images' own covariance (a kernel density estimate of
bandwidth STEP) and on by AMPLIFY times what the set differs from the base model, as guidance by the base does, and one
draw in five is still the base model's, as at an adapter's strength of 0.8. Attributes are read
off an embedding by one linear probe each; a picture beyond what real images look like costs true utility, the more the
farther it lies, so a rater that is blind there can be fooled as a real one can.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from konomi_rater.measures.novelty import Reference, reference_of
from konomi_rater.preference.fitting import Fitted, fit, quick_fit
from konomi_rater.preference.training import Training
from konomi_rater.selection.acquisition import Pool, SuggestionReason, suggest
from konomi_rater.storage.files.head_file import StoredHead, from_bytes, to_bytes
from konomi_starter.data.captions import ATTRIBUTES, TASTE_ATTRIBUTES
from tests.benchmarks.night.persons import NightPerson, persons
from tests.benchmarks.rater.pool import ImagePool

STEP = 0.35
NOISE = 0.05
"""Bandwidth of the base model's own draws."""
STRENGTH = 0.8
AMPLIFY = 1.0
"""How far a unit overshoots its training set; chosen so that five units gain what real nights gained (LOG.md)."""
PENALTY = 3.0
"""Spreads of utility an image loses that lies as far beyond the 95th percentile as that lies beyond the median."""
LABELLED = 448
"""Images of the base model the person may be shown before the night."""


@dataclass(frozen=True)
class World:
    """Real images' embeddings, half for konomi and half for the truth, and what reads attributes off any embedding."""

    pool: ImagePool

    @property
    def half(self) -> int:
        """How many images konomi may ever see; the others are the truth's own."""
        return len(self.pool.embeddings) // 2

    @cached_property
    def base(self) -> np.ndarray:
        """What the base model draws: (N, D) unit rows."""
        return self.pool.embeddings[: self.half]

    @cached_property
    def root(self) -> np.ndarray:
        """Square root of the base images' covariance, (D, D)."""
        values, vectors = np.linalg.eigh(np.cov(self.base.T))
        return (vectors * np.sqrt(values.clip(0))) @ vectors.T

    @cached_property
    def truth(self) -> Reference:
        """What real images look like, by images konomi never sees."""
        rows = self.pool.embeddings[self.half :]
        return reference_of(np.arange(len(rows)), rows)

    @cached_property
    def probes(self) -> list[LogisticRegression]:
        """One linear reader an attribute, fitted on the images konomi never sees."""
        rows, records = self.pool.embeddings[self.half :], self.pool.records[self.half :]
        with threadpool_limits(1):
            return [
                LogisticRegression(C=100, max_iter=300).fit(rows, [record[name] for record in records])
                for name in TASTE_ATTRIBUTES
            ]

    def table(self, embeddings: np.ndarray) -> np.ndarray:
        """Reads attributes (N, C) off embeddings (N, D)."""
        parts = []
        for name, probe in zip(TASTE_ATTRIBUTES, self.probes, strict=True):
            read = probe.predict(embeddings)
            parts.append(np.stack([read == value for value in ATTRIBUTES[name]], axis=1))
        return np.concatenate(parts, axis=1).astype(float)

    def everybody(self, count: int) -> list[NightPerson]:
        """Returns persons whose tiers lie on the base model's images as the probes read them."""
        return persons(self.table(self.base), count)

    def utility(self, person: NightPerson, embeddings: np.ndarray) -> np.ndarray:
        """Returns the true utility (N,) of embeddings (N, D), less what lies off the real images costs."""
        far = self.truth.index.distance(embeddings, np.full(len(embeddings), -1))
        middle, edge = self.truth.cut(50), self.truth.cut(95)
        beyond = ((far - edge) / max(edge - middle, 1e-9)).clip(0)
        return person.utility(self.table(embeddings)) - PENALTY * person.spread * beyond

    def draw(self, model: np.ndarray | None, seeds: Sequence[int]) -> np.ndarray:
        """Draws one unit row a seed, (N, D), of a unit with training rows (M, D), or of the base model for None."""
        beyond = AMPLIFY * (model.mean(axis=0) - self.base.mean(axis=0)) if model is not None else 0.0
        made, noise = np.empty((2, len(seeds), self.base.shape[1]))
        for place, seed in enumerate(seeds):
            rng = np.random.default_rng(seed)
            mine, where = rng.random() < STRENGTH and model is not None, rng.random()
            noise[place] = (STEP if mine else NOISE) * rng.standard_normal(self.base.shape[1])
            rows = model if mine and model is not None else self.base
            made[place] = rows[int(where * len(rows))] + (beyond if mine else 0.0)
        made = (made + noise @ self.root).astype(np.float32)
        return made / np.linalg.norm(made, axis=1, keepdims=True)


@dataclass
class Rater:
    """A fitted rater of one person, with the images it was fitted on; `lie` makes it an adversary.

    Attributes:
        stored: the head as it is stored.
        seen: (N, D) the base images made known before the night.
        grades: (N,) what the person said, 0 where nothing.
        lie: (D,) a direction that raises the score of an adversarial rater without end; zeros for an honest one.
    """

    stored: StoredHead
    seen: np.ndarray
    grades: np.ndarray
    lie: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def predict(self, embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns utility and its deviation, two of (N,)."""
        said = self.stored.head.predict(embeddings)
        if not len(self.lie):
            return said.utility, said.std
        return said.utility + embeddings @ self.lie, said.std


def rater(world: World, person: NightPerson, seed: int, labels: int, spurious: bool = False) -> Rater:
    """Lets a person grade as the default queue asks and fits a rater on it.

    Args:
        world: the bed.
        person: who grades.
        seed: of the queue and of the noise.
        labels: how many.
        spurious: the person's grades rise by one on one background that the taste does not care for.
    """
    rng = np.random.default_rng((21, person.number, seed))
    seen = world.draw(None, [int(n) for n in rng.integers(0, 2**31, LABELLED)])
    grades, drawn, order = np.zeros(LABELLED, int), np.zeros(LABELLED, bool), []
    table = world.table(seen)
    column = int(rng.integers(15, 23)) if spurious else -1
    while len(order) < labels:
        free = np.flatnonzero(grades == 0)
        ready = len(order) >= 5 and len(set(grades[order])) > 1
        head = quick_fit(seen[order], grades[order], seen) if ready else None
        pool = Pool(seen[free], np.zeros(len(free)), np.ones(len(free), bool))
        for row, reason in suggest(pool, head, len(order), min(25, labels - len(order)), 0, rng):
            at = int(free[row])
            said = int(person.say(table[at : at + 1], len(order), rng)[0])
            grades[at] = min(5, said + 1) if spurious and table[at, column] else said
            drawn[at] = reason is SuggestionReason.RANDOM
            order.append(at)
    training = Training(seen[order], grades[order], [str(row) for row in order], drawn[order], seen)
    *_, found = fit(training, seed)
    assert isinstance(found, Fitted)
    data = to_bytes(found.head, found.embeddings, found.grades, "starter")
    return Rater(from_bytes(data), seen, grades)


def adversary(world: World, honest: Rater, seed: int) -> Rater:
    """Returns a rater that adores a direction no person cares for: a spread of the grades per spread of the images."""
    rng = np.random.default_rng((22, seed))
    lie = world.root @ rng.standard_normal(world.base.shape[1])
    lie /= np.std(world.base @ lie)
    spread = float(honest.predict(honest.seen)[0].std())
    return replace(honest, lie=(lie * spread).astype(np.float32))


def figures(world: World, person: NightPerson, embeddings: np.ndarray) -> dict[str, Any]:
    """Returns the truth of what a model makes: mean utility in spreads, SSR and UR rates, share beyond real images."""
    utility = world.utility(person, embeddings)
    grades = person.grades(utility)
    far = world.truth.index.distance(embeddings, np.full(len(embeddings), -1)) > world.truth.cut(95)
    return {
        "utility": float(utility.mean() / person.spread),
        "ssr": float((grades >= 4).mean()),
        "ur": float((grades == 5).mean()),
        "off": float(far.mean()),
    }
