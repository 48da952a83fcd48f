"""P10, second half: how often an audit certifies a set whose false-discovery proportion is above alpha.

Method: 200 golden sets of 100 images, each chosen by a rater fitted on one simulated person's labels of starter images
(20 to 100 of them, so that good and bad sets occur) and audited by that person's second grading as `CertifySet` does:
30 shown, 2 rejections allowed, alpha 0.2, delta 0.05. The same sets are audited in three nested stages. Beside them the
hardest sets there are: 21 bad images among 100. The value is the share of runs with a wrong certificate.
"""

import argparse
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from konomi_rater.preference.fitting import quick_fit
from konomi_rater.selection.certificate import AuditLimits, draw, judge, shown_for
from tests.benchmarks.rater import persons as rater_persons
from tests.benchmarks.rater.pool import ImagePool, load

SSR = 4
SIZE, STAGES = 100, (30, 60, 100)
IMAGES, LABELLED = 4000, 2000
"""Images a person labels from; the golden sets come from the others."""


def rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns the figures; `arguments.small` audits 20 sets instead of 200."""
    runs = 20 if arguments.small else 200
    pool = load(IMAGES)
    rng = np.random.default_rng(10)
    with threadpool_limits(1):
        sets = [golden(pool, number, rng) for number in range(runs)]
    hardest = [np.arange(SIZE) < int(AuditLimits().alpha * SIZE) + 1 for _ in range(10 * runs)]
    kinds = ((sets, (SIZE,)), (sets, STAGES), (hardest, (SIZE,)))
    whole, nested, worst = (audit(part, sizes, rng) for part, sizes in kinds)
    shares = np.array([bad.mean() for bad in sets])
    good = shares <= AuditLimits().alpha
    said = f"{SIZE} images, {shown_for(AuditLimits(), SIZE)} shown"
    return [
        _row(f"certificates that are wrong: sets chosen by raters ({said})", whole[0].mean(), runs),
        _row("certificates that are wrong: the same sets in three nested stages", nested[0].mean(), runs),
        _row("certificates that are wrong: sets with 21 bad images of 100, the hardest", worst[0].mean(), len(hardest)),
        _row("sets within alpha that are certified", float(np.mean(whole[1][good])), int(good.sum()), None),
        _row("sets above alpha among those audited", 1.0 - good.mean(), runs, None),
    ]


def golden(pool: ImagePool, number: int, rng: np.random.Generator) -> np.ndarray:
    """Returns which of the images a rater would choose its person rejects: (SIZE,) bool, best first."""
    person = rater_persons.person(pool.records, number)
    labelled = rng.permutation(LABELLED)[: int(rng.integers(20, 101))]
    head = quick_fit(pool.embeddings[labelled], person.said[labelled], pool.embeddings[:LABELLED])
    said = head.predict(pool.embeddings[LABELLED:])
    best = np.argsort(-(said.utility - said.std), kind="stable")[:SIZE]
    return np.asarray(person.again[LABELLED:][best] < SSR)


def audit(sets: list[np.ndarray], sizes: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Audits each set and returns which certificates are wrong and which sets are certified: two of (S,) bool."""
    wrong, certified = [], []
    for bad in sets:
        samples = draw(sizes, AuditLimits(), rng)
        outcome = judge(samples, {row: bool(bad[row]) for one in samples for row in one.rows}, AuditLimits().delta)
        certified.append(outcome.certified > 0)
        size = sizes[outcome.certified - 1] if outcome.certified else 0
        wrong.append(bool(size) and bad[:size].mean() > AuditLimits().alpha)
    return np.array(wrong), np.array(certified)


def _row(what: str, value: float, n: int, baseline: float | None = 0.05) -> dict[str, Any]:
    return {"id": "certificate", "what": what, "value": float(value), "baseline": baseline, "unit": "share", "n": n}
