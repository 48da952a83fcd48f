"""Re-makes the bundled models from scratch: `python -m konomi_starter.training.recipe STAGE --work FOLDER`.

Stages, each resumable: render, encoder, unet, decoder, reader, embedder, assemble, card. The UNet needs only
the encoder, so `unet` runs on one core while `reader`, `decoder` and `embedder` share the other.
"""

import argparse
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from konomi_starter.data import captions, renderer
from konomi_starter.data.renderer import Portraits
from konomi_starter.training import assembly, attribute_reader, autoencoder, embedder, text_to_image
from konomi_starter.training.text_to_image import DiffusionPreset

SEED = 20261122


@dataclass(frozen=True)
class Preset:
    """Sizes and step counts of one way to make the models."""

    renders: int
    diffusion: DiffusionPreset
    decoder_width: int
    decoder_steps: int
    decoder_batch: int
    embedder_width: int
    embedder_steps: int
    embedder_batch: int
    reader_steps: int
    device: str


PRESETS = {
    "cpu": Preset(64000, DiffusionPreset((64, 96), 11500, 32, 1.5e-3), 32, 12000, 8, 20, 2250, 128, 4000, "cpu"),
    "gpu": Preset(120000, DiffusionPreset((96, 160), 10000, 512, 2e-3), 64, 30000, 64, 32, 6000, 512, 8000, "cuda"),
    "smoke": Preset(256, DiffusionPreset((32, 32), 4, 4, 1e-3), 32, 4, 4, 20, 4, 16, 4, "cpu"),
}


def training_set(work: Path, preset: Preset) -> Portraits:
    """Returns the training renders, two halves joined."""
    half = preset.renders // 2
    parts = [renderer.render(half, work / f"train{seed}", seed=seed) for seed in (1, 2)]
    return Portraits(np.concatenate([p.pixels for p in parts]), [r for p in parts for r in p.records])


def held_out(work: Path) -> Portraits:
    """Returns 4,000 renders no stage trains on."""
    return renderer.render(4000, work / "val", seed=99)


def tokenizer(work: Path):  # noqa: ANN201 - transformers is imported where it is used
    """Returns the caption tokenizer, built at first use."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(work / "vocabulary" / "tokenizer")


def encoder_stage(work: Path, preset: Preset) -> None:
    """Builds vocabulary, solves the encoder and encodes every render."""
    data = training_set(work, preset)
    captions.build_vocabulary(data.records[:20000], work / "vocabulary", seed=SEED)
    model = autoencoder.solve_encoder(
        np.asarray(data.pixels[:: max(1, len(data.pixels) // 4000)]), preset.decoder_width
    )
    model.save_pretrained(work / "autoencoder")
    latents = autoencoder.encode(model, data.pixels, preset.device)
    logging.info("latents %s std %.3f", tuple(latents.shape), latents[:2000].float().std())
    save_file({"latents": latents}, work / "latents.safetensors")


def unet_stage(work: Path, preset: Preset) -> None:
    """Trains text encoder and UNet."""
    records, val, words = training_set(work, preset).records, held_out(work), tokenizer(work)
    vae = autoencoder.AutoencoderTiny.from_pretrained(work / "autoencoder")
    latents = load_file(work / "latents.safetensors")["latents"]
    text, unet = text_to_image.build(words, preset.diffusion, SEED)
    held = (autoencoder.encode(vae, val.pixels[:192], preset.device), val.records[:192])
    text_to_image.train(
        text,
        unet,
        words,
        latents,
        records,
        held,
        preset.diffusion,
        checkpoint=work / "unet.safetensors",
        seed=SEED,
        device=preset.device,
    )


def decoder_stage(work: Path, preset: Preset) -> None:
    """Trains the decoder."""
    data, val = training_set(work, preset), held_out(work)
    torch.manual_seed(SEED)
    model = autoencoder.solve_encoder(
        np.asarray(data.pixels[:: max(1, len(data.pixels) // 4000)]), preset.decoder_width
    )
    latents = load_file(work / "latents.safetensors")["latents"]
    autoencoder.train_decoder(
        model,
        data.pixels,
        latents,
        val.pixels[:128],
        steps=preset.decoder_steps,
        batch=preset.decoder_batch,
        checkpoint=work / "decoder.safetensors",
        seed=SEED,
        device=preset.device,
    )


def reader_stage(work: Path, preset: Preset) -> None:
    """Trains the attribute reader and prints its held-out accuracy."""
    data, val = training_set(work, preset), held_out(work)
    torch.manual_seed(SEED)
    model = attribute_reader.AttributeReader()
    attribute_reader.train(model, data.pixels, data.records, steps=preset.reader_steps, seed=SEED, device=preset.device)
    read = model.read(val.pixels)
    accuracy = {
        n: sum(a[n] == b[n] for a, b in zip(read, val.records, strict=True)) / len(read) for n in captions.ATTRIBUTES
    }
    logging.info("reader %s", accuracy)
    save_file(
        {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()},
        work / "reader.safetensors",
    )


def embedder_stage(work: Path, preset: Preset) -> None:
    """Trains the open_clip model."""
    from open_clip.tokenizer import SimpleTokenizer

    data = training_set(work, preset)
    tokenize = SimpleTokenizer(bpe_path=str(work / "vocabulary" / "bpe.txt.gz"), context_length=captions.CONTEXT_LENGTH)
    config = embedder.model_config(preset.embedder_width, tokenize.vocab_size)
    (work / "embedder.json").write_text(json.dumps(config, indent=1))
    model = embedder.build(config, SEED)
    embedder.train(
        model,
        tokenize,
        data.pixels,
        data.records,
        steps=preset.embedder_steps,
        batch=preset.embedder_batch,
        checkpoint=work / "embedder.ckpt.safetensors",
        seed=SEED,
        device=preset.device,
    )


def assemble_stage(work: Path, preset: Preset) -> None:
    """Writes the model folders to `work`/models, from whatever has been trained so far."""
    out = work / "models"
    assembly.diffusion(work, out / "diffusion", preset.diffusion)
    if (work / "embedder.ckpt.safetensors").exists():
        assembly.embedder(work, out / "embedder")
    assembly.reader(work, out / "reader")


def card_stage(work: Path, preset: Preset) -> None:
    """Measures the assembled models, writes `figures.json` beside them and the sample sheet."""
    from konomi_starter.training import evaluation

    models = work / "models"
    figures = evaluation.evaluate(models, held_out(work), training_set(work, preset), count=min(1000, preset.renders))
    (models / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    evaluation.sample_sheet(models, work / "sample-sheet.png")
    print(json.dumps(figures, indent=1))


STAGES = {
    "render": lambda work, preset: (training_set(work, preset), held_out(work)),
    "encoder": encoder_stage,
    "unet": unet_stage,
    "decoder": decoder_stage,
    "reader": reader_stage,
    "embedder": embedder_stage,
    "assemble": assemble_stage,
    "card": card_stage,
}


def main() -> None:
    """Runs one stage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--preset", choices=PRESETS, default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    torch.set_num_threads(arguments.threads)
    STAGES[arguments.stage](arguments.work, PRESETS[arguments.preset])


if __name__ == "__main__":
    main()
