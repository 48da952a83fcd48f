"""Which model made an image is evidence where several made the labelled ones, and never where models are compared."""

from unittest.mock import patch

import numpy as np
import pytest

from konomi_rater.preference import fitting, gaussian_process
from konomi_rater.preference.batch_prediction import rescore
from konomi_rater.preference.fitting import Fitted
from konomi_rater.preference.metrics import spearman
from konomi_rater.preference.provenance.origins import Origins, learn_origins
from konomi_rater.preference.provenance.parameters import Provenance
from konomi_rater.preference.training import Training
from konomi_rater.storage.files.head_file import from_bytes, to_bytes

LIKED, OTHER = "night/unit-2", "night/unit-1"
ONE_MODEL = [Provenance("", "base", {"guidance_scale": scale}) for scale in (2.0, 4.0, 6.0)]


def world(seed: int, count: int = 400) -> tuple[np.ndarray, list[Provenance], np.ndarray, np.ndarray]:
    """Embeddings that show a taste, and two models by turns one of which is worth more."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 12)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    liked = rng.random(count) < 0.5
    made = [Provenance("", LIKED if one else OTHER, {"steps": float(rng.integers(20, 30))}) for one in liked]
    wanted = 2 * rows[:, 0] + 1.2 * liked
    return rows, made, wanted, 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), wanted)


def fitted(rows, provenances, grades, count: int) -> Fitted:
    groups = [str(row) for row in range(count)]
    training = Training(
        rows[:count], grades[:count], groups, np.ones(count, bool), rows, provenances=provenances[:count]
    )
    return list(fitting.fit(training, 0))[-1]


def stored(found: Fitted) -> bytes:
    return to_bytes(found.head, found.embeddings, found.grades, "starter")


def test_a_model_that_is_liked_is_learnt_from_few_labels():
    rows, made, wanted, grades = world(0)
    head = fitted(rows, made, grades, 40).head
    assert head.features.origins.models == (OTHER, LIKED)
    with_, without = head.predict(rows[40:], made[40:]), head.predict(rows[40:])
    assert spearman(wanted[40:], with_.utility) > spearman(wanted[40:], without.utility) + 0.05


def test_two_units_with_the_same_pixels_are_equal_where_models_are_compared():
    rows, made, _, grades = world(0)
    for count in (40, 120):  # 120: with trees on what the process left over
        head = fitted(rows, made, grades, count).head
        pixels, liked, other = rows[300:320], [Provenance("", LIKED)] * 20, [Provenance("", OTHER)] * 20
        assert (head.predict(pixels, liked).utility > head.predict(pixels, other).utility).all(), (
            "else it shows nothing"
        )
        bare = head.without_provenance()
        for name in ("utility", "std", "probabilities"):
            one, two, plain = (getattr(bare.predict(pixels, how), name) for how in (liked, other, None))
            assert np.array_equal(one, two) and np.array_equal(one, plain)
            assert np.array_equal(one, getattr(head.predict(pixels), name)), "that is what no provenances mean"


def test_an_image_of_which_nothing_is_known_gets_no_effect():
    rows, made, _, grades = world(0)
    head = fitted(rows, made, grades, 40).head
    alone = head.predict(rows).utility
    strangers = [None, Provenance(), Provenance("", "elsewhere:a model nobody graded")]
    for stranger in strangers:
        assert np.array_equal(head.predict(rows, [stranger] * len(rows)).utility, alone)


@pytest.mark.slow
@pytest.mark.parametrize("made", [[], [None], ONE_MODEL, [Provenance()]], ids=["none", "unknown", "one model", "empty"])
@pytest.mark.parametrize("count", [20, 60])
def test_without_several_models_a_fit_is_bit_equal_to_one_without_the_part(made, count):
    rows, _, _, grades = world(1)
    known = [made[row % len(made)] for row in range(len(rows))] if made and made[0] is not None else []
    ours = fitted(rows, known, grades, count)
    with patch.object(fitting, "learn_origins", lambda _: Origins()):
        without = fitted(rows, known, grades, count)
    assert stored(ours) == stored(without)
    assert b"konomi.head/2" in stored(ours) and b"origin" not in stored(ours), "as every konomi before reads it"
    assert ours.metrics == without.metrics


@pytest.mark.parametrize("count", [40, 120])
def test_a_stored_head_predicts_the_same_bits(count):
    rows, made, _, grades = world(2)
    found = fitted(rows, made, grades, count)
    data = stored(found)
    assert b"konomi.head/4" in data
    read = from_bytes(data).head
    mixed = [None if row % 3 else one for row, one in enumerate(made)]
    for how in (made, mixed, None):
        one, other = read.predict(rows, how), found.head.predict(rows, how)
        assert np.array_equal(one.probabilities, other.probabilities) and np.array_equal(one.std, other.std)


def test_a_whole_library_is_scored_alike():
    rows, made, _, grades = world(3)
    head = fitted(rows, made, grades, 40).head
    exact, fast = head.predict(rows, made), rescore(head, rows, made, 1)
    assert np.abs(exact.utility - fast.utility).max() < 2e-3


def test_columns_are_models_of_some_images_and_numbers_that_differ():
    made = [Provenance("", unit, {"steps": steps, "cfg": 7.0}) for unit in "abc" for steps in (10.0, 20.0, 30.0)]
    origins = learn_origins([*made, None, Provenance("", "seen once")])
    assert (origins.models, origins.numbers) == (("a", "b", "c"), ("steps",))
    table = origins.table([*made, None], 10)
    assert table[:9, :3].sum(axis=0).tolist() == [3, 3, 3] and not table[9].any()
    assert table[:9, 3].mean() == pytest.approx(0) and table[:9, 3].std() == pytest.approx(1)


@pytest.mark.parametrize("seed", [2, 3])
def test_a_model_nobody_cares_for_is_given_next_to_nothing_while_labels_are_few(seed):
    """A person who does not care which model made an image: 20 labels alone would say that they do, in these worlds."""
    rows, made, _, _ = world(seed)
    wanted = 2 * rows[:, 0]
    grades = 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), wanted)
    with patch.object(gaussian_process, "CARELESS", 0.0):
        believed = fitted(rows, made, grades, 20).head
    ours = fitted(rows, made, grades, 20).head
    kept = ours.process.kernel.origin if len(ours.features.origins) else 0.0
    assert believed.process.kernel.origin > 0.05, "else it shows nothing"
    assert kept < 0.3 * believed.process.kernel.origin
