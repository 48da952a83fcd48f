"""Trees learn from how images were made what pixels do not show, and leave strangers alone."""

from unittest.mock import patch

import lightgbm
import numpy as np
import pytest

from konomi_rater.preference.fitting import fit
from konomi_rater.preference.metrics import spearman
from konomi_rater.preference.provenance import trees
from konomi_rater.preference.provenance.parameters import Provenance, learn_columns, terms_of
from konomi_rater.preference.provenance.trees import stack
from konomi_rater.preference.training import Training
from konomi_rater.storage.files.head_file import from_bytes, to_bytes, trees_of


def world(seed: int, count: int = 900) -> tuple[np.ndarray, list[Provenance], np.ndarray, np.ndarray]:
    """Embeddings that show half of a taste; the other half is a band of the guidance scale and one word."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    guidance = rng.uniform(1, 9, count)
    ink = rng.random(count) < 0.4
    provenances = [
        Provenance(f"{'ink' if inked else 'oil'} portrait, blue hair", "base", {"guidance_scale": float(scale)})
        for inked, scale in zip(ink, guidance, strict=True)
    ]
    wanted = 2 * rows[:, 0] + 1.2 * ((guidance > 3) & (guidance < 5)) + 0.8 * ink
    return rows, provenances, wanted, 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), wanted)


def fitted(rows, provenances, grades, count: int, comparisons=()):
    groups = [str(row) for row in range(count)]
    training = Training(
        rows[:count],
        grades[:count],
        groups,
        np.ones(count, bool),
        rows,
        provenances=provenances[:count],
        comparisons=comparisons,
    )
    return list(fit(training, 0))[-1]


def test_parameters_are_learnt_and_win_the_cross_validation():
    rows, provenances, wanted, grades = world(0)
    found = fitted(rows, provenances, grades, 200)
    assert found.head.kind == "stack"
    assert found.candidates["stack"] > found.candidates["gp"] + 0.02
    with_, without = found.head.predict(rows[200:], provenances[200:]), found.head.predict(rows[200:])
    assert spearman(wanted[200:], with_.utility) > spearman(wanted[200:], without.utility) + 0.1


@pytest.mark.slow
def test_a_stored_stack_predicts_the_same_bits():
    rows, provenances, _, grades = world(1)
    found = fitted(rows, provenances, grades, 200)
    again = fitted(rows, provenances, grades, 200)
    data = to_bytes(found.head, found.embeddings, found.grades, "starter")
    assert data == to_bytes(again.head, again.embeddings, again.grades, "starter")
    assert b"tree_sizes=" in data  # LightGBM's own text, nothing pickled
    head = from_bytes(data).head
    mixed = [None if row % 3 else one for row, one in enumerate(provenances)]
    assert np.array_equal(head.predict(rows, mixed).utility, found.head.predict(rows, mixed).utility)
    strangers = np.array([one is None for one in mixed])
    assert np.array_equal(head.predict(rows, mixed).utility[strangers], head.predict(rows).utility[strangers])


def test_few_labels_or_images_made_alike_grow_no_trees():
    rows, provenances, _, grades = world(2)
    assert "stack" not in fitted(rows, provenances, grades, 29).candidates
    assert (
        "stack"
        not in fitted(rows, [Provenance("a cat", "base", {"guidance_scale": 4.0})] * 900, grades, 120).candidates
    )


def test_parameters_that_mean_nothing_are_not_taken():
    rows, provenances, wanted, _ = world(3)
    wanted = rows[:, 0] + 0.1 * rows[:, 1]
    grades = 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), wanted)
    shuffled = [provenances[i] for i in np.random.default_rng(0).permutation(900)]
    assert fitted(rows, shuffled, grades, 150).head.kind != "stack"


def test_the_table_has_a_column_a_word_a_phrase_and_a_parameter():
    provenances = [
        Provenance("Ink portrait, blue hair" if i % 2 else "portrait", "u" if i < 10 else "", {"cfg": i})
        for i in range(20)
    ]
    columns = learn_columns(provenances)
    assert columns.parameters == ("cfg",)
    assert {"ink", "blue", "blue hair", "ink portrait"} <= set(columns.words)
    assert "portrait" not in columns.words  # in every prompt: nothing to split on
    table = columns.table([provenances[1], None, Provenance("blue hair")])
    assert table[0, columns.parameters.index("cfg")] == 1
    assert np.isnan(table[1]).all()
    assert np.isnan(table[2, 0])
    assert table[2, 1 + columns.words.index("blue hair")] == 1
    assert terms_of("A cat, A CAT") == ["a", "cat", "a cat"]


def test_a_head_that_knows_nothing_adds_no_noise_to_what_parameters_say():
    rows, provenances, _, _ = world(4)
    guidance = np.array([one.parameters["guidance_scale"] for one in provenances])
    wanted = -np.abs(guidance - 4)  # pixels show nothing of it
    grades = 1 + np.searchsorted(np.quantile(wanted, [0.3, 0.6, 0.82, 0.94]), wanted)
    found = fitted(rows, provenances, grades, 100)
    said = found.head.predict(rows[100:], provenances[100:])
    assert found.head.kind == "stack" and found.candidates["gp"] < 0.3
    assert spearman(wanted[100:], said.utility) > 0.9
    brier = np.mean((said.probabilities[:, 3:].sum(axis=1) - (grades[100:] >= 4)) ** 2)
    assert brier < 0.75 * np.var(grades[100:] >= 4)


def test_few_labels_that_a_good_head_orders_badly_by_chance_do_not_take_its_weight_away():
    """30 labels, a head that says little and by chance the contrary, parameters that mean nothing."""
    _, provenances, _, _ = world(5, 30)
    targets, unlucky = np.random.default_rng(0).standard_normal((2, 30))
    unlucky = 0.3 * (unlucky - (unlucky @ targets / (targets @ targets) + 0.05) * targets)
    folds = np.array_split(np.random.default_rng(1).permutation(30), 5)
    with patch.object(trees, "PULL", 0.0):
        assert stack(unlucky, targets, provenances, folds, 0).trees.weights[0] == 0, "else it shows nothing"
    assert stack(unlucky, targets, provenances, folds, 0).trees.weights[0] > 0.3


def test_what_held_out_labels_say_of_the_mean_of_the_others_is_no_knowledge():
    """A label that is high lowers the mean of the others: trees that know nothing would seem to know the contrary."""
    _, provenances, _, _ = world(6, 40)
    targets = np.random.default_rng(0).standard_normal(40)
    folds = [np.array([row]) for row in range(40)]
    of_mean, of_nothing = lambda rows, known, seed: _Constant(known.mean()), lambda rows, known, seed: _Constant(0.0)
    with patch.object(trees, "_forest", of_mean), patch.object(trees, "_rest", of_nothing):
        found = stack(np.zeros(40), targets - targets.mean() + 0.3, provenances, folds, 0)
    assert np.ptp(found.held_out) < 1e-9


class _Constant:
    """Trees that say the same of every image."""

    def __init__(self, value: float) -> None:
        self._value = value

    def predict(self, rows: np.ndarray, num_threads: int) -> np.ndarray:
        return np.full(len(rows), self._value)

    def model_to_string(self) -> str:
        return ""


def test_trees_of_an_earlier_version_are_read_and_added_as_they_were():
    _, provenances, _, _ = world(0)
    columns, latent = learn_columns(provenances), np.linspace(-1, 1, 900)
    data = lightgbm.Dataset(np.column_stack([columns.table(provenances), latent]), latent, params={"verbose": -1})
    booster = lightgbm.train({"verbose": -1, "num_threads": 1}, data, 5)
    columns_of = {name: list(getattr(columns, name)) for name in ("parameters", "words", "units")}
    earlier = trees_of({"columns": columns_of, "weight": 0.5, "text": booster.model_to_string()})
    mean, variance = earlier(latent, np.ones(900), [*provenances[:600], *[None] * 300])
    added = 0.5 * booster.predict(np.column_stack([columns.table(provenances), latent]), num_threads=1)
    assert np.allclose(mean, latent + np.where(np.arange(900) < 600, added, 0)) and (variance == 1).all()
