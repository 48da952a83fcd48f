"""Blocks are compiled where the rest of a run wins the time back, by measurement; compiled ones learn the same."""

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
import torch

from konomi_trainer.methods import lora
from konomi_trainer.training.compilation import BlockCompiler, CostFile, release
from tests.trainer.methods.test_precisions import batch, error, xl


class Base:
    """Counts how often it is compiled; its steps then take half as long, the first of them `cost` seconds more."""

    def __init__(self, seconds: float, cost: float = 20.0) -> None:
        self.seconds, self.cost, self.compiled, self.now = seconds, cost, 0, 0.0

    def compile_blocks(self) -> None:
        self.compiled += 1
        self.now += self.cost

    def step(self) -> float:
        self.now += self.seconds / (2 if self.compiled else 1)
        return self.now

    def run(self, setting: bool | str, steps: int, place: CostFile) -> BlockCompiler:
        compiler = BlockCompiler(self, setting, steps, place, lambda: self.now)  # type: ignore[arg-type]
        for step in range(1, steps + 1):
            self.step()
            compiler.after_step(step)
        return compiler


def test_a_long_run_on_a_gpu_compiles_once_and_keeps_what_it_cost(tmp_path: Path) -> None:
    place = CostFile("cuda", tmp_path / "compilation" / "base.json")
    short, long = Base(1.0), Base(4.0)
    assert not short.run("auto", 160, place).compiled and not place.file.exists()
    assert long.run("auto", 160, place).compiled and long.compiled == 1
    kept = json.loads(place.file.read_text())
    assert kept["gain"] == pytest.approx(0.5) and kept["seconds"] == pytest.approx(20.0)
    assert Base(1.0).run("auto", 160, place).compiled, "by what was measured it pays: 78 seconds saved for 20"
    place.file.write_text(json.dumps({"seconds": 20.0, "gain": -0.1}))
    assert not Base(4.0).run("auto", 160, place).compiled, "here it never pays"
    place.file.write_text("{")
    assert Base(4.0).run("auto", 160, place).compiled, "a damaged file is no file"


def test_settings_decide_where_they_say_so_and_a_cpu_never_compiles_by_itself(tmp_path: Path) -> None:
    for setting, device, expected in ((True, "cpu", 1), (False, "cuda", 0), ("auto", "cpu", 0)):
        base = Base(100.0)
        compiler = base.run(setting, 50, CostFile(device, tmp_path / "none.json"))
        assert base.compiled == expected and compiler.compiled is bool(expected)
    assert not (tmp_path / "none.json").exists()


def gradients(bases: Path, compiled: bool) -> torch.Tensor:
    """Returns the gradients (n,) of one batch, by blocks that are compiled or not."""
    base = xl(bases, "fp32")
    weights = lora.attach({"unet": base.network}, lora.LORA, 4, 1)
    generator = torch.Generator().manual_seed(2)
    for weight in weights.values():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.1
    if compiled:
        base.compile_blocks()
    error(base, batch(3)).backward()
    return torch.cat([weight.grad.flatten() for weight in weights.values() if weight.grad is not None])


def difference(bases: Path) -> tuple[float, int]:
    """Returns how far the gradients of compiled blocks are from plain ones, as a share, and the graphs made."""
    torch._dynamo.utils.counters.clear()
    plain, compiled = (gradients(bases, asked) for asked in (False, True))
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    release()
    return float((plain - compiled).norm() / plain.norm()), graphs


@pytest.mark.slow
def test_a_compiled_unet_gives_the_same_gradients(bases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As graphs forward and backward, which torch runs itself here; the next test has them built."""
    compile = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block, **given: compile(block, backend="aot_eager", **given))
    apart, graphs = difference(bases)
    assert graphs > 0, "something was compiled"
    assert apart < 1e-4


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_so_does_one_that_is_built_as_in_a_run(bases: Path) -> None:
    """In a process of its own, as a run has: what other tests import (distutils) keeps inductor from building."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        apart, graphs = pool.submit(difference, bases).result()
    assert graphs > 0, "something was compiled"
    assert apart < 1e-4
