"""A base's file of settings over a socket: what a run takes from it, what it does not, and a file nobody can read."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors.torch import load

from konomi.client import Client
from konomi.errors import FailedPrecondition
from konomi.night.gateway.services import NightServices, TrainingRun
from konomi.night.settings import NightSettings
from konomi.night.systems.base import hyper_parameters
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.base_models import device
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.settings import TrainerSettings
from tests.trainer import tiny
from tests.trainer.conftest import Bench

SETTINGS = """
[drawing]
clip_skip = 2

[training]
precision = "bf16"
learning_rate = 0.003
batch_size = 2
gradient_accumulation = 3
gradient_checkpointing = "on"
"""
LONG = "a face, " * 20


def write(home: Path, text: str, base: str = "tiny") -> None:
    (home / "models" / f"{base}.toml").write_text(text, "utf-8")


def set_of(bench: Bench, captions: list[str], side: int = 64) -> str:
    items = [
        ManifestItem(bench.store.put(tiny.png(i, side), "image/png").digest, caption, 1.0, "selected")
        for i, caption in enumerate(captions)
    ]
    return bench.store.put(render(tuple(items)), "application/json").digest


@dataclass
class Source:
    """What a night asks for the client of now."""

    client: Client


def test_a_night_takes_the_files_numbers_and_its_record_says_so(bench: Bench) -> None:
    write(bench.home, SETTINGS)
    settings = NightSettings(base_model="tiny", steps=2)
    night = NightServices(Source(bench.client), "tastes/default", "night-1")
    run = TrainingRun(
        manifest_digest=bench.manifest(4),
        base_model="tiny",
        seed=3,
        request_id="11111111-1111-4111-8111-111111111111",
        display_name="unit-1",
        parents=(),
        rater_version="",
    )
    fit = night.train(run, hyper_parameters(settings), lambda phase, done, total: None, "lora")
    assert not fit.failed
    wanted = {"precision": "bf16", "learning_rate": 0.003, "batch_size": 2, "gradient_accumulation": 3}
    wanted |= {"prompt_syntax": "weighted", "clip_skip": 2, "gradient_checkpointing": 1.0, "images_at_once": 2.0}
    assert {name: fit.training[name] for name in wanted} == wanted


def test_what_the_caller_types_stands_over_the_file(bench: Bench) -> None:
    write(bench.home, SETTINGS)
    typed = NightSettings(base_model="tiny", steps=2, batch_size=4, learning_rate=0.001, precision="fp32")
    request = bench.request(bench.manifest(4), "tiny")
    request.hyper_parameters.CopyFrom(pb.HyperParameters(**hyper_parameters(typed)))
    numbers = bench.client.trainer.create_training_run(request).request.hyper_parameters
    assert (numbers.batch_size, numbers.learning_rate, numbers.precision) == (4, 0.001, "fp32")
    assert numbers.gradient_accumulation == 3
    request = bench.request(bench.manifest(4), "tiny", precision="auto")  # type: ignore[arg-type]
    assert bench.client.trainer.create_training_run(request).request.hyper_parameters.precision == "bf16"


def test_a_file_that_cannot_be_read_refuses_the_run_in_a_sentence(bench: Bench) -> None:
    manifest = bench.manifest(2)
    for text, words in (("[training\n", "cannot be read"), ("[training]\nbatch_size = 0.5\n", "training.batch_size")):
        write(bench.home, text)
        with pytest.raises(FailedPrecondition) as caught:
            bench.client.trainer.create_training_run(bench.request(manifest, "tiny"))
        assert caught.value.reason == "MODEL_SETTINGS"
        assert "tiny.toml" in caught.value.message and words in caught.value.message
    write(bench.home, "")
    assert bench.finish(bench.client.trainer.create_training_run(bench.request(manifest, "tiny")).name).model


def test_a_precision_this_machine_lacks_names_the_file_too(bench: Bench) -> None:
    write(bench.home, '[training]\nprecision = "fp16"\n')
    with pytest.raises(FailedPrecondition) as caught:
        bench.client.trainer.create_training_run(bench.request(bench.manifest(2), "tiny"))
    assert caught.value.reason == "PRECISION_UNAVAILABLE" and "tiny.toml" in caught.value.message


@pytest.mark.parametrize("base", ["tiny", "tiny-xl"])
def test_long_captions_with_emphasis_are_learnt_and_those_too_long_counted(bench: Bench, base: str) -> None:
    side = 64 if base == "tiny" else 16
    captions = ["a face", f"(a face:1.3), {LONG}", LONG * 3, "a [dim] face"]
    model = bench.trained(set_of(bench, captions, side), base, gradient_accumulation=2, validation_share=0.25)
    assert model.metrics["cut_captions"] == 1 and model.metrics["skipped_steps"] == 0
    shutil.rmtree(bench.home / "cache")
    again = bench.request(set_of(bench, captions, side), base, gradient_accumulation=2, validation_share=0.25)
    again.taste = "tastes/other"
    run = bench.finish(bench.client.trainer.create_training_run(again).name)
    assert bench.client.trainer.get_model(name=run.model).adapter_digest == model.adapter_digest
    write(bench.home, '[drawing]\nprompt_syntax = "plain"\n', base)
    plain = bench.trained(set_of(bench, captions, side), base, gradient_accumulation=2, validation_share=0.25)
    assert plain.adapter_digest != model.adapter_digest and plain.config_digest != model.config_digest
    assert "cut_captions" not in plain.metrics


def test_text_encoders_learn_from_long_captions(bench: Bench) -> None:
    manifest = set_of(bench, ["a face", f"(a face:1.3), {LONG}", LONG * 3, "a [dim] face"], 16)
    model = bench.trained(manifest, "tiny-xl", text_encoder_learning_rate=0.01, learning_rate=0.01)
    tensors = load(bench.store.get(model.adapter_digest))
    learnt = [name for name, tensor in tensors.items() if name.startswith("text_encoder") and tensor.abs().max() > 0]
    assert any("lora_B" in name for name in learnt)


def test_a_run_reads_its_captions_as_it_was_created_to(bench: Bench) -> None:
    """Its id follows from that: the same request under another file is another run."""
    manifest = bench.manifest(4)
    first = bench.client.trainer.create_training_run(bench.request(manifest, "tiny"))
    assert (first.prompt_syntax, first.clip_skip) == ("weighted", 1)
    write(bench.home, '[drawing]\nprompt_syntax = "plain"\nclip_skip = 2\n')
    second = bench.client.trainer.create_training_run(bench.request(manifest, "tiny"))
    assert (second.prompt_syntax, second.clip_skip) == ("plain", 2) and second.name != first.name
    assert bench.client.trainer.get_training_run(name=first.name).prompt_syntax == "weighted"
    assert all(bench.finish(run.name).state == pb.TRAINING_STATE_SUCCEEDED for run in (first, second))


def test_an_export_says_how_captions_were_read(bench: Bench) -> None:
    write(bench.home, SETTINGS)
    model = bench.trained(bench.manifest(2), "tiny")
    exported = bench.store.get(bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_KOHYA).digest)
    header = json.loads(exported[8 : 8 + int.from_bytes(exported[:8], "little")])["__metadata__"]
    assert (header["ss_clip_skip"], header["ss_max_token_length"]) == ("2", "225")


def test_the_owners_setting_then_the_file_then_the_card_say_whether_activations_are_made_twice(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "has_room", lambda name: False)
    for owner, filed, base, expected in (
        (True, "off", "tiny", True),
        (False, "on", "tiny", False),
        ("auto", "on", "tiny", True),
        ("auto", "off", "tiny-xl", False),
        ("auto", "auto", "tiny-xl", True),
        ("auto", "auto", "tiny", False),
    ):
        write(home, f'[training]\ngradient_checkpointing = "{filed}"\n', base)
        settings = TrainerSettings(home=home, device="cpu", gradient_checkpointing=owner)  # type: ignore[arg-type]
        bases = BaseCatalogue(home, settings)
        assert bases._checkpointing(bases._catalogue.get(base)) is expected, (owner, filed, base)


def test_xl_has_no_clip_skip(home: Path) -> None:
    write(home, "[drawing]\nclip_skip = 2\n", "tiny-xl")
    write(home, "[drawing]\nclip_skip = 2\n", "tiny")
    bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu"))
    assert [bases.traits(name).clip_skip for name in ("tiny", "tiny-xl")] == [2, 1]
