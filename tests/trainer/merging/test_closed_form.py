"""Closed-form merging at Stable Diffusion's width: the constraint holds, ordinary words drift least of all ways."""

import pytest
import torch

from konomi.errors import InvalidArgument
from konomi_trainer.merging.closed_form import average, closed_form, constraint_error, drift, independent, total

D, OUT = 768, 320


def world(seed: int = 0) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Returns base weight, two changes, (S, D) words of concepts and (N, D) ordinary words, correlated as text is."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(D, D, generator=generator, dtype=torch.float64) * (torch.arange(1, D + 1) ** -0.5)
    regular = torch.randn(1000, D, generator=generator, dtype=torch.float64) @ mix
    targets = torch.randn(6, D, generator=generator, dtype=torch.float64) @ mix
    base = torch.randn(OUT, D, generator=generator, dtype=torch.float64) / D**0.5
    deltas = [0.3 * torch.randn(OUT, D, generator=generator, dtype=torch.float64) / D**0.5 for _ in range(2)]
    return base, deltas, targets, regular


def test_the_constraint_holds_and_ordinary_words_drift_least() -> None:
    base, deltas, targets, regular = world()
    values = torch.cat([targets[:3] @ (base + deltas[0]).T, targets[3:] @ (base + deltas[1]).T])
    merged = closed_form(base, targets, values, regular)
    others = [base + average(deltas), base + total(deltas)]
    assert merged.dtype == torch.float64 and constraint_error(merged, targets, values) <= 1e-8
    assert all(constraint_error(other, targets, values) > 0.1 for other in others)
    assert all(drift(merged, base, regular) < 0.5 * drift(other, base, regular) for other in others)
    assert constraint_error(merged.float(), targets, values) <= 1e-6


def test_it_is_the_least_change_among_those_that_hold_the_constraint() -> None:
    base, deltas, targets, regular = world(1)
    values = torch.cat([targets[:3] @ (base + deltas[0]).T, targets[3:] @ (base + deltas[1]).T])
    merged = closed_form(base, targets, values, regular, ridge=1e-9)
    generator = torch.Generator().manual_seed(2)
    free = torch.randn(OUT, D, generator=generator, dtype=torch.float64)
    free -= free @ targets.T @ torch.linalg.solve(targets @ targets.T, targets)  # does not touch the constraint
    for size in (1e-3, -1e-3, 1e-2):
        other = merged + size * free
        assert constraint_error(other, targets, values) < 1e-8
        assert drift(other, base, regular) > drift(merged, base, regular)


def test_nothing_to_change_changes_nothing() -> None:
    base, _, targets, regular = world(3)
    assert torch.allclose(closed_form(base, targets, targets @ base.T, regular), base, atol=1e-12)


def test_too_few_captions_and_words_alike_are_refused() -> None:
    base, _, targets, regular = world(4)
    values = targets @ base.T
    with pytest.raises(InvalidArgument) as caught:
        closed_form(base, targets, values, regular[:700])
    assert caught.value.reason == "TOO_FEW_CAPTIONS" and "768" in caught.value.message and "700" in caught.value.message
    double = torch.cat([targets, targets[:1]])
    with pytest.raises(InvalidArgument) as caught:
        closed_form(base, double, torch.cat([values, values[:1]]), regular)
    assert caught.value.reason == "CONCEPTS_ALIKE"


def test_dependent_rows_are_left_out_in_order() -> None:
    _, _, targets, _ = world(5)
    rows = torch.stack([targets[0], targets[1], 2 * targets[0] - targets[1], targets[2], targets[2]])
    assert independent(rows) == [0, 1, 3]
