"""The ordinal head: a Gaussian process over whitened embeddings whose latent value is cut into five grades.

The process stands on a population prior where there is one (`features`), reads grades through an ordinal likelihood
(`ordinal`), and its predictive distribution is cut back into P(grade) (Chu & Ghahramani 2005).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import ndtr

from konomi_rater.preference.calibration import Calibration
from konomi_rater.preference.comparisons import LEAST_LABELS, NONE, Pairs, pair_likelihood
from konomi_rater.preference.features import Features
from konomi_rater.preference.gaussian_process import (
    LEAST_NOISE,
    NO_PAIRS,
    Kernel,
    Process,
    condition,
    covariance_of,
    observations,
    observed,
    optimise,
)
from konomi_rater.preference.metrics import SSR
from konomi_rater.preference.ordinal import (
    PRIOR,
    Check,
    Likelihood,
    Scale,
    grade_likelihood,
    grade_probabilities,
    laplace,
    laplace_on_images,
    never,
    quantisation,
    scale_of,
    sites,
    utility,
)
from konomi_rater.preference.provenance.parameters import Provenance
from konomi_rater.preference.provenance.trees import Trees
from konomi_rater.preference.sparse_gaussian_process import SparseProcess, condition_sparse

DECIMALS = 9
"""Predictions are rounded to it: a matrix product's last bits depend on the rows beside, a score must not."""
BLOCK = 8192
"""Rows predicted at a time: bounds the memory, not the result."""
TUNED = 256
"""Labels at most that the kernel's numbers are set on; more change them little and cost their cube."""
UNLABELLED_NOISE = 1.0
"""Variance of an ungraded image about the average: that of the latent scale itself."""
USUAL = 1000
"""Images at most that say where the cuts lie if no grade does."""
FEW_IMAGES = 0.75
"""Images for each observation below which Laplace's method is the faster on images: a system of half as many takes a
quarter of the time, as it is not symmetric."""
MOST_EXACT = 2000
"""Labels above which the process is approximated (`sparse_gaussian_process`)."""


@dataclass(frozen=True)
class Recipe:
    """How one kind of head is made.

    Attributes:
        start: kernel to start from; a part that is 0 stays out.
        ordinal: reads grades through the ordinal likelihood; else as normal scores with Gaussian noise.
        most: labels above which it is not for.
    """

    start: Kernel
    ordinal: bool
    most: int


_BOTH = Kernel(linear=0.5, rbf=0.5, length=1.0, noise=0.4)
RECIPES: Mapping[str, Recipe] = {
    "gp": Recipe(_BOTH, ordinal=True, most=MOST_EXACT),
    "nystroem": Recipe(_BOTH, ordinal=False, most=10**9),
    "linear": Recipe(Kernel(linear=1.0, rbf=0.0, noise=0.4), ordinal=True, most=0),
}
"""Every kind of head, for more and more labels; "linear" only chooses what to label next (`fitting.quick_fit`). One
kind for a number of labels: its kernel is a mixture of a linear part, which is Bayesian ridge, and of one of nearness,
and the labels weigh the two. A choice among kinds by cross-validation costs more at 20 to 100 labels than it brings."""


@dataclass(frozen=True)
class Prediction:
    """What a head thinks of N images.

    Attributes:
        utility: (N,) expected grade, 1..5.
        std: (N,) the doubt in it.
        probabilities: (N, 5) P(grade), rows sum to 1.
    """

    utility: np.ndarray
    std: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Sites:
    """What the process was conditioned on, as Gaussians.

    Attributes:
        targets: (n,) latent targets, of graded images and then of the difference of each pair.
        noise: (n,) their variances.
        pairs: (m, 2) int64 rows of the images it rests on, graded ones first; (0, 2) where nothing was compared.
        origins: (n', O) how each image it rests on was made (`provenance.origins`); (0, 0) where that is no evidence.
    """

    targets: np.ndarray
    noise: np.ndarray
    pairs: np.ndarray = field(default_factory=lambda: NO_PAIRS)
    origins: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(frozen=True)
class Head:
    """A fitted preference model.

    Attributes:
        kind: name of its recipe.
        features: map from embeddings to features.
        process: the conditioned process.
        scale: cuts of the latent scale.
        sites: what the process was conditioned on.
        calibration: what makes its probabilities honest.
        trees: what says more of an image by its provenance, if anything does.
        drawn: (n, B) how often each label is in each bootstrap member; (0, 0) without members.
        whole: whether the sites are all it was conditioned on; a head on more labels (`large_fit`) names some of them.
    """

    kind: str
    features: Features
    process: Process | SparseProcess
    scale: Scale
    sites: Sites
    calibration: Calibration = field(default_factory=Calibration)
    trees: Trees | None = None
    drawn: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))
    whole: bool = True

    @property
    def reads_provenance(self) -> bool:
        """Whether how an image was made changes what the head thinks of it."""
        return self.trees is not None or len(self.features.origins) > 0

    def without_provenance(self) -> "Head":
        """Returns the head as it predicts an image of which nothing is known but its pixels."""
        return replace(self, trees=None, features=self.features.with_unknown_origins())

    @property
    def compared(self) -> int:
        """How many of the images it rests on were compared and not graded."""
        pairs = len(self.sites.pairs)
        return len(self.process.inputs) - (len(self.sites.targets) - pairs) if pairs else 0

    def latent(
        self, embeddings: np.ndarray, provenances: Sequence[Provenance | None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the latent posterior mean and variance of embeddings (N, D): two of (N,)."""
        parts = []
        for start in range(0, len(embeddings), BLOCK):
            rows = slice(start, start + BLOCK)
            made = provenances[rows] if provenances is not None and len(self.features.origins) else None
            parts.append(self.process.predict(self.features(embeddings[rows], made)))
        mean, variance = (np.concatenate([part[place] for part in parts]) for place in (0, 1))
        if self.trees is not None and provenances is not None:
            mean, variance = self.trees(mean, variance, provenances)
        return mean, variance

    def predict(self, embeddings: np.ndarray, provenances: Sequence[Provenance | None] | None = None) -> Prediction:
        """Returns utility, doubt and P(grade).

        Args:
            embeddings: (N, D) unit rows.
            provenances: how each image was made, None for one of which nothing is known. Left out where scores compare
                models: a model must be liked for its images, not for its name.
        """
        if not len(embeddings):
            return Prediction(np.zeros(0), np.zeros(0), np.zeros((0, 5)))
        return self.judge(*self.latent(embeddings, provenances))

    def judge(self, mean: np.ndarray, variance: np.ndarray) -> Prediction:
        """Turns latent means and variances (N,) into grades."""
        squared = self.calibration.temperature**2
        noise = self.process.kernel.noise * squared
        level = mean + self.calibration.shift
        value, std = utility(level, variance * squared, noise, self.scale)
        probabilities = grade_probabilities(level, variance * squared + noise, self.scale)
        shares = self.calibration(probabilities)
        value = (value + (shares - probabilities) @ np.arange(1.0, 6.0)).clip(1.0, 5.0)
        return Prediction(value.round(DECIMALS), std.round(DECIMALS), shares.round(DECIMALS))


def kind_for(graded: int) -> str:
    """Returns the kind of head for so many grades, whatever was compared beside them."""
    return next(kind for kind, recipe in RECIPES.items() if graded <= recipe.most)


def fit_head(
    kind: str,
    features: Features,
    embeddings: np.ndarray,
    grades: np.ndarray,
    moved: np.ndarray | None = None,
    check: Check = never,
    pairs: Pairs = NONE,
    provenances: Sequence[Provenance | None] | None = None,
) -> Head:
    """Fits one kind of head.

    Args:
        kind: name of a recipe.
        features: map learnt from the taste's unlabelled images.
        embeddings: (n, D) of the labelled images, graded ones first.
        grades: (g,) integers 1..5 of the graded ones: all, where no pairs are given. With pairs, 0 is an image that
            counts as an average one (`positive_unlabelled`).
        moved: (n,) what comparisons add to the latent targets, where they do no more.
        check: asked between two steps whether anybody waits.
        pairs: which of two images is preferred, as labels of their own.
        provenances: how each of the n images was made, where the features read it.
    """
    inputs = features(embeddings, provenances)
    if len(pairs):
        return _fit_on_pairs(kind, features, inputs, grades, pairs, check)
    recipe, scale = RECIPES[kind], scale_of(grades)
    shift = np.zeros(len(grades)) if moved is None else moved
    scores = scale.targets[grades - 1] + shift
    kernel = tuned(recipe, features, inputs, scores, check)
    noise = np.full(len(grades), kernel.noise)
    if recipe.ordinal:
        kernel = replace(kernel, noise=max(kernel.noise - quantisation(scale, grades), LEAST_NOISE))
        scores, noise = sites(kernel(inputs, inputs), kernel.mean(inputs), grades, scale, kernel.noise, check)
        scores = scores + shift
    check()
    return assemble(kind, features, inputs, scale, kernel, Sites(scores, noise))


def thresholds_known(grades: np.ndarray) -> bool:
    """Returns whether grades (g,), 0 for none, say how often each is given: some, and not of favourites alone."""
    grades = grades[grades > 0]
    return len(grades) >= LEAST_LABELS and len(np.unique(grades)) > 1 and int(grades.min()) < SSR


def _fit_on_pairs(
    kind: str, features: Features, inputs: np.ndarray, grades: np.ndarray, pairs: Pairs, check: Check
) -> Head:
    """Fits one kind of head on grades and pairs together: Laplace's method on one latent value (`comparisons`)."""
    recipe, alone = RECIPES[kind], len(grades)
    known = thresholds_known(grades)
    scale = scale_of(grades if known else grades[:0])
    scores, kernel = np.append(0.0, scale.targets)[grades], _start(recipe, features)
    if known:
        kernel = tuned(recipe, features, inputs[:alone], scores, check)
    noise = kernel.noise - quantisation(scale, grades) if known else kernel.noise
    noise = max(noise, LEAST_NOISE) if recipe.ordinal else kernel.noise
    kernel = replace(kernel, noise=noise)
    of_pairs = pair_likelihood(pairs, noise)
    given = grades > 0
    of_scores = _as_scores(scores, np.where(given, noise, UNLABELLED_NOISE))
    of_grades = grade_likelihood(grades.clip(1), scale, noise) if recipe.ordinal else of_scores

    def likelihood(mode: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = zip(of_grades(mode[:alone]), of_scores(mode[:alone]), of_pairs(mode[alone:]), strict=True)
        slope, curvature = (np.append(np.where(given, one, other), pair) for one, other, pair in parts)
        return slope, curvature

    if len(inputs) < FEW_IMAGES * (alone + len(pairs)):
        seen, prior = observations(len(inputs), alone, pairs.rows), kernel.mean(inputs)
        targets, variances = laplace_on_images(kernel(inputs, inputs), prior, seen, likelihood, check)
    else:
        covariance = covariance_of(kernel, inputs, alone, pairs.rows)
        targets, variances = laplace(covariance, observed(kernel.mean(inputs), alone, pairs.rows), likelihood, check)
    check()
    return assemble(kind, features, inputs, scale, kernel, Sites(targets, variances, pairs.rows))


def with_usual_shares(head: Head, images: np.ndarray) -> Head:
    """Returns the head with cuts under which these images, taken together, fall into the grades as PRIOR has it.

    Pairs say which is preferred, never what is good: where no grade says it, the shares of a taste's images are
    assumed.

    Args:
        head: fitted on pairs.
        images: (N, D) unit rows of all images of the taste.
    """
    mean, variance = head.latent(images[:: -(-len(images) // USUAL)])
    spread = np.sqrt(variance + head.process.kernel.noise)
    low, high = np.full((2, len(PRIOR) - 1), [[(mean - 9 * spread).min()], [(mean + 9 * spread).max()]])
    for _ in range(60):  # halves the interval until no number lies between
        middle = (low + high) / 2
        below = ndtr((middle[:, None] - mean) / spread).mean(axis=1) < np.cumsum(PRIOR)[:-1]
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return replace(head, scale=replace(head.scale, cuts=(low + high) / 2))


def _as_scores(scores: np.ndarray, noise: np.ndarray) -> Likelihood:
    """Returns the Gaussian likelihood of normal scores (n,) of these variances (n,)."""
    return lambda mode: ((scores - mode) / noise, 1.0 / noise)


def tuned(recipe: Recipe, features: Features, inputs: np.ndarray, scores: np.ndarray, check: Check = never) -> Kernel:
    """Returns the kernel of a recipe with its numbers set on features (n, P) and scores (n,), of TUNED at most."""
    some = np.linspace(0, len(scores) - 1, min(TUNED, len(scores))).astype(int)
    return optimise(_start(recipe, features), inputs[some], scores[some], steps=25, check=check)


def _start(recipe: Recipe, features: Features) -> Kernel:
    return replace(recipe.start, scores=features.scores, origins=len(features.origins))


def assemble(kind: str, features: Features, inputs: np.ndarray, scale: Scale, kernel: Kernel, sites: Sites) -> Head:
    """Conditions the process of a head on what is known of features (n, P)."""
    process: Process | SparseProcess
    if len(features.origins):
        sites = replace(sites, origins=kernel.split(inputs)[2])
    if len(sites.pairs) or len(inputs) <= MOST_EXACT:
        process = condition(kernel, inputs, sites.targets, sites.noise, sites.pairs)
    else:
        process = condition_sparse(kernel, inputs, sites.targets, sites.noise)
    return Head(kind, features, process, scale, sites)


MEMBERS = 5
"""4 to 5 members suffice (Coste et al. 2023)."""
LEFT_OUT = 1e6
"""Factor on the noise of a label a member did not draw."""


def draw(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws how often each of n labels is in each member: (n, MEMBERS) uint8."""
    picks = rng.integers(0, count, (MEMBERS, count))
    return np.stack([np.bincount(pick, minlength=count) for pick in picks], axis=1).clip(0, 255).astype(np.uint8)


def with_members(head: Head, inputs: np.ndarray, drawn: np.ndarray, check: Check = never) -> Head:
    """Returns the head with its bootstrap members.

    Args:
        head: conditioned on all labels.
        inputs: (n, P) features of the labelled images.
        drawn: (n, B) how often each label is in each member; (0, 0) for none.
        check: asked before every member whether anybody waits.
    """
    if not drawn.size:
        return head
    weights = []
    for times in drawn.T.astype(np.float64):
        check()
        noise = head.sites.noise * np.where(times > 0, 1.0 / times.clip(1.0), LEFT_OUT)
        sites = replace(head.sites, noise=noise)
        weights.append(
            assemble(head.kind, head.features, inputs, head.scale, head.process.kernel, sites).process.weights
        )
    return replace(head, process=replace(head.process, members=np.stack(weights, axis=1)), drawn=drawn)
