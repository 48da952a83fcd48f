"""What konomi's head is measured against: the same labels, embeddings and test images, by the usual means.

Each takes embeddings (n, D), grades (n,), population scores (n,) of the labelled and (N, D), (N,) of the other images
and answers with a score for the order, P(SSR or better) and a score for UR, each (N,).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import lightgbm
import numpy as np
from scipy.special import ndtr
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from konomi_rater.preference import metrics
from konomi_rater.preference.calibration import Calibration
from konomi_rater.preference.fitting import Fitted, fit
from konomi_rater.preference.population.file import Population
from konomi_rater.preference.training import Training


@dataclass(frozen=True)
class Task:
    """One draw of labels and the images to judge.

    Attributes:
        embeddings: (n, D) of the labelled images.
        grades: (n,) integers 1..5.
        crowd: (n,) population score of the labelled images.
        others: (N, D) of the images to judge.
        others_crowd: (N,) their population score.
        background: (M, D) unlabelled images of the taste.
        population: the head behind the population score.
        drawn: (n,) bool, labelled at random.
    """

    embeddings: np.ndarray
    grades: np.ndarray
    crowd: np.ndarray
    others: np.ndarray
    others_crowd: np.ndarray
    background: np.ndarray
    population: Population | None
    drawn: np.ndarray


@dataclass(frozen=True)
class Answer:
    """What a method says of N images: an order, P(SSR or better), orders for UR and for SSR or better, a grade.

    Without an order for SSR or better it is that of its probability.
    """

    order: np.ndarray
    ssr: np.ndarray
    ur: np.ndarray
    grade: np.ndarray
    top: np.ndarray | None = None


Method = Callable[[Task], Answer]


def population(task: Task) -> Answer:
    """What people in general like; a logistic regression on that one score gives the probability."""
    positive = task.grades >= 4
    rate = np.full(len(task.others), positive.mean())
    if positive.any() and not positive.all():
        rate = LogisticRegression().fit(task.crowd[:, None], positive).predict_proba(task.others_crowd[:, None])[:, 1]
    slope, level = np.polyfit(task.crowd, task.grades, 1)
    return Answer(task.others_crowd, rate, task.others_crowd, level + slope * task.others_crowd)


def neighbours(task: Task) -> Answer:
    """The mean grade of the ten nearest labelled images by cosine."""
    count = min(10, len(task.grades))
    near = np.argpartition(-(task.others @ task.embeddings.T), count - 1, axis=1)[:, :count]
    grades = task.grades[near]
    mean = grades.mean(axis=1)
    return Answer(mean, (grades >= 4).mean(axis=1), (grades == 5).mean(axis=1) + 1e-3 * mean, mean)


def logistic(task: Task) -> Answer:
    """One logistic regression, SSR or better against the rest, on standardised embeddings."""
    positive = task.grades >= 4
    if positive.all() or not positive.any():
        constant = np.full(len(task.others), positive.mean())
        return Answer(constant, constant, constant, 1 + 3 * constant)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)).fit(task.embeddings, positive)
    order, rate = model.decision_function(task.others), model.predict_proba(task.others)[:, 1]
    return Answer(order, rate, order, 1 + 3 * rate)


def ridge(task: Task) -> Answer:
    """Ridge regression of the grade on standardised embeddings, its penalty by leave-one-out."""
    return _ridge(task, task.embeddings)


def fair_ridge(task: Task) -> Answer:
    """The same, standardised on all images of the taste, which konomi's features see too, and not on the labelled."""
    return _ridge(task, task.background)


def _ridge(task: Task, known: np.ndarray) -> Answer:
    scaler, model = StandardScaler().fit(known), RidgeCV(np.logspace(0, 5, 16))
    model.fit(scaler.transform(task.embeddings), task.grades)
    grade = model.predict(scaler.transform(task.others))
    spread = np.sqrt(max(-model.best_score_, 0.05))
    return Answer(grade, ndtr((grade - 3.5) / spread), grade, grade)


def trees(task: Task) -> Answer:
    """LightGBM with its defaults: a regressor for the order, a classifier for the probability."""
    options = {"n_jobs": 1, "verbose": -1}
    grade = lightgbm.LGBMRegressor(**options).fit(task.embeddings, task.grades).predict(task.others)
    positive = task.grades >= 4
    rate = np.full(len(task.others), positive.mean())
    if positive.any() and not positive.all():
        rate = lightgbm.LGBMClassifier(**options).fit(task.embeddings, positive).predict_proba(task.others)[:, 1]
    return Answer(np.asarray(grade), rate, np.asarray(grade), np.asarray(grade))


def konomi(task: Task) -> Answer:
    """Konomi's own fit, nothing known of other people."""
    return answer_of(fitted(task, None), task)


def konomi_prior(task: Task) -> Answer:
    """Konomi's own fit with the population score as its prior."""
    return answer_of(fitted(task, task.population), task)


def fitted(task: Task, prior: Population | None, calibration: Calibration | None = None) -> Fitted:
    """Returns konomi's fit of a task, exactly as a version is fitted."""
    groups = [str(row) for row in range(len(task.grades))]
    priors = () if prior is None else (prior,)
    training = Training(task.embeddings, task.grades, groups, task.drawn, task.background, populations=priors)
    *_, found = fit(training, 0)
    assert isinstance(found, Fitted)
    return found


def answer_of(found: Fitted, task: Task) -> Answer:
    """Returns what a fitted head says of the images to judge; its best are those of the highest expected grade.

    By P(UR), what is little known would stand before what is likely liked while labels are few; lists, exports and
    nights are ordered by the expected grade or its lower bound.
    """
    said = found.head.predict(task.others)
    return Answer(said.utility, said.probabilities[:, 3:].sum(axis=1), said.utility, said.utility, said.utility)


METHODS: Mapping[str, Method] = {
    "konomi": konomi,
    "konomi + population": konomi_prior,
    "population mean": population,
    "kNN-10": neighbours,
    "logistic": logistic,
    "ridge": ridge,
    "fair ridge": fair_ridge,
    "LightGBM default": trees,
}
OWN = ("konomi", "konomi + population")


def measure(answer: Answer, grades: np.ndarray, best: int = 50) -> dict[str, float]:
    """Measures an answer against the grades (N,) the person gives; ties in a probability are split by the order."""
    nudge = 1e-9 * answer.order
    ssr = (answer.ssr if answer.top is None else answer.top) + nudge
    top = grades[np.argsort(-ssr, kind="stable")[:best]] >= 4
    return {
        "srcc": metrics.spearman(grades, answer.order),
        "ap_ur": metrics.average_precision(grades == 5, answer.ur + nudge),
        "ap_ssr": metrics.average_precision(grades >= 4, ssr),
        "precision": float(top.mean()),
        "qwk": metrics.quadratic_kappa(grades, answer.grade.round().astype(int).clip(1, 5)),
        "ece": metrics.calibration_error(grades >= 4, answer.ssr),
        "brier": metrics.brier(grades >= 4, answer.ssr),
    }
