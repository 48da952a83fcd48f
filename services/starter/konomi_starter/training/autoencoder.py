"""The starter's autoencoder: a linear encoder solved in closed form, a convolutional decoder trained against it."""

import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional

from konomi_starter.training.optimisation import Average, cosine, descend, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)
LATENT_CHANNELS = 16


def to_model(pixels: np.ndarray) -> torch.Tensor:
    """Turns (N, H, W, 3) uint8 into (N, 3, H, W) float32 in -1..1."""
    return torch.tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def space_to_depth(x: np.ndarray) -> np.ndarray:
    """Folds 2 x 2 neighbourhoods into channels: (N, H, W, C) to (N, H/2, W/2, 4C), channel order (c, dy, dx)."""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(n, h // 2, w // 2, c * 4)


def solve_encoder(pixels: np.ndarray, width: int) -> AutoencoderTiny:
    """Builds the autoencoder with its encoder solved by two PCAs.

    48 to `width` channels uncentred, then 4 x `width` to 16 centred, scaled by eigenvalue^-1/4
    (partial whitening) to unit mean variance. AutoencoderTiny's own layers hold the result exactly.

    Args:
        pixels: (N, 64, 64, 3) uint8 sample of the training renders.
        width: channels of encoder and decoder.
    """
    folded = space_to_depth(space_to_depth(pixels.astype(np.float32) / 255))
    flat = folded.reshape(-1, 48)[::3]
    first = np.linalg.eigh(flat.T @ flat / len(flat))[1][:, ::-1][:, :32].astype(np.float32)
    flat = space_to_depth(folded @ first).reshape(-1, 128)
    mean = flat.mean(0)
    values, vectors = np.linalg.eigh(np.cov((flat - mean)[::2].T))
    values, second = values[::-1][:LATENT_CHANNELS], vectors[:, ::-1][:, :LATENT_CHANNELS]
    scale = values**-0.25
    scale = scale / np.sqrt(np.mean((np.sqrt(values) * scale) ** 2))
    model = AutoencoderTiny(
        encoder_block_out_channels=(32,) * 4,
        decoder_block_out_channels=(width,) * 4,
        latent_channels=LATENT_CHANNELS,
        num_encoder_blocks=(0, 0, 0, 0),
        num_decoder_blocks=(3, 3, 1, 0),
        latent_magnitude=3,
    )
    _place(model, first, (second * scale).astype(np.float32), -(mean @ second) * scale)
    return model


@torch.no_grad()
def _place(model: AutoencoderTiny, first: np.ndarray, second: np.ndarray, bias: np.ndarray) -> None:
    layers = list(model.encoder.layers)
    for layer in layers:
        layer.weight.zero_()
        if layer.bias is not None:
            layer.bias.zero_()
    for c in range(3):
        layers[0].weight[c, c, 1, 1] = 1
        for dy in range(2):
            for dx in range(2):
                layers[1].weight[c * 4 + dy * 2 + dx, c, 1 + dy, 1 + dx] = 1
    for layer, basis, channels in ((layers[2], first, 12), (layers[3], second, 32)):
        for c in range(channels):
            for dy in range(2):
                for dx in range(2):
                    layer.weight[: basis.shape[1], c, 1 + dy, 1 + dx] = torch.tensor(basis[c * 4 + dy * 2 + dx])
    for k in range(LATENT_CHANNELS):
        layers[4].weight[k, k, 1, 1] = 1
    layers[4].bias.copy_(torch.tensor(bias))


@torch.no_grad()
def encode(model: AutoencoderTiny, pixels: np.ndarray, device: str) -> torch.Tensor:
    """Returns latents (N, 16, 8, 8) float16 of (N, 64, 64, 3) uint8."""
    model.to(device)
    parts = [model.encoder(to_model(pixels[i : i + 500]).to(device)).half().cpu() for i in range(0, len(pixels), 500)]
    return torch.cat(parts).contiguous()


@torch.no_grad()
def psnr(model: AutoencoderTiny, latents: torch.Tensor, target: torch.Tensor) -> float:
    """Returns the mean peak signal-to-noise ratio in dB of decoded latents against (N, 3, H, W) in -1..1."""
    error = (model.decoder(latents).clamp(-1, 1) - target) / 2
    return float((-10 * error.pow(2).mean((1, 2, 3)).log10()).mean())


def _draw_noise(rng: np.random.Generator, batch: int) -> torch.Tensor:
    """Draws noise (batch, 16, 8, 8) of a spread of its own for each latent, at most 0.12."""
    noise = rng.standard_normal((batch, LATENT_CHANNELS, 8, 8), np.float32) * rng.random((batch, 1, 1, 1), np.float32)
    return torch.tensor(noise * 0.12)


def train_decoder(
    model: AutoencoderTiny,
    pixels: np.ndarray,
    latents: torch.Tensor,
    held_out: np.ndarray,
    *,
    steps: int,
    batch: int,
    checkpoint: Path,
    seed: int,
    device: str,
    save_every: int = 1000,
) -> None:
    """Trains the decoder in place with L1 + 2 MSE on slightly noised latents, and leaves its averaged weights."""
    model.to(device)
    decoder = model.decoder
    optimizer = torch.optim.AdamW(decoder.parameters(), 1e-3, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    average = Average([decoder], 0.999)
    target = to_model(held_out).to(device)
    held = model.encoder(target).detach()
    for step in range(load_checkpoint(checkpoint, [decoder], optimizer, average), steps):
        rng = np.random.default_rng((seed, step))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * cosine(step, steps, warmup=50)
        index = np.sort(rng.integers(0, len(pixels), batch))
        x = to_model(pixels[index]).to(device)
        y = decoder(latents[index].float().to(device) + _draw_noise(rng, batch).to(device))
        loss = functional.l1_loss(y, x) + 2 * functional.mse_loss(y, x)
        descend(loss, optimizer, decoder.parameters())
        average.update(step)
        if (step + 1) % save_every == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, [decoder], optimizer, average)
            average.swap()
            log.info("decoder step %d loss %.4f psnr %.2f dB", step + 1, loss.item(), psnr(model, held, target))
            average.swap()
    average.swap()
