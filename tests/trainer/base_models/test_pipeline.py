"""A base model as the trainer holds it: number formats, activations made twice, samples that are never black."""

from pathlib import Path

import pytest
import torch

from konomi_chassis.models import loading
from konomi_chassis.models.catalogue import BaseModels
from konomi_trainer.base_models import catalogue, device, pipeline
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.configuration import complete
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
        BaseModels(home).get(base), home, torch.device("cpu"), torch.float32, unet_dtype=torch.bfloat16
    )
    assert pipe.unet.dtype == torch.bfloat16
    assert {pipe.vae.dtype, pipe.text_encoder.dtype} == {torch.float32}
    assert load(home, base).unet.dtype == torch.bfloat16


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
