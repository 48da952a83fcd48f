"""A base model as the trainer holds it: number formats, activations made twice, samples that are never black."""

from pathlib import Path

import numpy as np
import pytest
import torch

from konomi_chassis.models import loading
from konomi_chassis.models.catalogue import BaseModels
from konomi_trainer.base_models import catalogue, device, pipeline
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.configuration import complete
from konomi_trainer.methods import lora
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.settings import TrainerSettings


def load(home: Path, base: str, **settings: object) -> pipeline.BasePipeline:
    """Loads a base in bf16 as a run does."""
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu", **settings))
    numbers = {"precision": "bf16"}
    return bases.load(complete("lora", base, bases.digest(base), 1, numbers, METHODS["lora"].defaults))


@pytest.mark.parametrize("base", ["tiny", "tiny-xl"])
def test_the_unet_is_loaded_in_the_type_it_trains_in_and_nothing_else(base: str, home: Path) -> None:
    pipe = loading.load_pipeline(
        BaseModels(home).get(base),
        home,
        torch.device("cpu"),
        loading.Dtypes(torch.float32, torch.bfloat16, torch.float32),
    )
    assert pipe.unet.dtype == torch.bfloat16
    assert {pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float32}
    assert load(home, base).network.dtype == torch.bfloat16


def test_large_bases_make_activations_twice_on_cards_without_room(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for room, base, expected in ((True, "tiny-xl", False), (False, "tiny-xl", True), (False, "tiny", False)):
        monkeypatch.setattr(device, "has_room", lambda name, room=room: room)
        assert load(home, base).checkpointing is expected, (room, base)
    monkeypatch.setattr(device, "has_room", lambda name: True)
    assert load(home, "tiny", gradient_checkpointing=True).checkpointing
    assert load(home, "tiny", gradient_checkpointing="auto").checkpoint_activations() is True
    assert load(home, "tiny", gradient_checkpointing=True).checkpoint_activations() is False


def test_the_catalogue_says_what_a_base_and_the_machine_ask_for(home: Path) -> None:
    bases = catalogue.BaseCatalogue(home, TrainerSettings(home=home, device="cpu"))
    assert [bases.traits(name).large for name in ("tiny", "tiny-xl")] == [False, True]
    assert bases.traits("tiny").precision == "fp32"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("base", ["tiny", "tiny-xl"])
def test_samples_are_decoded_in_float32_whatever_the_unet_computes_in(base: str, precision: str, home: Path) -> None:
    pipe = held(home, base, precision)
    seen: list[torch.dtype] = []
    vae, unet = pipe._pipe.vae, pipe.network
    inner = [module for module in vae.decoder.modules() if isinstance(module, torch.nn.Conv2d)]
    for module in inner:
        module.register_forward_hook(lambda module, given, answer: seen.append(answer.dtype))
    halves: list[torch.dtype] = []
    unet.conv_in.register_forward_hook(lambda module, given, answer: halves.append(answer.dtype))
    images = pipe.sampler(["a face"], 2)()
    assert images is not None and images.dtype == np.uint8 and images.std() > 0
    assert set(seen) == {torch.float32} and set(halves) == {pipeline.PRECISIONS[precision]}


def test_activations_beyond_halfs_range_are_drawn_and_no_numbers_are_refused(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SDXL's own decoder has activations above 65,504; in half they were NaN, and the sheet black without a word."""
    pipe = held(home, "tiny-xl", "fp16")
    block = pipe._pipe.vae.decoder.mid_block.resnets[0]
    plain = block.forward
    draw = pipe.sampler(["a face"], 1)
    block.forward = lambda *given, **named: plain(*given, **named) * 3e6
    assert draw() is not None
    block.forward = lambda *given, **named: plain(*given, **named) * float("nan")
    assert draw() is None
    assert "pixels that are no numbers" in caplog.text


def test_texts_that_learn_do_so_in_the_units_type_with_activations_made_twice(home: Path) -> None:
    gradients = {}
    for precision, checkpointing in (("fp32", False), ("bf16", False), ("bf16", True)):
        pipe = held(home, "tiny-xl", precision)
        pipe.learn_texts()
        towers = {part: tower for part, (_, tower) in zip(lora.TEXT_PARTS, pipe.text_towers(), strict=True)}
        weights = lora.attach(towers, lora.LORA, 4, 1)
        if checkpointing:
            assert pipe.checkpoint_activations()
            assert all(tower.is_gradient_checkpointing for tower in towers.values())
        generator = torch.Generator().manual_seed(1)
        for weight in weights.values():
            weight.data = torch.randn(weight.shape, generator=generator) * 0.1
        texts = pipe.embed(["a face", "two"])
        assert texts["hidden"].dtype == pipeline.PRECISIONS[precision]
        (texts["hidden"].float().square().mean() + texts["pooled"].float().square().mean()).backward()
        came = [weight.grad for weight in weights.values() if weight.grad is not None]  # XL leaves out the last layer
        assert len(came) > len(weights) / 2
        gradients[precision, checkpointing] = torch.cat([gradient.flatten() for gradient in came])
    exact = gradients["fp32", False]
    assert (gradients["bf16", False] - exact).norm() < 0.06 * exact.norm()
    assert torch.equal(gradients["bf16", False], gradients["bf16", True])


def held(home: Path, base: str, precision: str) -> pipeline.BasePipeline:
    """Returns a base in a precision that no CPU is trained in otherwise."""
    placement = pipeline.TrainingPlacement("cpu", precision, False)
    return pipeline.load(BaseModels(home).get(base), home, "0" * 64, placement)


def test_on_a_card_texts_then_pictures_then_all_of_it_have_the_room(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each part is after each phase; what leaves goes before what comes."""
    loaded = load(home, "tiny-xl")
    names = {id(getattr(loaded._pipe, name)): name for name in loaded.parts}
    moves: list[tuple[str, str]] = []

    def to(module: torch.nn.Module, place: str) -> torch.nn.Module:
        moves.append((names[id(module)], place))
        return module

    monkeypatch.setattr(torch.nn.Module, "to", to)
    loaded._placement = pipeline.TrainingPlacement("cuda", "bf16", False)
    loaded._here = frozenset()
    for phase, here in ((loaded.texts, loaded.texts), (pipeline.PICTURES, pipeline.PICTURES)):
        moves.clear()
        loaded._bring(phase)
        assert {name for name, place in moves if place == "cuda"} == here
        assert [place for _, place in moves] == ["cpu"] * (4 - len(here)) + ["cuda"] * len(here)
        moves.clear()
        loaded._bring(phase)
        assert not moves, "they are there"
    loaded.settle()
    assert {place for _, place in moves} == {"cuda"} and len(moves) == 4
