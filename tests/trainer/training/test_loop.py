"""The loop on a toy problem: resume to the bit, skipped steps, roll-back, divergence, short memory, stop."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from konomi.errors import ResourceExhausted
from konomi_trainer.training import loop
from konomi_trainer.training.checkpoints import Checkpoints
from konomi_trainer.training.loop import Diverged, LoopSettings, Progress, Stopped, Surroundings, rate, train

SETTINGS = LoopSettings(
    steps=20, rows=8, micro=8, learning_rate=0.05, max_grad_norm=1.0, ema_decay=0.9, checkpoint_steps=4
)


def start() -> dict[str, torch.nn.Parameter]:
    return {name: torch.nn.Parameter(torch.full((3,), value)) for name, value in (("a", 1.0), ("b", -1.0))}


class Toy:
    """Linear regression on rows drawn from the step; `broken` steps have no finite loss."""

    def __init__(
        self, weights: dict[str, torch.nn.Parameter], broken: Callable[[int], bool] = lambda step: False
    ) -> None:
        self.weights, self.broken, self.fits = weights, broken, 10**9
        self.sizes: list[int] = []

    def __call__(self, step: int, rows: range) -> torch.Tensor:
        if len(rows) > self.fits:
            raise torch.OutOfMemoryError
        self.sizes.append(len(rows))
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(step))[rows.start : rows.stop]
        error = (x @ self.weights["a"] - x @ self.weights["b"] - x.sum(1)).square().sum() / 8
        return error * math.nan if self.broken(step) else error


def run(
    folder: Path,
    settings: LoopSettings = SETTINGS,
    toy: Callable[[dict[str, torch.nn.Parameter]], Toy] = Toy,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[dict[str, torch.Tensor], Progress]:
    weights = start()
    return train(weights, toy(weights), settings, Checkpoints(folder), Surroundings(lambda progress: None, stopping))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_stopped_anywhere_resumes_to_the_same_bits(tmp_path: Path) -> None:
    whole, progress = run(tmp_path / "whole")
    assert progress.step == 20 and progress.losses[-1] < progress.losses[0] / 4  # type: ignore[operator]
    for stop in range(1, 20, 3):
        left = iter(range(stop))
        with pytest.raises(Stopped):
            run(tmp_path / str(stop), stopping=lambda left=left: next(left, None) is None)
        resumed, again = run(tmp_path / str(stop))
        assert same(whole, resumed) and again.losses == progress.losses, stop


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    for suffix in ("safetensors", "json"):
        folder = tmp_path / suffix
        with pytest.raises(Stopped):
            left = iter(range(10))
            run(folder, stopping=lambda left=left: next(left, None) is None)
        newest = max(folder.glob(f"*.{suffix}"))
        data = bytearray(newest.read_bytes())
        data[len(data) // 2] ^= 4
        newest.write_bytes(data)
        found = Checkpoints(folder).newest()
        assert found is not None and found.step == 4
        assert same(whole, run(folder)[0])


def test_a_step_without_a_number_is_skipped_and_counted(tmp_path: Path) -> None:
    weights, progress = run(tmp_path, toy=lambda w: Toy(w, lambda step: step in (5, 6, 12)))
    assert progress.skipped == 3 and progress.rollbacks == 0 and progress.step == 20
    assert progress.losses[5] is None and all(bool(torch.isfinite(w).all()) for w in weights.values())


def test_three_in_a_row_go_back_to_the_last_good_checkpoint_at_half_the_rate(tmp_path: Path) -> None:
    passes: list[int] = []

    def broken_once(step: int) -> bool:
        passes.append(step)
        return step in (9, 10, 11) and passes.count(step) == 1

    _, progress = run(tmp_path, toy=lambda w: Toy(w, broken_once))
    assert progress.rollbacks == 1 and progress.skipped == 3 and progress.step == 20
    assert passes[:15] == [*range(12), 8, 9, 10]


def test_a_second_time_it_has_diverged(tmp_path: Path) -> None:
    with pytest.raises(Diverged) as caught:
        run(tmp_path, toy=lambda w: Toy(w, lambda step: step >= 9))
    assert caught.value.reason == "DIVERGED"


def test_short_memory_halves_the_part_and_keeps_the_batch(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    toys: list[Toy] = []

    def small(weights: dict[str, torch.nn.Parameter]) -> Toy:
        toys.append(Toy(weights))
        toys[-1].fits = 2
        return toys[-1]

    parts, progress = run(tmp_path / "parts", toy=small)
    assert progress.micro == 2 and set(toys[0].sizes) == {2} and len(toys[0].sizes) == 80
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)
    with pytest.raises(
        ResourceExhausted, match=r"one image of this base: [\d.]+ GiB of the computer's [\d.]+ GiB are free"
    ):
        run(tmp_path / "none", toy=lambda w: _nothing_fits(w))


def _nothing_fits(weights: dict[str, torch.nn.Parameter]) -> Toy:
    toy = Toy(weights)
    toy.fits = 0
    return toy


def test_where_one_row_does_not_fit_activations_are_made_twice_and_a_resumed_run_begins_so(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole", replace(SETTINGS, micro=1))
    turned: list[str] = []

    def surroundings(toy: Toy, name: str, stopping: Callable[[], bool]) -> Surroundings:
        def checkpoint() -> bool:
            turned.append(name)
            toy.fits = 1
            return True

        return Surroundings(lambda progress: None, stopping, checkpoint_activations=checkpoint)

    for name, stop in (("first", 9), ("second", 99)):
        weights = start()
        toy, left = _nothing_fits(weights), iter(range(stop))
        settings = surroundings(toy, name, lambda left=left: next(left, None) is None)  # type: ignore[misc]
        try:
            result, progress = train(weights, toy, SETTINGS, Checkpoints(tmp_path / "parts"), settings)
        except Stopped:
            continue
    assert turned == ["first", "second"] and progress.checkpointing and progress.micro == 1
    assert same(whole, result)
    with pytest.raises(ResourceExhausted):
        weights = start()
        nothing = Surroundings(lambda progress: None, lambda: False, checkpoint_activations=lambda: True)
        train(weights, _nothing_fits(weights), SETTINGS, Checkpoints(tmp_path / "none"), nothing)


def test_accumulated_parts_are_the_whole_batch(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    parts, _ = run(tmp_path / "parts", replace(SETTINGS, micro=4))
    assert all(torch.allclose(whole[name], parts[name], atol=1e-5) for name in whole)


def test_the_rate_rises_stays_and_falls() -> None:
    settings = replace(SETTINGS, steps=100)
    rates = [rate(step, settings) for step in range(100)]
    assert rates[0] == 0.1 and rates[9:80] == [1.0] * 71 and 0.1 < rates[-1] < 0.2
    assert rate(0, replace(SETTINGS, steps=1)) == 1.0


HALF = replace(SETTINGS, loss_scale=65536.0)


class Half(Toy):
    """The same through an fp16 activation whose gradient grows, so that it overflows at the scale a run begins with."""

    peak = 40.0

    def __call__(self, step: int, rows: range) -> torch.Tensor:
        error = super().__call__(step, rows)
        through = self.weights["a"].half().float().sum()
        return error + (through * self.peak - (through * self.peak).detach())


def test_an_overflow_halves_the_scale_and_takes_the_step_again(tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []
    weights = start()
    around = Surroundings(lambda progress: heard.append((progress.step, progress.scale)), lambda: False)
    _, progress = train(weights, Half(weights), HALF, Checkpoints(tmp_path), around)
    assert progress.scale == 1024.0 and progress.good == 20, "40 times more would be 81920, beyond fp16's 65504"
    assert (progress.skipped, progress.rollbacks, progress.step) == (0, 0, 20)
    assert [step for step, _ in heard] == list(range(1, 21)) and None not in progress.losses


def test_the_scale_doubles_after_two_thousand_good_steps_and_is_the_same_after_a_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "STEPS_TO_DOUBLE", 7)
    whole, progress = run(tmp_path / "whole", HALF, Half)
    assert progress.scale == 1024.0, "doubled twice and halved again twice"
    for stop in (3, 8, 11, 16):
        left = iter(range(stop))
        with pytest.raises(Stopped):
            run(tmp_path / str(stop), HALF, Half, stopping=lambda left=left: next(left, None) is None)
        resumed, again = run(tmp_path / str(stop), HALF, Half)
        assert same(whole, resumed) and again == progress, stop


def test_only_below_a_scale_of_one_is_an_overflow_a_bad_step(tmp_path: Path) -> None:
    def hopeless(weights: dict[str, torch.nn.Parameter]) -> Toy:
        toy = Half(weights)
        toy.peak = 1e6
        return toy

    with pytest.raises(Diverged):
        run(tmp_path, HALF, hopeless)


def test_a_run_without_a_scale_has_none(tmp_path: Path) -> None:
    _, progress = run(tmp_path)
    assert (progress.scale, progress.good) == (1.0, 0)
