"""The bundled models are what their card says: loadable, small, and they draw what is asked."""

import json

import pytest

from konomi_starter.data.captions import ATTRIBUTES, full_caption
from konomi_starter.installation import BUNDLED, digest_of, install

pytestmark = pytest.mark.slow


def test_they_are_safetensors_and_small():
    files = [path for path in BUNDLED.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 25e6
    weights = [path for path in files if path.stat().st_size > 100_000]
    assert weights and all(path.suffix == ".safetensors" for path in weights)


def test_installing_twice_and_over_a_damaged_copy_ends_in_the_bundled_bytes(tmp_path):
    told = install(tmp_path)
    target = tmp_path / "models" / "starter"
    assert told["digest"] == digest_of(BUNDLED) == digest_of(target)
    (target / "embedder" / "model.json").write_text("{}")
    assert install(tmp_path) == told
    assert digest_of(target) == told["digest"]


def test_the_generator_draws_and_the_reader_reads_what_was_asked():
    import torch

    from konomi_starter.training import attribute_reader, evaluation

    torch.set_num_threads(1)
    asked = [
        {name: values[(i * (k + 3) + k) % len(values)] for k, (name, values) in enumerate(ATTRIBUTES.items())}
        for i in range(64)
    ]
    for record in asked:  # what a style cannot show is not asked of it
        if record["style"] in ("comic", "ink"):
            record["shirt"] = "none"
        elif record["shirt"] == "none":
            record["shirt"] = "red"
        if record["style"] == "comic":
            record["beard"] = "none"
        if record["style"] == "toon":
            record["glasses"] = "none"
        if record["style"] == "flat" and record["glasses"] == "sunglasses":
            record["glasses"] = "glasses"
    drawn = evaluation.sample(evaluation.load_pipeline(BUNDLED / "diffusion"), [full_caption(r) for r in asked], seed=5)
    found = evaluation.adherence(attribute_reader.load(BUNDLED / "reader" / "model.safetensors").read(drawn), asked)
    assert all(share >= 0.85 for share in found.values()), found
    stated = json.loads((BUNDLED / "figures.json").read_text())["adherence"]
    assert min(stated.values()) >= 0.95
