"""Compiled UNets: the same images, few compilations whatever adapter is on, and only where it pays."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

from konomi.errors import FailedPrecondition, Unavailable
from konomi_chassis.models.catalogue import BaseModels
from konomi_generator.backends.diffusers import backend as backend_module
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.batches import plan
from konomi_generator.backends.diffusers.compilation import COMPILE_SECONDS, GAIN, Compilation
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from konomi_generator.settings import GeneratorSettings
from tests.generator.backends.diffusers.test_adapters import lora

SAMPLING = Sampling(2, 4.0, 64, 64, guide_from_base=True)
GPU, CPU = torch.device("cuda"), torch.device("cpu")
SHAPE = (64, 64, False)


def draw(made: DiffusersBackend, model, adapters) -> tuple[dict[int, np.ndarray], str]:
    made._measure = lambda _sampling, _length: (2,)
    precision, pictures = made.prepare(model, adapters, SAMPLING, 3).precision, {}
    rows = [ImageRequest(n, "a cat", n) for n in range(3)]
    made.run(model, rows, SAMPLING, lambda: False, lambda index, made: pictures.update({index: made.pixels}))
    return pictures, precision


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_compiled_unets_make_the_same_images_with_and_without_adapters(models, settings, monkeypatch) -> None:
    counter, plain_class = CompileCounter(), Compilation
    monkeypatch.setattr(backend_module, "Compilation", lambda asked, device: plain_class(asked, device, counter))
    model = models.get("starter")
    files = [AdapterFile(letter * 64, lora(seed), 1.0) for seed, letter in ((1, "a"), (2, "b"))]
    plain, compiled = (DiffusersBackend(settings.model_copy(update={"compile_unet": asked})) for asked in (False, True))
    counts = []
    for adapters in ([], files[:1], files[1:], files[:1], []):
        left, precision = draw(plain, model, adapters)
        right, other = draw(compiled, model, adapters)
        assert (precision, other) == ("fp32", "fp32+compiled")
        assert all(np.abs(left[n].astype(int) - right[n]).max() <= 1 for n in left)
        counts.append(counter.frame_count)
    assert counts[0] > 0 and counts[2] == counts[-1], "no adapter compiles anything anew once both UNets are there"


def compile_for_real(home: Path, configs: Path) -> tuple[int, int]:
    """Draws with and without compiled blocks; returns the largest difference of a pixel and the bytes released."""
    settings = GeneratorSettings(home=home, threads=1, single_file_configs=configs, device="cpu")
    made = DiffusersBackend(settings.model_copy(update={"compile_unet": True}))
    model = BaseModels(home).get("starter")
    (left, _), (right, _) = draw(DiffusersBackend(settings), model, []), draw(made, model, [])
    return max(int(np.abs(left[n].astype(int) - right[n]).max()) for n in left), made.release()


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_blocks_really_compile(home) -> None:
    """In a process of its own, as a service has: what other tests import (distutils) keeps inductor from building."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        difference, released = pool.submit(compile_for_real, home, home / "configs").result()
    assert difference <= 1 and released > 0


def test_compiling_pays_once_the_work_wins_back_what_it_costs() -> None:
    auto = Compilation("auto", GPU)
    assert not auto.pays(SHAPE, 10**6), "nothing is measured yet"
    auto.note(SHAPE, 100, 50.0)  # half a second a step
    needed = round(COMPILE_SECONDS / (0.5 * GAIN))
    assert not auto.pays(SHAPE, needed - 101) and auto.pays(SHAPE, needed - 99)
    assert not auto.pays((128, 128, False), 10**6), "another shape was not measured"
    auto.apply([], SHAPE, needed)
    assert auto.active
    auto.note(SHAPE, 100, 70.0)
    auto.note(SHAPE, 100, 40.0)
    assert auto.pays(SHAPE, 1), "compiled already, and faster"
    auto.note((128, 128, False), 10, 20.0)
    assert auto._costs == [30.0]


def test_a_compiled_unet_that_is_slower_is_given_up() -> None:
    auto = Compilation("auto", GPU)
    auto.note(SHAPE, 1000, 500.0)
    auto.apply([], SHAPE, 10**6)
    auto.note(SHAPE, 100, 90.0)
    auto.note(SHAPE, 100, 60.0)
    auto.apply([], SHAPE, 10**6)
    assert not auto.active


def test_auto_leaves_the_cpu_alone_and_a_setting_is_obeyed() -> None:
    for asked, device, expected in (("auto", CPU, False), (True, CPU, True), (False, GPU, False)):
        compilation = Compilation(asked, device)
        compilation.note(SHAPE, 1000, 10_000.0)
        compilation.apply([], SHAPE, 10**6)
        assert compilation.active is expected


def test_a_compiler_that_fails_is_told_and_auto_goes_on_without() -> None:
    failure = torch._dynamo.exc.BackendCompilerFailed(lambda: None, RuntimeError("no compiler"), None)
    asked = Compilation(True, GPU, active=True)
    told = asked.failure(failure)
    assert isinstance(told, FailedPrecondition) and told.reason == "COMPILE_FAILED"
    assert "compile_unet to false" in told.message
    auto = Compilation("auto", GPU)
    auto.note(SHAPE, 1000, 10_000.0)
    auto.apply([], SHAPE, 10**6)
    assert auto.failure(RuntimeError("other")) is None
    assert isinstance(auto.failure(failure), Unavailable)
    auto.apply([], SHAPE, 10**6)
    assert not auto.active and auto.failure(failure) is None


def test_the_last_batch_of_a_compiled_network_is_filled_up() -> None:
    rows = [ImageRequest(n, "x", n) for n in range(11)]
    sizes = tuple(range(4, 0, -1))
    assert [batch.rows for batch in plan(rows, sizes, 1, lambda _row: 0)] == [4, 4, 3]
    filled = plan(rows, sizes, 1, lambda _row: 0, fill=True)
    assert [(len(batch.images), batch.rows) for batch in filled] == [(4, 4), (4, 4), (3, 4)]
    assert [batch.rows for batch in plan(rows[:3], sizes, 1, lambda _row: 0, fill=True)] == [3]
