"""Compression by singular values: the least rank that keeps the mass, the best of its rank, the same bytes again."""

import pytest
import torch

from konomi_trainer.merging.low_rank import factorise, rank_of_mass


def decaying(out: int, inner: int, power: float) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    left, _ = torch.linalg.qr(torch.randn(out, out, generator=generator, dtype=torch.float64))
    right, _ = torch.linalg.qr(torch.randn(inner, inner, generator=generator, dtype=torch.float64))
    count = min(out, inner)
    values = torch.arange(1, count + 1, dtype=torch.float64) ** -power
    return ((left[:, :count] * values) @ right[:count]).float()


def test_the_rank_is_the_least_that_keeps_the_mass() -> None:
    values = torch.tensor([4.0, 3.0, 2.0, 1.0])
    assert [rank_of_mass(values, mass) for mass in (0.0, 0.4, 0.41, 0.7, 0.9, 0.91, 1.0)] == [1, 1, 2, 2, 3, 4, 4]
    assert rank_of_mass(torch.zeros(3), 0.6) == 1


@pytest.mark.parametrize("mass", [0.3, 0.6, 0.9])
def test_what_is_kept_is_the_best_of_its_rank(mass: float) -> None:
    delta = decaying(40, 30, 1.0)
    up, down = factorise(delta, mass)
    values = torch.linalg.svdvals(delta.double())
    rank = up.shape[1]
    assert down.shape[0] == rank and values[:rank].sum() >= mass * values.sum() > values[: rank - 1].sum()
    lost = (delta - up @ down).norm().item()
    assert lost == pytest.approx(values[rank:].norm().item(), rel=1e-4)


def test_all_of_it_is_the_delta_and_bytes_repeat() -> None:
    delta = decaying(24, 50, 0.5)
    up, down = factorise(delta, 1.0)
    assert (up @ down - delta).abs().max() < 1e-6
    again = factorise(delta.clone(), 1.0)
    assert torch.equal(up, again[0]) and torch.equal(down, again[1])
    flipped = factorise(-delta, 1.0)
    assert torch.allclose(flipped[0] @ flipped[1], -delta, atol=1e-6)


def test_a_change_that_decays_becomes_several_times_smaller() -> None:
    up, down = factorise(decaying(320, 768, 1.0), 0.6)
    assert 4 * (up.numel() + down.numel()) < 320 * 768
