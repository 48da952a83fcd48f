"""The starter's text-to-image model: Stable Diffusion's layout at 8 x 8 latents, trained from scratch."""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderTiny,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from konomi_starter.data.captions import CONTEXT_LENGTH, Record, caption, full_caption
from konomi_starter.training.autoencoder import LATENT_CHANNELS
from konomi_starter.training.optimisation import Average, cosine, descend, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "steps_offset": 1,
}


@dataclass(frozen=True)
class DiffusionPreset:
    """How large and how long: channels of the two UNet levels, steps, batch size, peak learning rate."""

    channels: tuple[int, int]
    steps: int
    batch: int
    learning_rate: float


def build(tokenizer: CLIPTokenizer, preset: DiffusionPreset, seed: int) -> tuple[CLIPTextModel, UNet2DConditionModel]:
    """Builds text encoder and UNet with random weights.

    Token embeddings start at std 0.3: with CLIP's default 0.02 and one learning rate the text encoder
    collapses and geometry words never bind.
    """
    torch.manual_seed(seed)
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_LENGTH,
            projection_dim=128,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for name, weight in text.named_parameters():
        if "token_embedding" in name or "position_embedding" in name:
            torch.nn.init.normal_(weight, std=0.3 if "token" in name else 0.1)
    unet = UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2,
        block_out_channels=preset.channels,
        layers_per_block=1,
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )
    return text, unet.to(memory_format=torch.channels_last)


class PhraseTokens:
    """Token ids of captions, phrase by phrase, since the same few phrases come back for ever."""

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        self.tokenizer = tokenizer
        self.cache: dict[str, list[int]] = {}

    def __call__(self, captions: list[str]) -> torch.Tensor:
        """Returns (N, 24) int64 ids, padded with the end token as CLIPTokenizer pads."""
        end = self.tokenizer.eos_token_id
        ids = torch.full((len(captions), CONTEXT_LENGTH), end)
        for row, text in enumerate(captions):
            tokens = [self.tokenizer.bos_token_id]
            for k, phrase in enumerate(text.split(", ") if text else []):
                tokens += ([] if k == 0 else self._phrase(",")) + self._phrase(phrase)
            tokens.append(end)
            ids[row, : len(tokens)] = torch.tensor(tokens)
        return ids

    def _phrase(self, phrase: str) -> list[int]:
        if phrase not in self.cache:
            self.cache[phrase] = self.tokenizer(phrase).input_ids[1:-1]
        return self.cache[phrase]


FLIPS = {
    "hair_length": lambda r: "short" if r["hair_length"] == "long" else "long",
    "glasses": lambda r: r["glasses"] if r["style"] == "toon" else ("glasses" if r["glasses"] == "none" else "none"),
    "beard": lambda r: r["beard"] if r["style"] == "comic" else ("beard" if r["beard"] == "none" else "none"),
    "hair_colour": lambda r: "pink" if r["hair_colour"] == "green" else "green",
}


@torch.no_grad()
def flip_gaps(
    unet: UNet2DConditionModel,
    text: CLIPTextModel,
    tokens: PhraseTokens,
    latents: torch.Tensor,
    records: Sequence[Record],
    device: str,
) -> dict[str, float]:
    """Returns validation loss with one word flipped minus loss with the true caption: 0 means the word is ignored."""
    scheduler = DDPMScheduler(**SCHEDULE)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(3)).to(device)
    t = torch.linspace(150, 999, len(latents)).long().to(device)
    noisy, target = scheduler.add_noise(latents, noise, t), scheduler.get_velocity(latents, noise, t)

    def loss(rows: Sequence[Record]) -> float:
        hidden = text(tokens([full_caption(r) for r in rows]).to(device))[0]
        return functional.mse_loss(unet(noisy, t, hidden).sample, target).item()

    true = loss(records)
    return {"loss": true} | {name: loss([{**r, name: flip(r)} for r in records]) - true for name, flip in FLIPS.items()}


def _optimizer(unet: UNet2DConditionModel, text: CLIPTextModel, learning_rate: float) -> torch.optim.AdamW:
    """Returns AdamW; the text encoder learns at a quarter of the rate."""
    rates = [(unet, 1.0), (text, 0.25)]
    return torch.optim.AdamW(
        [{"params": m.parameters(), "factor": f} for m, f in rates],
        learning_rate,
        betas=(0.9, 0.99),
        weight_decay=1e-3,
        fused=True,
    )


def _draw_caption(record: Record, rng: random.Random) -> str:
    """Draws the caption a portrait is learned with; one in ten is empty, for classifier-free guidance."""
    return "" if rng.random() < 0.1 else caption(record, rng, drop=0.05, open_share=0.3)


def train(
    text: CLIPTextModel,
    unet: UNet2DConditionModel,
    tokenizer: CLIPTokenizer,
    latents: torch.Tensor,
    records: Sequence[Record],
    held_out: tuple[torch.Tensor, Sequence[Record]],
    preset: DiffusionPreset,
    *,
    checkpoint: Path,
    seed: int,
    device: str,
) -> None:
    """Trains text encoder and UNet jointly in place (v-prediction) and leaves their averaged weights."""
    text.to(device), unet.to(device)
    scheduler, tokens = DDPMScheduler(**SCHEDULE), PhraseTokens(tokenizer)
    optimizer = _optimizer(unet, text, preset.learning_rate)
    average = Average([unet, text], 0.998 if preset.batch <= 64 else 0.995)
    for step in range(load_checkpoint(checkpoint, [unet, text], optimizer, average), preset.steps):
        rng, words = np.random.default_rng((seed, step)), random.Random(f"{seed}-{step}")
        for group in optimizer.param_groups:
            group["lr"] = preset.learning_rate * group["factor"] * cosine(step, preset.steps, warmup=100)
        index = rng.integers(0, len(latents), preset.batch)
        captions = [_draw_caption(records[i], words) for i in index]
        x = latents[index].float().to(device)
        noise = torch.tensor(rng.standard_normal(x.shape, np.float32)).to(device)
        t = torch.tensor(rng.integers(0, 1000, preset.batch)).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            output = unet(scheduler.add_noise(x, noise, t), t, text(tokens(captions).to(device))[0]).sample
        loss = functional.mse_loss(output.float(), scheduler.get_velocity(x, noise, t))
        descend(loss, optimizer, average.live)
        average.update(step)
        if (step + 1) % 500 == 0 or step + 1 == preset.steps:
            save_checkpoint(checkpoint, step + 1, [unet, text], optimizer, average)
            average.swap()
            gaps = flip_gaps(unet, text, tokens, held_out[0].float().to(device), held_out[1], device)
            shown = " ".join(f"{k} {v:+.4f}" for k, v in gaps.items())
            log.info("unet step %d samples %d %s", step + 1, (step + 1) * preset.batch, shown)
            average.swap()
    average.swap()


def pipeline(
    text: CLIPTextModel, unet: UNet2DConditionModel, vae: AutoencoderTiny, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """Assembles the Stable Diffusion pipeline that is saved and shipped."""
    scheduler = DPMSolverMultistepScheduler(
        **SCHEDULE, algorithm_type="dpmsolver++", timestep_spacing="trailing", final_sigmas_type="zero"
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
