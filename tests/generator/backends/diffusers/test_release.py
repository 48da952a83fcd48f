"""Memory is given back: nothing outlives its release, two models never meet, two UNets share their weights."""

import gc
import threading
import weakref

import pytest
import torch
from diffusers import UNet2DConditionModel

from konomi_chassis.models.loading import load_pipeline
from konomi_chassis.process import expand_segments
from konomi_generator.backends.diffusers import backend as backend_module
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.backends.diffusers.memory_fallback import Places
from konomi_generator.backends.diffusers.shared_network import sharing
from konomi_generator.generator import Generator
from konomi_generator.requests import Image, Request
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from tests.generator.backends.diffusers.test_adapters import lora

SAMPLING = Sampling(1, 4.0, 64, 64, guide_from_base=True)
FILE = AdapterFile("a" * 64, lora(1), 1.0)


def tensors_of(made: DiffusersBackend) -> list[weakref.ref]:
    """Weak references to every weight a back end holds, originals and remembered sets among them."""
    denoiser, adapters = made._loaded
    parts = [part for part in denoiser.pipe.components.values() if isinstance(part, torch.nn.Module)]
    weights = [weight for part in (*parts, adapters.base_unet()) for weight in (*part.parameters(), *part.buffers())]
    kept = [weight for one in adapters._kept.values() for weight in one.weights.values()]
    return [weakref.ref(weight) for weight in (*weights, *adapters._base.values(), *kept)]


def draw(made: DiffusersBackend, model) -> None:
    made._measure = lambda _sampling, _length: (1,)
    made.run(model, [ImageRequest(0, "a cat", 1)], SAMPLING, lambda: False, lambda *_result: None)


def live_unets() -> int:
    return sum(isinstance(thing, UNet2DConditionModel) for thing in gc.get_objects())


@pytest.mark.parametrize("compiled", [False, True])
def test_nothing_is_left_after_a_release(compiled: bool, models, settings, monkeypatch) -> None:
    plain = backend_module.Compilation
    monkeypatch.setattr(backend_module, "Compilation", lambda asked, device: plain(asked, device, "eager"))
    made = DiffusersBackend(settings.model_copy(update={"compile_unet": compiled}))
    gc.collect()
    before, model = live_unets(), models.get("starter")
    made.prepare(model, [FILE], SAMPLING)
    draw(made, model)
    references = tensors_of(made)
    assert len(references) > 100 and live_unets() == before + 2
    assert made.release() > 100_000
    assert live_unets() == before and not [r for r in references if r() is not None]
    made.prepare(model, [FILE], SAMPLING)
    draw(made, model)


@pytest.mark.parametrize("compiled", [False, True])
def test_two_models_in_turn_never_meet(compiled: bool, models, settings, monkeypatch) -> None:
    plain = backend_module.Compilation
    monkeypatch.setattr(backend_module, "Compilation", lambda asked, device: plain(asked, device, "eager"))
    made = DiffusersBackend(settings.model_copy(update={"compile_unet": compiled}))
    made.prepare(models.get("starter"), [], SAMPLING)
    draw(made, models.get("starter"))
    old, seen = weakref.ref(made._denoiser.pipe.unet), []

    def watched(*args, **kwargs):
        seen.append(old() is not None)
        return load_pipeline(*args, **kwargs)

    monkeypatch.setattr(backend_module, "load_pipeline", watched)
    gc.disable()
    try:
        made.prepare(models.get("sd1"), [], SAMPLING)
    finally:
        gc.enable()
    assert seen == [False]


def test_the_base_shares_every_weight_no_adapter_touches(models, settings) -> None:
    pipe = load_pipeline(models.get("starter"), settings.single_file_configs, torch.device("cpu"), torch.float32)
    plain = {name: weight.clone() for name, weight in pipe.unet.named_parameters()}
    adapters = Adapters(pipe)
    adapters.apply([FILE])
    base, own = adapters.base_unet(), {id(weight) for weight in pipe.unet.parameters()}
    apart = {name for name, weight in base.named_parameters() if id(weight) not in own}
    assert apart == {name for component, name in adapters._touched if component == "unet"} and apart
    assert all(torch.equal(weight, plain[name]) for name, weight in base.named_parameters())
    assert all(name.partition("attn")[2] for name in apart), "attention alone differs"
    extra = Places(pipe, torch.device("cpu"), {"unet": adapters.made_base_unet}).size()
    assert extra - Places(pipe, torch.device("cpu")).size() == 4 * sum(plain[name].numel() for name in apart)


def test_a_shared_network_has_its_own_tables_and_no_hooks() -> None:
    plain = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    plain.register_forward_hook(lambda *_given: 1 / 0)
    twin = sharing(plain)
    assert twin is not plain and twin[0] is not plain[0] and twin[0].weight is plain[0].weight
    assert twin(torch.ones(1, 2)).shape == (1, 2)
    twin[0].weight = torch.nn.Parameter(torch.zeros(2, 2))
    twin.add_module("more", torch.nn.Linear(2, 2))
    assert plain[0].weight.abs().sum() > 0 and len(plain) == 3
    tied = torch.nn.ModuleList([plain[0], plain[0]])
    copy = sharing(tied)
    assert copy[0] is copy[1]


def test_an_idle_generator_gives_its_memory_back_and_a_busy_one_keeps_it(models, store, settings) -> None:
    now, made = [0.0], DiffusersBackend(settings)
    generator = Generator(models, store, made, None, writers=1, max_side=512, idle_seconds=60.0, clock=lambda: now[0])
    request = Request([Image("a cat", 1)], steps=1)
    (first,) = generator.generate(request, lambda: False)
    now[0] += 59.0
    generator.release_if_idle()
    assert made._loaded is not None
    stream = generator.generate(Request([Image("a cat", n) for n in range(9)], steps=1), lambda: False)
    next(stream)
    assert generator.release() is None, "a request under way keeps its model"
    now[0] += 100.0
    generator.release_if_idle()
    assert made._loaded is not None
    list(stream)
    now[0] += 59.0
    generator.release_if_idle()
    assert made._loaded is not None
    now[0] += 1.0
    generator.release_if_idle()
    assert made._loaded is None and generator.release() == 0
    (again,) = generator.generate(request, lambda: False)
    assert again.artifact.digest == first.artifact.digest
    assert generator.release() > 100_000
    generator.close()


def test_the_thread_that_looks_for_idleness_ends_with_the_generator(models, store, settings) -> None:
    generator = Generator(models, store, DiffusersBackend(settings), None, writers=1, max_side=512, idle_seconds=0.01)
    list(generator.generate(Request([Image("a cat", 1)], steps=1), lambda: False))
    generator.watch_idleness()
    watching = [thread for thread in threading.enumerate() if thread.name == "idle"]
    assert len(watching) == 1
    for _ in range(1000):
        if generator._backend._loaded is None:
            break
        watching[0].join(0.05)
    assert generator._backend._loaded is None
    generator.close()
    watching[0].join(20.0)
    assert not watching[0].is_alive()


def test_gpu_memory_grows_in_place_unless_the_owner_said_otherwise() -> None:
    fresh: dict[str, str] = {}
    expand_segments(fresh)
    assert fresh == {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        chosen = {name: "backend:cudaMallocAsync"}
        expand_segments(chosen)
        assert chosen == {name: "backend:cudaMallocAsync"}
