"""Which of the base model's own images a fit is anchored to: all but the odd ones among themselves."""

from types import SimpleNamespace

import numpy as np
import pytest

from konomi_rater.measures.novelty import reference_of
from konomi_rater.storage.embeddings import SELF, MatrixView, view_of
from konomi_rater.usecases.selection import Selecting, SelectionRequest
from konomi_rater.usecases.workspace import LEAST_REFERENCE

FOREIGN = 4
BASE = 60


class Desk:
    """A workspace to which the whole taste says what is typical."""

    def reference(self, taste, view, base_units):
        return reference_of(np.arange(len(view)), view.embeddings)


def taste(base: int, foreign: int, odd: int = 0) -> MatrixView:
    """A base model's images, all unlike; some odd ones among them; and pictures from elsewhere, much alike."""
    rng = np.random.default_rng(3)
    rows = np.concatenate([
        np.eye(16)[0] + 0.2 * rng.standard_normal((base, 16)),
        -3.0 * np.eye(16)[:odd] + 0.2 * rng.standard_normal((odd, 16)),
        np.eye(16)[5] + 0.01 * rng.standard_normal((foreign, 16)),
    ])  # fmt: skip
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    count = base + odd + foreign
    sources = np.array([SELF] * (base + odd) + [FOREIGN] * foreign)
    units = ["base"] * (base + odd) + [""] * foreign
    return view_of([f"{n:064x}" for n in range(count)], rows.astype(np.float32), units, sources)


def ordinary(view: MatrixView, percentile: float = 95.0) -> list[int]:
    request = SelectionRequest("converge", 8, typicality_percentile=percentile)
    task = SimpleNamespace(view=view, request=request, taste=None)
    return Selecting(Desk(), None)._ordinary_base(task).tolist()


def test_pictures_from_elsewhere_have_no_say_in_what_is_odd_among_the_base():
    alone, beside = ordinary(taste(BASE, 0, 2)), ordinary(taste(BASE, 300, 2))
    assert alone == beside and len(alone) >= 0.9 * BASE, "as if they were not there"
    assert not {BASE, BASE + 1} & set(beside), "the odd ones are left out"


@pytest.mark.parametrize("foreign", [1, 300])
def test_among_few_nobody_is_odd(foreign):
    few = LEAST_REFERENCE - 1
    assert ordinary(taste(few - 1, foreign, 1)) == list(range(few))
    assert len(ordinary(taste(few, foreign, 1))) == few, "among more the odd one is"


def test_without_a_gate_all_are_ordinary():
    assert ordinary(taste(BASE, 300, 2), 100.0) == list(range(BASE + 2))
