"""Hostile folders of the flow families: what could run is refused or never run, what is data is read as data."""

import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from konomi.errors import FailedPrecondition
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.diffusers_folder import needed_files
from konomi_chassis.models.families.family import TextReading
from konomi_chassis.models.families.table import of_pipeline
from konomi_chassis.models.loading import load_pipeline
from konomi_generator.model_import.importer import put
from tests.families.flow.test_images import CPU, SHORT
from tests.generator.model_import.test_hostile_models import Canary

IDS = ("z-image", "lumina2")


@pytest.fixture(params=IDS)
def folder(request: pytest.FixtureRequest, home: Path, tmp_path: Path) -> Path:
    """A copy of a model, to be spoiled."""
    return Path(shutil.copytree(home / "models" / request.param, tmp_path / "home" / "models" / "bad"))


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """What is there once anything has run."""
    return tmp_path / "canary"


def states(folder: Path) -> torch.Tensor:
    """Returns a text as the model of a folder encodes it, loaded as services load it."""
    home = folder.parent.parent
    pipe = load_pipeline(BaseModels(home).get(folder.name), home, CPU, torch.float32)
    with torch.inference_mode():
        return of_pipeline(pipe).encode(pipe, [SHORT], TextReading(), CPU).hidden


def refusal(folder: Path) -> FailedPrecondition:
    with pytest.raises(FailedPrecondition) as caught:
        BaseModels(folder.parent.parent).get(folder.name)
    with pytest.raises(FailedPrecondition):
        put(folder, folder.parent.parent.parent / "other", "x", convert=False)
    return caught.value


def say(file: Path, **values: object) -> None:
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(known | values))


ASKING = {
    "a tokenizer of its own": ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.T", None]}}),
    "a text encoder of its own": ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil--m.Model"}}),
    "a transformer of its own": ("transformer/config.json", {"auto_map": {"AutoModel": "evil.M"}}),
    "trust": ("text_encoder/config.json", {"rope_scaling": {"trust_remote_code": True}}),
    "weights to be unpacked": ("transformer/config.json", {"quantization_config": {"quant_method": "evil"}}),
    "a kernel": ("text_encoder/config.json", {"_attn_implementation": "evil/kernel"}),
    "another pipeline": ("model_index.json", {"custom_pipeline": "evil/pipe"}),
    "a library of its own": ("model_index.json", {"text_encoder": ["evil", "Qwen3Model"]}),
    "a function": ("model_index.json", {"tokenizer": ["os", "system"]}),
    "a processor": ("model_index.json", {"processor": ["transformers", "AutoProcessor"]}),
    "a tower that sees": ("model_index.json", {"siglip": ["transformers", "SiglipVisionModel"]}),
}


@pytest.mark.parametrize("name", ASKING)
def test_what_asks_for_code_is_refused(name: str, folder: Path) -> None:
    file, values = ASKING[name]
    say(folder / file, **values)
    assert refusal(folder).reason == "UNSAFE_FORMAT"


SHARDS = {
    "outside": {"a": "../../../../secret.safetensors"},
    "at the root": {"a": "/etc/passwd"},
    "a folder": {"a": ".."},
    "no name": {"a": ["model.safetensors"]},
}


@pytest.mark.parametrize("part", ["text_encoder", "transformer"])
@pytest.mark.parametrize("name", SHARDS)
def test_an_index_that_leaves_its_folder_is_refused(name: str, part: str, folder: Path) -> None:
    stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
    (folder / part / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": SHARDS[name]}))
    assert refusal(folder).reason in ("UNSAFE_FORMAT", "MODEL_LAYOUT")


def test_odd_shards_are_refused_or_missed_by_name(folder: Path, canary: Path) -> None:
    part = folder / "text_encoder"
    tensors = load_file(part / "model.safetensors")
    names, plain = sorted(tensors), states(folder)
    (part / "model.safetensors").unlink()
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for shard, own in zip(shards, (names[::2], names[1::2]), strict=True):
        save_file({name: tensors[name] for name in own}, part / shard, {"format": "pt"})
    index = {name: shards[place % 2] for place, name in enumerate(names)}
    (part / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    assert torch.equal(states(folder), plain)
    (part / shards[1]).write_bytes(pickle.dumps(Canary(canary)))
    assert refusal(folder).reason == "UNSAFE_FORMAT"
    (part / shards[1]).unlink()
    with pytest.raises(FailedPrecondition) as caught:
        states(folder)
    assert caught.value.reason in ("MODEL_BROKEN", "UNSAFE_FORMAT") and not canary.exists()


TEMPLATES = {
    "refuses": "{{ raise_exception('fired') }}",
    "other words": "another text altogether",
    "reaches out": "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}",
    "never ends": "{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}",
    "no template": "{% if",
}


@pytest.fixture(scope="module")
def unspoiled(home: Path) -> torch.Tensor:
    """The text as the model encodes it before anybody touched its folder."""
    return states(home / "models" / "z-image")


@pytest.mark.slow
@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json", "additional"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_a_chat_template_is_never_run(
    name: str, where: str, unspoiled: torch.Tensor, home: Path, tmp_path: Path, canary: Path
) -> None:
    """Texts are put into the family's own chat, so that a folder's template, a program, changes nothing."""
    folder = Path(shutil.copytree(home / "models" / "z-image", tmp_path / "home" / "models" / "bad"))
    template = TEMPLATES[name].replace("CANARY", str(canary))
    tokenizer = folder / "tokenizer"
    (tokenizer / "chat_template.jinja").unlink()
    if where == "additional":
        (tokenizer / "additional_chat_templates").mkdir()
        (tokenizer / "additional_chat_templates" / "default.jinja").write_text(template)
    elif where == "chat_template.jinja":
        (tokenizer / where).write_text(template)
    else:
        say(tokenizer / where, chat_template=template)
    assert torch.equal(states(folder), unspoiled) and not canary.exists()


def test_pickles_code_and_processors_beside_are_neither_read_nor_copied(folder: Path, canary: Path) -> None:
    plain, fired = states(folder), pickle.dumps(Canary(canary))
    beside = (
        "tokenizer/tokenizer.pkl",
        "tokenizer/tokenizer.model",
        "tokenizer/spiece.model",
        "text_encoder/model.bin",
    )
    for name in (*beside, "transformer/diffusion_pytorch_model.bin", "text_encoder/training_args.bin"):
        (folder / name).write_bytes(fired)
    for name in ("tokenizer/tokenization_evil.py", "text_encoder/modeling_evil.py", "pipeline.py"):
        (folder / name).write_text(f"open({str(canary)!r}, 'w').close()\n")
    (folder / "processor").mkdir()
    (folder / "processor" / "preprocessor_config.json").write_text('{"auto_map": {"AutoProcessor": "evil.P"}}')
    assert torch.equal(states(folder), plain) and not canary.exists()
    other = folder.parent.parent.parent / "other"
    assert put(folder, other, "x", convert=False)["layout"] in ("z_image", "lumina2")
    copied = {path.relative_to(other / "models" / "x").as_posix() for path in (other / "models" / "x").rglob("*.*")}
    assert copied == {path.relative_to(folder).as_posix() for path in needed_files(folder)}
    assert not any(name.endswith((".bin", ".py", ".pkl", ".model")) for name in copied)
    assert torch.equal(states(other / "models" / "x"), plain) and not canary.exists()
