"""Fits a rater version: a head on all labels, what trees can add, calibration, quality by grouped cross-validation."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from konomi_rater.preference import head as ensemble
from konomi_rater.preference import large_fit
from konomi_rater.preference.calibration import LEAST_RANDOM, Calibration, calibrate
from konomi_rater.preference.comparisons import (
    LEAST_LABELS,
    NONE,
    Pairs,
    Preference,
    accuracy,
    order,
    pairs_of,
    shifted,
    touching,
)
from konomi_rater.preference.features import Features, learn_features, with_population
from konomi_rater.preference.gaussian_process import Process, held_out
from konomi_rater.preference.head import (
    MOST_EXACT,
    RECIPES,
    Head,
    Sites,
    fit_head,
    kind_for,
    thresholds_known,
)
from konomi_rater.preference.large_fit import WHOLE
from konomi_rater.preference.metrics import Estimate, Predictions, estimates
from konomi_rater.preference.ordinal import Check, never, quantisation, scale_of
from konomi_rater.preference.population import benefit
from konomi_rater.preference.population.benefit import Benefit, Labels
from konomi_rater.preference.population.file import Population, joined
from konomi_rater.preference.positive_unlabelled import PositiveFit, auc_estimate, fit_positives
from konomi_rater.preference.provenance.origins import learn_origins
from konomi_rater.preference.provenance.trees import stack
from konomi_rater.preference.sparse_gaussian_process import held_out_sparse
from konomi_rater.preference.training import Training
from konomi_rater.sentences import Sentence

FOLDS = 10
LARGE = "nystroem"
"""The kind of head on more than WHOLE labels."""
LINEAR, FEW = "linear", 30
"""The kind of head that chooses what to label next below so many labels."""
TREE_FOLDS = 5
LEAST_UR = 3
"""UR labels below which probabilities of UR rest on the order of the lower grades."""
SITTING = 12
"""Grades asked for where more of them are needed and nobody knows how many: as many as the page asks for at a time."""
MARGIN = 0.02
"""What is added to a head must better its cross-validated SRCC by this much: smaller gaps are ties. Trees, which are
weighed on the very labels they are judged by, must better it by half a standard error of SRCC where that is more."""
LEAST_ORIGIN = 0.002
"""Variance of the part of how images were made below which it is left out: a model then moves no image by a twentieth
of the latent spread, and a head that reads no provenance scores a library faster."""


@dataclass(frozen=True)
class Fitted:
    """A fitted head and what is known of it.

    Attributes:
        head: the model.
        metrics: held-out quality.
        candidates: cross-validated SRCC of the head, and of "stack" where trees were tried.
        alarms: what the owner should know first.
        embeddings: (n, D) the images it rests on.
        grades: (n,) their grades, 0 for an ungraded one.
        benefits: what each population adds by the owner's held-out labels, and whether it was used.
        compared: comparisons it was fitted on.
    """

    head: Head
    metrics: Mapping[str, Estimate]
    candidates: Mapping[str, float]
    alarms: Sequence[Sentence]
    embeddings: np.ndarray
    grades: np.ndarray
    benefits: Sequence[Benefit] = ()
    compared: int = 0


@dataclass(frozen=True)
class Step:
    """Progress of a fit."""

    phase: str
    done: int
    total: int


@dataclass(frozen=True)
class _HeldOut:
    """A head with its predictions of each label without the label's group: latent mean and predictive variance.

    `gaps` (m,) are the differences it predicts of what was compared, without what is known of one of the two images.
    """

    head: Head
    mean: np.ndarray
    variance: np.ndarray
    gaps: np.ndarray = field(default_factory=lambda: np.zeros(0))


def fit(training: Training, seed: int, check: Check = never, threads: int = 1) -> Iterator[Step | Fitted]:
    """Yields progress, then the fitted version.

    Up to WHOLE labels everything is made of all of them. Beyond, the head still learns from all, through inducing
    points of a sample; quality, calibration and trees rest on another sample (`large_fit`), both drawn by the seed.

    Args:
        training: labels and background.
        seed: of folds, trees, bootstrap and samples.
        check: asked between two steps, each a fraction of a second, whether anybody waits; what it raises ends the fit.
        threads: that add up many labels; the result is the same.
    """
    rng = np.random.default_rng(seed)
    if training.is_favourites:
        if not training.learns_with_unlabelled:
            yield Step("favourites", 0, 1)
            yield _fit_favourites(training, seed, rng)
            return
        training = training.with_unlabelled()
    pairs = learnt_pairs(training.comparisons, len(training.grades))
    training = training if len(pairs) else training.graded_alone()
    features, weighed = _features(training, seed, check)
    folds = make_folds([*training.groups, *training.compared_groups], rng)
    moved, shifting = shifted(() if len(pairs) else training.comparisons, training.grades)
    if len(training.grades) > WHOLE:
        yield Step("cross-validation", 0, 2)
        large = _fit_large(training, features, folds, moved, seed, check, threads)
        yield Step("quality", 1, 2)
        fitted = _finish(large.sample, large.held_out, seed, rng, check, measured=large.measured)
        yield replace(fitted, alarms=alarms(training, fitted.metrics), benefits=weighed, compared=shifting)
        return
    yield Step("cross-validation", 0, 2)
    head = _fit_kind(kind_for(len(training.grades)), features, training, moved, check, pairs)
    held_out = _cross_validate(head, training, folds, check)
    yield Step("quality", 1, 2)
    fitted = _finish(training, held_out, seed, rng, check, pairs)
    yield replace(fitted, benefits=weighed, compared=shifting or int(pairs.times.sum()))


def held_out_order(training: Training, seed: int, check: Check = never) -> np.ndarray:
    """Returns what the head of these grades says of each without its fold: (n,) latent means.

    Comparisons and trees stay out: it is what the embeddings, populations and the known making of images say. Equal
    groups and seed make equal folds, so two trainings of the same labels can be compared label by label.
    """
    features, _ = _features(training, seed, check)
    folds, count = make_folds(training.groups, np.random.default_rng(seed)), len(training.grades)
    head = _fit_kind(kind_for(count), features, training, np.zeros(count), check, NONE)
    return _cross_validate(head, training, folds, check).mean


def _features(training: Training, seed: int, check: Check) -> tuple[Features, list[Benefit]]:
    """Returns the feature map, with the populations that help as columns beside, and what each of them adds.

    Folds are drawn apart, so that a fit without any is as it was. Below LEAST_LABELS grades, or beside ungraded images,
    too little decides: none helps.
    """
    features, count = learn_features(training.background), len(training.grades)
    if not training.populations or count < LEAST_LABELS or not training.grades.all():
        return _with_origins(features, training, check), []
    few = training.take(np.linspace(0, count - 1, min(count, benefit.MOST_LABELS)).astype(int))
    folds = make_folds(few.groups, np.random.default_rng((seed, 1)))
    labels = Labels(few.embeddings, few.grades, folds, few.background)
    weighed = benefit.benefits(training.populations, labels, features, seed, check)
    helping = joined([one for one, found in zip(training.populations, weighed, strict=True) if found.used])
    features = with_population(features, training.background, helping)
    return _with_origins(features, training, check), weighed


def _with_origins(features: Features, training: Training, check: Check) -> Features:
    """Returns the map with how images were made, where the labels leave that part a variance; else as it is.

    What pixels show already is better learnt from pixels: where models are compared there is nothing else.
    """
    origins, count = learn_origins(training.seen_provenances()), len(training.grades)
    if not len(origins) or not thresholds_known(training.grades):
        return features
    few = training.take(np.linspace(0, count - 1, min(count, ensemble.TUNED)).astype(int))
    tried = features.with_origins(origins)
    scores = np.append(0.0, scale_of(few.grades).targets)[few.grades]
    inputs = tried(few.embeddings, few.seen_provenances())
    kernel = ensemble.tuned(RECIPES[kind_for(count)], tried, inputs, scores, check)
    return tried if kernel.origin > LEAST_ORIGIN else features


def _fit_kind(kind: str, features: Features, training: Training, moved: np.ndarray, check: Check, pairs: Pairs) -> Head:
    made = training.seen_provenances()
    return fit_head(kind, features, training.seen(), training.grades, moved, check, pairs, made)


def _inputs(head: Head, training: Training) -> np.ndarray:
    return head.features(training.seen(), training.seen_provenances())


def learnt_pairs(comparisons: Sequence[Preference], graded: int) -> Pairs:
    """Returns the comparisons that are labels of their own: none beside more than MOST_EXACT grades."""
    return pairs_of(comparisons) if graded <= MOST_EXACT else NONE


def quick_fit(
    embeddings: np.ndarray,
    grades: np.ndarray,
    background: np.ndarray,
    population: Population | None = None,
    pairs: Pairs = NONE,
    features: Features | None = None,
) -> Head:
    """Fits one head without measuring it, for choosing what to label next.

    Of more than WHOLE labels it learns from half as many of the last, and as many spread evenly over those before. Of
    fewer than FEW it is linear: nearness would call each image that is far from all labels unknown by itself, and a
    queue would settle one after another what settles nothing else (LOG.md).

    Args:
        embeddings: (n, D) of the graded images; of more than WHOLE in the order they were graded. With pairs, those of
            the images that were only compared follow.
        grades: (n,) integers 1..5.
        background: (N, D) of all images of the taste.
        population: what people in general like, where something is known.
        pairs: which of two images is preferred (`learnt_pairs`).
        features: what `learn_features` returns of this background and population, where it is known already.
    """
    features = learn_features(background, population=population) if features is None else features
    if len(pairs):
        head = fit_head(kind_for(len(grades)), features, embeddings, grades, pairs=pairs)
        return head if thresholds_known(grades) else ensemble.with_usual_shares(head, background)
    rows = _recent_and_spread(len(grades))
    embeddings, grades = embeddings[rows], grades[rows]
    kind = LINEAR if len(grades) < FEW else kind_for(len(grades))
    return fit_head(kind, features, embeddings, grades)


def _recent_and_spread(count: int) -> np.ndarray:
    """Returns which of `count` labels, oldest first, a quick fit learns from."""
    if count <= WHOLE:
        return np.arange(count)
    recent = count - WHOLE // 2
    return np.concatenate([np.linspace(0, recent - 1, WHOLE - WHOLE // 2).astype(int), np.arange(recent, count)])


def make_folds(groups: Sequence[str], rng: np.random.Generator, most: int = FOLDS) -> list[np.ndarray]:
    """Returns the rows of each fold; groups stay whole, sizes are as even as they can be."""
    names, members = np.unique(np.asarray(groups), return_inverse=True)
    count = min(most, len(names))
    sizes = np.bincount(members)
    load, fold_of = np.zeros(count), np.zeros(len(names), dtype=int)
    shuffled = rng.permutation(len(names))
    for name in shuffled[np.argsort(-sizes[shuffled], kind="stable")]:
        fold_of[name] = int(np.argmin(load))
        load[fold_of[name]] += sizes[name]
    return [np.flatnonzero(fold_of[members] == fold) for fold in range(count)]


def alarms(training: Training, metrics: Mapping[str, Estimate], pairs: Pairs = NONE) -> list[Sentence]:
    """Returns what the owner should know before trusting the version."""
    raised = []
    top, drawn = int((training.grades == 5).sum()), int(training.drawn.sum())
    if len(pairs) and not thresholds_known(training.grades):
        raised.append(Sentence("only_pairs", {"more": SITTING}))
    else:
        if top < LEAST_UR:
            raised.append(Sentence("few_ur", {"top": top, "missing": LEAST_UR - top}))
        if drawn < LEAST_RANDOM:
            raised.append(Sentence("few_random", {"missing": LEAST_RANDOM - drawn}))
    srcc, right_of = metrics.get("srcc"), metrics.get("pair_accuracy")
    if srcc is None and right_of is not None:
        if right_of.low <= 0.5:
            raised.append(Sentence("pairs_chance", {"share": right_of.value, "base": 0.5, "more": SITTING}))
    elif srcc is None:
        raised.append(Sentence("unmeasured", {"more": SITTING}))
    elif srcc.low <= 0:
        raised.append(Sentence("chance", {"low": srcc.low, "high": srcc.high, "more": SITTING}))
    return raised


def _cross_validate(head: Head, training: Training, folds: Sequence[np.ndarray], check: Check) -> _HeldOut:
    targets, noise, pairs = head.sites.targets, head.sites.noise, head.sites.pairs
    graded = len(targets) - len(pairs)
    if len(folds) < 2:
        return _HeldOut(head, np.zeros(graded), np.ones(graded), np.zeros(len(pairs)))
    if isinstance(head.process, Process):
        mean, variance = held_out(head.process, targets, [touching(fold, graded, pairs) for fold in folds])
    else:
        inputs = _inputs(head, training)
        mean, variance = held_out_sparse(head.process.kernel, inputs, targets, noise, folds, check)
    doubt = (variance[:graded] - noise[:graded]).clip(1e-9) + head.process.kernel.noise
    return _HeldOut(head, mean[:graded], doubt, mean[graded:])


@dataclass(frozen=True)
class _Large:
    """A head on all of many labels, with a sample of them to judge it by.

    Attributes:
        sample: the labels it is judged by.
        measured: (R,) bool, which of these measure it; the others only calibrate.
        held_out: the head, and its predictions of these labels without their folds.
    """

    sample: Training
    measured: np.ndarray
    held_out: _HeldOut


def _fit_large(
    training: Training,
    features: Features,
    folds: Sequence[np.ndarray],
    moved: np.ndarray,
    seed: int,
    check: Check,
    threads: int,
) -> _Large:
    scale, inputs = (
        scale_of(training.grades),
        features(training.embeddings, training.seen_provenances()[: len(training.grades)]),
    )
    targets = scale.targets[training.grades - 1] + moved
    kernel = ensemble.tuned(RECIPES[LARGE], features, inputs, targets, check)
    parts, fold_of = large_fit.parts_of(folds)
    blocks = large_fit.add_up(kernel, inputs, targets, parts, large_fit.choose_points(inputs, seed), check, threads)
    rows, measured = large_fit.measured_rows(training.drawn, seed)
    mean, doubt = np.zeros(len(rows)), np.ones(len(rows))
    for number, fold in enumerate(folds):
        check()
        of_fold = np.isin(rows, fold)
        mean[of_fold], doubt[of_fold] = blocks.process(fold_of != number).predict(inputs[rows[of_fold]])
    times = ensemble.draw(len(parts), np.random.default_rng(seed))
    block_of = np.zeros(len(inputs), np.int64)
    for number, part in enumerate(parts):
        block_of[part] = number
    members = np.stack([blocks.process(count).weights for count in times.T], axis=1)
    process = replace(blocks.process(np.ones(len(parts))), members=members)
    sites = Sites(targets[rows], np.full(len(rows), kernel.noise))
    head = Head(LARGE, features, process, scale, sites, drawn=times[block_of[rows]], whole=False)
    return _Large(training.take(rows), measured, _HeldOut(head, mean, doubt.clip(1e-9) + kernel.noise))


def _finish(
    training: Training,
    best: _HeldOut,
    seed: int,
    rng: np.random.Generator,
    check: Check,
    pairs: Pairs = NONE,
    measured: np.ndarray | None = None,
) -> Fitted:
    """Lets trees add what they can to a head, calibrates and measures.

    Args:
        training: the labels held out.
        best: the head with its predictions of these.
        seed: of the trees.
        rng: of folds and bootstrap.
        check: asked between two steps whether anybody waits.
        pairs: what was compared.
        measured: (n,) bool, the labels that measure; None for all, and members are drawn among them.
    """
    candidates = {best.head.kind: order(training.grades, best.mean, pairs, best.gaps)}
    stacked = _stacked(training, best, seed, rng, check)
    if stacked is not None:
        candidates["stack"] = order(training.grades, stacked.mean, pairs, stacked.gaps)
        needed = candidates[best.head.kind] + max(MARGIN, 0.5 * len(training.grades) ** -0.5)
        best = stacked if candidates["stack"] > needed else best
    head = best.head
    if measured is None:
        drawn = ensemble.draw(len(head.sites.targets), rng)
        head = ensemble.with_members(head, _inputs(head, training), drawn, check)
    metrics = accuracy(pairs, best.gaps)
    if len(pairs) and not thresholds_known(training.grades):
        head = ensemble.with_usual_shares(head, training.background)
        metrics |= auc_estimate(PositiveFit(head, best.mean, training.grades > 0), rng)
    elif best.mean.std() > 0:
        head = replace(head, calibration=_calibrated(best, training, np.ones(len(training.grades), bool)))
        check()
        metrics |= _measured(best, training, measured, rng, check)
    finite = {kind: value for kind, value in candidates.items() if np.isfinite(value)}
    return Fitted(head, metrics, finite, alarms(training, metrics, pairs), training.seen(), training.seen_grades())


def _measured(
    best: _HeldOut, training: Training, rows: np.ndarray | None, rng: np.random.Generator, check: Check
) -> dict[str, Estimate]:
    """Returns the measures on the labels at rows (n,) bool; on all where None is given."""
    some = np.ones(len(training.grades), bool) if rows is None else rows
    predictions = _held_out_predictions(best, training, rng).take(some)
    return estimates(training.grades[some], predictions, rng, check=check)


def _stacked(training: Training, best: _HeldOut, seed: int, rng: np.random.Generator, check: Check) -> _HeldOut | None:
    if len(training.provenances) != len(best.mean) or not best.mean.size or best.mean.std() == 0:
        return None
    head, folds = best.head, make_folds(training.groups, rng, TREE_FOLDS)
    targets = head.scale.targets[training.grades - 1]
    stacking = stack(best.mean, targets, training.provenances, folds, seed, check)
    if stacking is None:
        return None
    noise = head.process.kernel.noise
    known = stacking.trees.weights[0] ** 2 * (best.variance - noise)  # the head's own doubt, as far as it is believed
    missed = float(np.mean((targets - stacking.held_out) ** 2)) - quantisation(head.scale, training.grades) - noise
    trees = replace(stacking.trees, doubt=max(0.0, missed - float(known.mean())))
    head = replace(head, kind="stack", trees=trees)
    return replace(best, head=head, mean=stacking.held_out, variance=known + trees.doubt + noise)


def _calibrated(best: _HeldOut, training: Training, rows: np.ndarray) -> Calibration:
    use = rows & training.drawn
    return calibrate(best.mean[use], best.variance[use], training.grades[use], best.head.scale)


def _held_out_predictions(best: _HeldOut, training: Training, rng: np.random.Generator) -> Predictions:
    """Returns held-out predictions, each half calibrated on the other half's labels."""
    half = np.zeros(len(training.grades), dtype=bool)
    half[rng.permutation(len(half))[: len(half) // 2]] = True
    value, shares = np.zeros(len(half)), np.zeros((len(half), 5))
    for rows in (half, ~half):
        judge = replace(best.head, calibration=_calibrated(best, training, ~rows))
        doubt = (best.variance[rows] - best.head.process.kernel.noise).clip(1e-9)
        prediction = judge.judge(best.mean[rows], doubt)
        value[rows], shares[rows] = prediction.utility, prediction.probabilities
    return Predictions(value, shares)


def _fit_favourites(training: Training, seed: int, rng: np.random.Generator) -> Fitted:
    training = training.take(large_fit.sample(len(training.grades), MOST_EXACT - len(training.unlabelled), seed))
    embeddings = np.concatenate([training.embeddings, training.unlabelled])
    groups = [*training.groups, *(f"ungraded {row}" for row in range(len(training.unlabelled)))]
    features = learn_features(training.background)  # nothing is held out to weigh a population by
    positive_fit = fit_positives(
        features, training.embeddings, training.grades, training.unlabelled, make_folds(groups, rng)
    )
    grades = np.concatenate([training.grades, np.zeros(len(training.unlabelled), training.grades.dtype)])
    metrics = auc_estimate(positive_fit, rng)
    candidates = {positive_fit.head.kind: metrics["auc_pu"].value} if metrics else {}
    return Fitted(positive_fit.head, metrics, candidates, [Sentence("only_favourites")], embeddings, grades)
