"""The denoising loop over a pipeline's parts: what diffusers' own call does, row by row reproducible.

Classifier-free guidance: eps = eps_uncond + w (eps_cond - eps_uncond), Ho and Salimans 2022, eq. 6. With
`guide_from_base` eps_uncond comes from the base model, so that w amplifies what the adapters learned too, as guidance
by a weaker version of the model itself does (Karras et al. 2024, 2406.02507).
"""

import inspect
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from konomi.errors import Cancelled
from konomi_generator.batches import SIZES, Batch
from konomi_generator.pipeline import make_scheduler
from konomi_generator.png import fit
from konomi_generator.request import Sampling, Wanted

KEPT_TEXT_BYTES = 64 << 20
LARGE_PIXELS = 256 * 256


@dataclass(frozen=True)
class Text:
    """An encoded text: hidden states (1, T, C), and for SDXL the pooled vector (1, P)."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


class Denoiser:
    """Makes batches of images with one pipeline; safe to use from several threads at once."""

    def __init__(self, pipe: Any, base_unet: Callable[[], Any] | None = None) -> None:
        """Takes the pipeline, and what returns its UNet as it is without adapters; its own when none are ever on it."""
        self.pipe = pipe
        self._base_unet = base_unet or (lambda: pipe.unet)
        self._device, self._dtype = pipe.unet.device, pipe.unet.dtype
        self._texts: OrderedDict[str, Text] = OrderedDict()
        self._lock = threading.Lock()
        self._sdxl = hasattr(pipe, "text_encoder_2")

    def forget_texts(self) -> None:
        """Drops the encoded texts; to be called when the text encoder's weights change."""
        with self._lock:
            self._texts.clear()

    def denoising_steps(self, wanted: Wanted, sampling: Sampling) -> int:
        """Returns how many steps an image runs: all of them, or its strength's share."""
        return sampling.steps if wanted.init is None else min(int(sampling.steps * wanted.strength), sampling.steps)

    def kind(self, wanted: Wanted, sampling: Sampling) -> tuple[bool, int]:
        """Returns what images of one batch must have in common: whether they start from a picture, and their steps."""
        return wanted.init is not None, self.denoising_steps(wanted, sampling)

    def run(self, batch: Batch, sampling: Sampling, stopped: Callable[[], bool]) -> np.ndarray:
        """Makes a batch of images.

        Returns:
            (n, H, W, 3) float32 in 0..1, NaN where the model broke down, for the n images of the batch.

        Raises:
            Cancelled: `stopped` said so before a step.
        """
        rows = [*batch.wanted, *[batch.wanted[-1]] * (batch.rows - len(batch.wanted))]
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        scheduler = make_scheduler(self.pipe, sampling.scheduler)
        scheduler.set_timesteps(sampling.steps, device=self._device)
        timesteps = self._start(scheduler, sampling.steps, self.denoising_steps(rows[0], sampling))
        latents = self._first_latents(rows, sampling, scheduler, timesteps, generators)
        guided = sampling.guidance_scale > 1 and self.pipe.unet.config.time_cond_proj_dim is None
        conditions = self._conditions([row.prompt for row in rows], sampling, guided)
        extra = {"generator": generators} if _takes_generator(scheduler) else {}
        for t in timesteps:
            if stopped():
                raise Cancelled("The caller went away.", reason="CANCELLED")
            model_input = scheduler.scale_model_input(torch.cat([latents] * 2) if guided else latents, t)
            if guided and sampling.guide_from_base:
                without, with_text = self._apart(model_input, t, conditions)
            else:
                noise = self.pipe.unet(model_input, t, return_dict=False, **conditions)[0]
                without, with_text = noise.chunk(2) if guided else (noise, noise)
            if guided:
                noise = without + sampling.guidance_scale * (with_text - without)
            latents = scheduler.step(noise, t, latents, return_dict=False, **extra)[0].to(self._dtype)
        return self._decode(latents)[: len(batch.wanted)]

    def _apart(
        self, model_input: torch.Tensor, t: torch.Tensor, conditions: dict[str, Any]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the unconditional half from the base model and the conditional half from the adapted one."""
        half = len(model_input) // 2
        parts = []
        for unet, rows in ((self._base_unet(), slice(0, half)), (self.pipe.unet, slice(half, None))):
            chosen = {name: _rows(value, rows) for name, value in conditions.items()}
            parts.append(unet(model_input[rows], t, return_dict=False, **chosen)[0])
        return parts[0], parts[1]

    def stable_sizes(self, sampling: Sampling, sizes: Sequence[int] = SIZES) -> tuple[int, ...]:
        """Returns the batch sizes whose rows are equal to the last bit, wherever a row stands; (1,) when none agree.

        Matrix libraries choose other kernels for small shapes, so rows of a batch of 1 and of 16 differ in their
        last bit; which sizes agree depends on the machine, so it is measured, with one pass over random rows.
        """
        rows = 2 * max(sizes)
        latents = _noise(self._shape(sampling, rows), torch.Generator().manual_seed(0)).to(self._device, self._dtype)
        text = self.text("")
        conditions = {"encoder_hidden_states": _spread(text.hidden, rows)} | self._added(
            None if text.pooled is None else _spread(text.pooled, rows), sampling
        )
        whole = self._in_chunks(latents, conditions, rows)
        agreeing = {
            n: torch.equal(self._in_chunks(latents, conditions, n), whole) for n in {*sizes, *(2 * n for n in sizes)}
        }
        pixels = self._decode(latents[: max(sizes)])
        stable = []
        for size in sizes:
            decoded = np.concatenate([self._decode(part) for part in latents[: max(sizes)].split(size)])
            if agreeing[size] and agreeing[2 * size] and np.array_equal(decoded, pixels, equal_nan=True):
                stable.append(size)
        return tuple(stable) if len(stable) > 1 else (1,)

    def text(self, text: str) -> Text:
        """Returns an encoded text; each is encoded alone, so no other text changes it.

        One at a time: a tokenizer keeps its padding as state, and encode_prompt asks for two kinds in turn, so a
        second thread would now and then get a text of the wrong length.
        """
        with self._lock:
            if text in self._texts:
                self._texts.move_to_end(text)
                return self._texts[text]
            options = {"device": self._device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
            encoded = self.pipe.encode_prompt(text, **options)
            result = Text(encoded[0], encoded[2] if self._sdxl else None)
            self._texts[text] = result
            kept = max(64, KEPT_TEXT_BYTES // (result.hidden.numel() * result.hidden.element_size()))
            while len(self._texts) > kept:
                self._texts.popitem(last=False)
        return result

    def _conditions(self, prompts: Sequence[str], sampling: Sampling, guided: bool) -> dict[str, Any]:
        texts = [self.text(prompt) for prompt in prompts]
        if guided:
            texts = [self._negative(sampling.negative_prompt, texts[0])] * len(prompts) + texts
        pooled = torch.cat([text.pooled for text in texts]) if self._sdxl else None
        conditions = {"encoder_hidden_states": torch.cat([text.hidden for text in texts])}
        if self.pipe.unet.config.time_cond_proj_dim is not None:
            scale = torch.tensor(sampling.guidance_scale - 1).repeat(len(prompts))
            width = self.pipe.unet.config.time_cond_proj_dim
            embedding = self.pipe.get_guidance_scale_embedding(scale, embedding_dim=width)
            conditions["timestep_cond"] = embedding.to(self._device, self._dtype)
        return conditions | self._added(pooled, sampling)

    def _negative(self, text: str, like: Text) -> Text:
        if self._sdxl and not text and self.pipe.config.force_zeros_for_empty_prompt:
            return Text(torch.zeros_like(like.hidden), torch.zeros_like(like.pooled))
        return self.text(text)

    def _added(self, pooled: torch.Tensor | None, sampling: Sampling) -> dict[str, Any]:
        if pooled is None:
            return {}
        size = [sampling.height, sampling.width]
        ids = torch.tensor([[*size, 0, 0, *size]], dtype=self._dtype, device=self._device)
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}}

    def _start(self, scheduler: Any, steps: int, run: int) -> torch.Tensor:
        skipped = (steps - run) * scheduler.order
        if skipped and hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(skipped)
        return scheduler.timesteps[skipped:] if run else scheduler.timesteps[:0]

    def _first_latents(
        self,
        rows: Sequence[Wanted],
        sampling: Sampling,
        scheduler: Any,
        timesteps: torch.Tensor,
        generators: Sequence[torch.Generator],
    ) -> torch.Tensor:
        shape = self._shape(sampling, 1)
        if rows[0].init is None:
            noise = torch.cat([_noise(shape, generator) for generator in generators])
            return noise.to(self._device, self._dtype) * scheduler.init_noise_sigma
        known: dict[int, torch.Tensor] = {}
        images, noises = [], []
        for row, generator in zip(rows, generators, strict=True):
            if row.index not in known:
                known[row.index] = self._encode(row, sampling, generator)
            images.append(known[row.index])
            noises.append(_noise(shape, generator))
        latents, noise = torch.cat(images), torch.cat(noises).to(self._device, self._dtype)
        return scheduler.add_noise(latents, noise, timesteps[:1].repeat(len(rows))) if len(timesteps) else latents

    def _encode(self, row: Wanted, sampling: Sampling, generator: torch.Generator) -> torch.Tensor:
        assert row.init is not None
        pixels = fit(row.init(), sampling.width, sampling.height)  # (H, W, 3) uint8
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].to(self._device, self.pipe.vae.dtype) / 127.5 - 1
        encoded = self.pipe.vae.encode(image)
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.sample(generator)
        return (latents * self.pipe.vae.config.scaling_factor).to(self._dtype)

    def _decode(self, latents: torch.Tensor) -> np.ndarray:
        """Returns (n, H, W, 3) float32 in 0..1; large images one by one, which needs less memory and costs nothing."""
        latents = (latents / self.pipe.vae.config.scaling_factor).to(self.pipe.vae.dtype)
        large = latents.shape[-1] * latents.shape[-2] * self.pipe.vae_scale_factor**2 > LARGE_PIXELS
        parts = latents.split(1 if large else len(latents))
        images = torch.cat([self.pipe.vae.decode(part, return_dict=False)[0] for part in parts])
        return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()

    def _in_chunks(self, latents: torch.Tensor, conditions: dict[str, Any], size: int) -> torch.Tensor:
        t = torch.tensor(500, device=self._device)
        parts = []
        for start in range(0, len(latents), size):
            rows = slice(start, start + size)
            chosen = {name: _rows(value, rows) for name, value in conditions.items()}
            parts.append(self.pipe.unet(latents[rows], t, return_dict=False, **chosen)[0])
        return torch.cat(parts)

    def _shape(self, sampling: Sampling, rows: int) -> tuple[int, int, int, int]:
        scale = self.pipe.vae_scale_factor
        return (rows, self.pipe.unet.config.in_channels, sampling.height // scale, sampling.width // scale)


def _noise(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Returns standard normal numbers, always drawn on the CPU so that a seed means the same on every device."""
    return torch.randn(shape, generator=generator)


def _rows(value: Any, rows: slice) -> Any:
    return {name: inner[rows] for name, inner in value.items()} if isinstance(value, dict) else value[rows]


def _spread(row: torch.Tensor, rows: int) -> torch.Tensor:
    """Returns so many different rows made of one: (rows, ...)."""
    noise = torch.randn((rows, *row.shape[1:]), generator=torch.Generator().manual_seed(1))
    return row + 0.1 * noise.to(row.device, row.dtype)


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters
