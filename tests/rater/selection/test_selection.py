"""Selection accounts for every candidate and keeps within its limits, whatever comes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2 as pb
from konomi_rater.selection.selection import (
    POLICIES,
    SHORT,
    Candidates,
    RejectionReason,
    SelectionLimits,
    admit,
    caps,
    draw_base,
    select,
)
from konomi_rater.usecases import selection
from tests.rater.conftest import grades_of

FREE = np.array([99])


def candidates_of(seed: int, count: int, cells: int) -> Candidates:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 4)).astype(np.float32)
    rows[: count // 3] = rows[count // 3 : 2 * (count // 3)] + 0.01  # near-duplicates
    rows /= np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-6)
    return Candidates(
        embeddings=rows,
        lower_bounds=rng.uniform(1, 5, count),
        grades=rng.choice(6, count, p=[0.7, 0.06, 0.06, 0.06, 0.06, 0.06]),
        sources=rng.choice([1, 2, 3, 4], count),
        typical=rng.random(count) < 0.8,
        unknown=rng.random(count) < 0.1,
        cells=rng.integers(0, cells, count),
        prompts=rng.integers(0, 3, count),
        copies=rng.random(count) < 0.1,
        certified=rng.random(count) < 0.2,
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(0, 60),
    cells=st.integers(1, 6),
    wanted=st.integers(1, 40),
    quota=st.sampled_from([0.0, 0.5, 1.0, 2.0, 10.0]),
    cut=st.sampled_from([-1.0, 0.5, 0.97, 1.0]),
    policy=st.sampled_from(sorted(POLICIES)),
    prompt_quota=st.sampled_from([0.0, 1.0, 2.0]),
)
def test_every_candidate_ends_in_exactly_one_place(seed, count, cells, wanted, quota, cut, policy, prompt_quota):
    candidates = candidates_of(seed, count, cells)
    cell_caps = caps(np.full(cells, 1 / cells), wanted, quota)
    prompt_caps = caps(np.full(3, 1 / 3), wanted, prompt_quota)
    choice = select(POLICIES[policy], candidates, SelectionLimits(wanted, cut, cell_caps, prompt_caps))
    assert sorted([*choice.selected, *choice.rejected]) == list(range(count))
    assert len(choice.selected) <= wanted
    for row in choice.selected:
        grade = candidates.grades[row]
        assert grade == 0 or grade >= POLICIES[policy].least_grade
        assert candidates.typical[row] or grade > 0 or (policy == "golden" and candidates.certified[row])
        assert not candidates.copies[row] or grade > 0
        assert int(candidates.sources[row]) in POLICIES[policy].sources
    kept = candidates.embeddings[choice.selected]
    similarities = kept @ kept.T
    np.fill_diagonal(similarities, -1)
    assert not len(kept) or similarities.max() <= cut + 1e-6
    assert np.all(np.bincount(candidates.cells[choice.selected], minlength=cells) <= cell_caps)
    assert np.all(np.bincount(candidates.prompts[choice.selected], minlength=3) <= prompt_caps)
    assert set(choice.duplicate_of) == {r for r, why in choice.rejected.items() if why is RejectionReason.DUPLICATE}
    assert set(choice.duplicate_of.values()) <= set(choice.selected)


def plain(count: int, **changes: np.ndarray) -> Candidates:
    columns = {
        "embeddings": np.eye(count, dtype=np.float32),
        "lower_bounds": np.arange(count, dtype=float),
        "grades": np.zeros(count, int),
        "sources": np.ones(count, int),
        "typical": np.ones(count, bool),
        "unknown": np.zeros(count, bool),
        "cells": np.zeros(count, int),
        "prompts": np.zeros(count, int),
        "copies": np.zeros(count, bool),
        "certified": np.zeros(count, bool),
    }
    return Candidates(**(columns | changes))


def test_best_lower_bounds_are_kept_and_the_rest_is_said_to_be_too_low():
    choice = select(POLICIES["converge"], plain(5), SelectionLimits(2, 0.97, np.array([5]), FREE))
    assert choice.selected == [4, 3]
    assert set(choice.rejected.values()) == {RejectionReason.LOWER_BOUND}


def test_the_owners_grade_beats_the_rater():
    graded = plain(5, grades=np.array([5, 4, 0, 3, 1]), typical=np.array([False, True, True, True, True]))
    choice = select(POLICIES["converge"], graded, SelectionLimits(3, 0.97, np.array([5]), FREE))
    assert choice.selected == [0, 1, 2]
    assert choice.rejected == {3: RejectionReason.GRADE, 4: RejectionReason.GRADE}


def test_golden_takes_nothing_but_graded_ur():
    choice = select(
        POLICIES["golden"], plain(4, grades=np.array([5, 4, 0, 5])), SelectionLimits(9, 0.97, np.array([9]), FREE)
    )
    assert sorted(choice.selected) == [0, 3]
    assert set(choice.rejected.values()) == {RejectionReason.GRADE}


def test_a_full_cell_sends_the_choice_elsewhere():
    cells = np.array([1, 0, 0, 0])
    choice = select(POLICIES["converge"], plain(4, cells=cells), SelectionLimits(3, 0.97, np.array([1, 3]), FREE))
    assert choice.selected == [3, 0]
    assert choice.rejected == {2: RejectionReason.QUOTA, 1: RejectionReason.QUOTA}


@pytest.mark.parametrize(
    ("selected", "share", "drawn"),
    [
        (30, 0.25, 10),
        (10, 0.0, 0),
        (10, 0.5, 10),
        (100, 0.9, 50),
        (1, 0.25, 1),
        (4, 0.25, 2),
        (7, 0.25, 3),
        (70, 0.25, 23),
    ],
)
def test_base_share_is_of_the_whole_set(selected, share, drawn):
    picks = draw_base(np.arange(50), selected, share, np.random.default_rng(0))
    assert len(picks) == drawn == len(set(picks.tolist()))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_no_set_however_small_is_halted_for_the_rounding_of_its_base_images(share):
    for selected in range(1, 200):
        drawn = len(draw_base(np.arange(2000), selected, share, np.random.default_rng(0)))
        assert drawn / (drawn + selected) >= share - SHORT


def test_no_prompt_takes_more_than_its_quota_however_good_its_images_are():
    prompts = np.array([0, 0, 1, 1, 1, 1])
    prompt_caps = caps(np.array([2 / 6, 4 / 6]), 3, 1.0)
    choice = select(
        POLICIES["converge"], plain(6, prompts=prompts), SelectionLimits(3, 0.97, np.array([9]), prompt_caps)
    )
    assert choice.selected == [5, 4, 1]
    assert choice.rejected[3] is RejectionReason.QUOTA


def test_what_the_rater_does_not_know_is_never_selected_unless_the_owner_graded_it():
    unknown = np.array([True, False, True])
    choice = select(
        POLICIES["converge"],
        plain(3, unknown=unknown, grades=np.array([5, 0, 0])),
        SelectionLimits(3, 0.97, np.array([9]), FREE),
    )
    assert choice.selected == [0, 1]
    assert choice.rejected == {2: RejectionReason.UNKNOWN}


def test_evidence_alone_admits_and_every_other_candidate_has_its_reason():
    candidates = plain(6, grades=np.array([0, 5, 0, 0, 0, 0]), sources=np.array([1, 1, 3, 1, 1, 1]))
    choice = admit(POLICIES["conformal"], candidates, [5, 3, 4], 2)
    assert choice.selected == [5, 3]
    assert choice.rejected == {
        0: RejectionReason.EVIDENCE,
        1: RejectionReason.GRADE,
        2: RejectionReason.SOURCE,
        4: RejectionReason.LOWER_BOUND,
    }


def test_evidence_needs_500_labels_and_says_so(rater, fitted):
    found = rater.call("SelectImages", pb.SelectImagesRequest(taste=fitted.taste, policy="conformal", count=10))
    assert not found.selected and found.considered == 120 == len(found.rejections)
    assert "needs 500 labels and there are 40" in found.explanation
    reasons = [rejection.reason for rejection in found.rejections]
    assert reasons.count(pb.REJECTION_REASON_GRADE) == 40 and reasons.count(pb.REJECTION_REASON_EVIDENCE) == 80
    for rate in (0.0, 1.0):
        request = pb.SelectImagesRequest(taste=fitted.taste, policy="conformal", count=9, false_discovery_rate=rate)
        with pytest.raises(InvalidArgument) as failure:
            rater.call("SelectImages", request)
        assert failure.value.reason == "RATE_INVALID" and "0.2 is usual" in failure.value.message


def test_evidence_selects_what_random_labels_show_to_be_good(rater, fitted, monkeypatch):
    monkeypatch.setattr(selection, "LEAST_LABELS", 80)
    rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:80]), reason=pb.SUGGESTION_REASON_RANDOM)
    request = pb.SelectImagesRequest(
        taste=fitted.taste, policy="conformal", count=40, base_share=0, false_discovery_rate=0.6
    )
    found = rater.call("SelectImages", request)
    chosen = [member.digest for member in found.selected]
    assert 0 < len(chosen) < 40 and set(chosen) <= set(fitted.digests[80:])
    assert "At most 60 % of these" in found.explanation and "40 random labels" in found.explanation
    true = grades_of(fitted, fitted.digests)
    assert sum(true[d] >= 4 for d in chosen) / len(chosen) > sum(g >= 4 for g in true.values()) / 120
    strict = rater.call(
        "SelectImages",
        pb.SelectImagesRequest(
            taste=fitted.taste, policy="conformal", count=40, base_share=0, false_discovery_rate=0.03
        ),
    )
    assert not strict.selected and "would have to qualify together" in strict.explanation


def test_golden_takes_ungraded_members_of_a_certified_set_after_every_graded_one_and_no_other_policy_does():
    graded = plain(5, grades=np.array([5, 0, 0, 4, 1]), certified=np.array([False, True, False, True, True]))
    limits = SelectionLimits(5, 0.97, np.array([5]), FREE)
    choice = select(POLICIES["golden"], graded, limits)
    assert choice.selected == [0, 1]
    assert set(choice.rejected.values()) == {RejectionReason.GRADE}
    strange = plain(2, typical=np.zeros(2, bool), certified=np.array([True, False]))
    assert select(POLICIES["golden"], strange, limits).selected == [0]
    assert select(POLICIES["converge"], strange, limits).selected == []


def test_a_near_copy_is_rejected_unless_its_owner_graded_it():
    copies = plain(3, grades=np.array([0, 5, 0]), copies=np.array([True, True, False]))
    choice = select(POLICIES["converge"], copies, SelectionLimits(3, 0.97, np.array([5]), FREE))
    assert choice.selected == [1, 2]
    assert choice.rejected == {0: RejectionReason.NEAR_COPY}
