"""What the tests of Custom Diffusion share: manifests that name concepts, requests, and a base with a model on it."""

import io
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.methods import token_rows
from konomi_trainer.methods.concept_file import ConceptModel
from tests.trainer import tiny
from tests.trainer.conftest import Bench

ORDINARY = ("a red hat", "big dog", "on the sea", "old house", "my tea cup", "new car", "two birds", "green leaf")


def pixels(data: bytes) -> np.ndarray:
    """Decodes an image."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def manifest(bench: Bench, tokens: Sequence[str] = ("<a>",), prior: str = "prior", side: int = 64) -> str:
    """Puts two images of each concept and eight regularisation images; returns the manifest's digest."""
    items = []
    for number, token in enumerate(tokens):
        for index in range(2):
            digest = bench.store.put(tiny.png(100 * number + index, side), "image/png").digest
            items.append(ManifestItem(digest, f"a {token} face", 1.0, "selected"))
    for index, caption in enumerate(ORDINARY if prior else ()):
        digest = bench.store.put(tiny.png(900 + index, side), "image/png").digest
        items.append(ManifestItem(digest, caption, 1.0, prior))
    return bench.store.put(render(tuple(items)), "application/json").digest


def request(
    bench: Bench, digest: str, tokens: Sequence[str] = ("<a>",), base: str = "tiny", **numbers: Any
) -> pb.CreateTrainingRunRequest:
    """Returns a request for a short Custom Diffusion run."""
    numbers = {"steps": 6, "batch_size": 4, "checkpoint_steps": 2, "learning_rate": 0.01, **numbers}
    return pb.CreateTrainingRunRequest(
        taste="tastes/default",
        manifest_digest=digest,
        method=pb.TRAINING_METHOD_CUSTOM_DIFFUSION,
        base_model=base,
        hyper_parameters=pb.HyperParameters(**numbers),
        seed=7,
        request_id=str(uuid.uuid4()),
        display_name=f"concept-{tokens[0].strip('<>')}",
        concepts=[pb.Concept(token=token, class_word="face") for token in tokens],
    )


def trained(bench: Bench, tokens: Sequence[str] = ("<a>",), base: str = "tiny", **numbers: Any) -> pb.Model:
    """Trains a model of these concepts and returns it."""
    made = request(bench, manifest(bench, tokens, side=64 if base == "tiny" else 16), tokens, base, **numbers)
    run = bench.finish(bench.client.trainer.create_training_run(made).name)
    assert run.state == pb.TRAINING_STATE_SUCCEEDED, run
    return bench.client.trainer.get_model(name=run.model)


def pipeline(folder: Path, model: ConceptModel | None = None, scale: float = 1.0) -> Any:
    """Returns a base pipeline with a model's changes added to its weights and its tokens bound."""
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    if model is not None:
        towers = [(pipe.tokenizer, pipe.text_encoder)]
        if getattr(pipe, "tokenizer_2", None) is not None:
            towers.append((pipe.tokenizer_2, pipe.text_encoder_2))
        bound = token_rows.bind(towers, model.concepts)
        with torch.no_grad():
            for token, rows in model.rows.items():
                for parameter, row in zip(bound[token], rows, strict=True):
                    parameter.copy_(row)
            for name, delta in model.dense().items():
                pipe.unet.get_submodule(name).weight.add_(scale * delta)
    return pipe


def draw(pipe: Any, prompt: str) -> torch.Tensor:
    """Returns the (1, S, S, 3) image of a prompt."""
    generator = torch.Generator().manual_seed(3)
    found = pipe(prompt, num_inference_steps=3, guidance_scale=2.0, generator=generator, output_type="np").images
    return torch.from_numpy(found)
