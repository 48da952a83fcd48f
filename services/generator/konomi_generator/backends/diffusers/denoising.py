"""The denoising loop over a pipeline's parts: what diffusers' own call does, row by row reproducible.

Classifier-free guidance: eps = eps_uncond + w (eps_cond - eps_uncond), Ho and Salimans 2022, eq. 6. With
`guide_from_base` eps_uncond comes from the base model, so that w amplifies what the adapters learned too, as guidance
by a weaker version of the model itself does (Karras et al. 2024, 2406.02507). With `base_share` the first steps, which
lay out a picture, run without the adapters altogether. With `guidance_rescale` the guided answer gets the spread of the
answer to the prompt back, by that share (Lin et al. 2023, 2305.08891, eq. 15 and 16).
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from konomi.errors import Cancelled
from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.family import NoisePath
from konomi_chassis.models.families.guidance import guided_by
from konomi_chassis.models.families.table import of_pipeline
from konomi_generator.backends import image_prompts
from konomi_generator.backends.diffusers.batches import SIZES, DenoisingBatch
from konomi_generator.backends.diffusers.condition_annealing import Annealer
from konomi_generator.backends.diffusers.latents import Latents, noise
from konomi_generator.backends.diffusers.memory_fallback import FallbackLevel, Places, decoding_in_tiles
from konomi_generator.backends.diffusers.pipeline import make_schedule
from konomi_generator.backends.diffusers.text_conditioning import Texts
from konomi_generator.backends.image_prompts import Embeds
from konomi_generator.sampling import ImageRequest, Sampling

Watch = Callable[[int, np.ndarray], None]
"""Takes the steps done and what the images of a batch promise to be, (n, h, w, 3) float32 in 0..1."""


@dataclass(frozen=True)
class _Step:
    """One denoising step: its place among all steps of the schedule, 0..1, its timestep, the scheduler."""

    place: float
    timestep: torch.Tensor
    scheduler: Any


@dataclass(frozen=True)
class _Start:
    """What the loop begins with: noise and its schedule, random streams, latents (n, C, h, w), conditions."""

    path: NoisePath
    scheduler: Any
    timesteps: torch.Tensor
    generators: Sequence[torch.Generator]
    latents: torch.Tensor
    conditions: Condition
    anneal: Annealer | None
    guided: bool


class Denoiser:
    """Makes batches of images with one pipeline; safe to use from several threads at once."""

    def __init__(self, pipe: Any, base_unet: Callable[[], Any] | None = None, places: Places | None = None) -> None:
        """Takes the pipeline, what returns its network as it is without adapters, and what moves its parts.

        Args:
            pipe: a pipeline of one of the families.
            base_unet: where none is given no adapter is ever on the pipeline.
            places: where none is given all runs where the pipeline's network is.
        """
        self.pipe, self.family = pipe, of_pipeline(pipe)
        self.places = places or Places(pipe, self.network.device, largest=self.family.network)
        self.device, self._dtype = self.places.device, self.network.dtype
        self.texts, self.latents = Texts(pipe, self.device), Latents(pipe, self.device)
        self._path = self.family.path(pipe.scheduler)
        self._base_unet = base_unet or (lambda: self.network)
        self.image_prompt: Embeds | None = None
        self.preview_vae: Any = None
        self.places.more["preview"] = lambda: self.preview_vae

    @property
    def network(self) -> Any:
        """What denoises, with the adapters that are on."""
        return getattr(self.pipe, self.family.network)

    def text(self, text: str) -> Condition:
        """Returns an encoded text."""
        return self.texts.encode(text)

    def denoising_steps(self, image: ImageRequest, sampling: Sampling) -> int:
        """Returns how many steps an image runs: all of them, or its strength's share."""
        return sampling.steps if image.init is None else self._path.steps_run(sampling.steps, image.strength)

    def length(self, image: ImageRequest, sampling: Sampling) -> int:
        """Returns how many chunks of tokens an image's conditions have."""
        return self.texts.length(image.prompt, sampling, self._is_guided(sampling))

    def kind(self, image: ImageRequest, sampling: Sampling) -> tuple[bool, int, int]:
        """Returns what images of one batch must have in common.

        Returns:
            Whether they start from a picture, their steps, and the chunks of their conditions.
        """
        return image.init is not None, self.denoising_steps(image, sampling), self.length(image, sampling)

    def run(
        self,
        batch: DenoisingBatch,
        sampling: Sampling,
        stopped: Callable[[], bool],
        watch: Watch | None = None,
        level: FallbackLevel = FallbackLevel.NOTHING,
        redone: set[int] | None = None,
    ) -> np.ndarray:
        """Makes a batch of images.

        Args:
            batch: images of one kind.
            sampling: their settings.
            stopped: asked before every step.
            watch: takes previews as often as the settings say.
            level: how much to give up for memory.
            redone: takes the rows that were decoded again in float32, because what came out were no numbers.

        Returns:
            (n, H, W, 3) float32 in 0..1, NaN where the model broke down, for the n images of the batch.

        Raises:
            Cancelled: `stopped` said so before a step.
        """
        rows = [*batch.images, *[batch.images[-1]] * (batch.rows - len(batch.images))]
        with decoding_in_tiles(self.pipe, level):
            with self.places.only(*(set(self.family.weighted) - {self.family.network}), level=level):
                start = self._begin(rows, sampling)
            if sampling.guide_from_base or sampling.base_share:
                self._base_unet()  # made now, so that it moves with the other
            with self.places.only(self.family.network, level=level):
                latents = self._denoise(start, sampling, stopped, watch)
            with self.places.only("vae", level=level):
                images = self.latents.decode(latents)
                again = self.latents.mend(images, latents)
        if redone is not None:
            redone.update(row for row in again if row < len(batch.images))
        return images[: len(batch.images)]

    def _begin(self, rows: Sequence[ImageRequest], sampling: Sampling) -> _Start:
        """Encodes texts and pictures, draws the noise."""
        generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        schedule = make_schedule(self.pipe, sampling)
        path, scheduler = schedule.path, schedule.begin(sampling.steps, self.device, self.latents.cells(sampling))
        timesteps = _remaining(scheduler, sampling.steps, self.denoising_steps(rows[0], sampling))
        guided = self._is_guided(sampling)
        conditions = self.texts.conditions([row.prompt for row in rows], sampling, guided)
        conditions = self._with_images(conditions, len(rows), guided)
        latents = self.latents.first(rows, sampling, path, scheduler, timesteps, generators)
        anneal = Annealer(sampling.annealing, [row.seed for row in rows]) if sampling.annealing else None
        return _Start(path, scheduler, timesteps, generators, latents, conditions, anneal, guided)

    def _with_images(self, conditions: Condition, rows: int, guided: bool) -> Condition:
        """Returns the conditions with what the images of a prompt add, where there are any."""
        if self.image_prompt is None:
            return conditions
        seen = image_prompts.rows(self.image_prompt, rows, guided=guided)
        return replace(conditions, images=tuple(part.to(self.device) for part in seen))

    def _denoise(
        self, start: _Start, sampling: Sampling, stopped: Callable[[], bool], watch: Watch | None
    ) -> torch.Tensor:
        """Returns the finished latents."""
        scheduler, latents, rows = start.scheduler, start.latents, len(start.latents)
        extra = {"generator": start.generators} if _takes_generator(scheduler) else {}
        whole, steps = len(scheduler.timesteps), len(start.timesteps)
        for number, t in enumerate(start.timesteps):
            if stopped():
                raise Cancelled("The caller went away.", reason="CANCELLED")
            step = _Step((whole - steps + number) / whole, t, scheduler)
            given = _annealed(start.conditions, start.anneal, step, rows) if start.anneal else start.conditions
            scaled = start.path.scaled(scheduler, torch.cat([latents] * 2) if start.guided else latents, t)
            answer = self._predict(scaled.to(self._dtype), given, step, sampling, start.guided).to(latents.dtype)
            latents = scheduler.step(answer, t, latents, return_dict=False, **extra)[0].to(latents.dtype)
            if watch and _is_due(number + 1, steps, sampling.preview_every):
                finished = start.path.clean(scaled[-rows:], answer, t)
                watch(number + 1, self.latents.decode(finished, self.preview_vae))
        return latents

    def _is_guided(self, sampling: Sampling) -> bool:
        return sampling.guidance_scale > 1 and self.family.is_guided(self.pipe)

    def stable_sizes(self, sampling: Sampling, sizes: Sequence[int] = SIZES, length: int = 1) -> tuple[int, ...]:
        """Returns the batch sizes whose rows are equal to the last bit, wherever a row stands; (1,) when none agree.

        Matrix libraries choose other kernels for small shapes, so rows of a batch of 1 and of 16 differ in their
        last bit; which sizes agree depends on the machine, so it is measured, with one pass over random rows.

        Args:
            sampling: settings of the images.
            sizes: batch sizes to try.
            length: chunks of the images' conditions.
        """
        rows = 2 * max(sizes)
        start = noise(self.latents.shape(sampling, rows), torch.Generator().manual_seed(0))
        latents = start.to(self.device, self._dtype)
        text, unit = self.text(""), self.family.defaults.text_unit
        hidden = text.hidden.repeat(1, length, 1)
        if unit:
            hidden = text.hidden.repeat(1, -(-unit * length // text.hidden.shape[1]), 1)[:, : unit * length]
        hidden = _spread(hidden, rows)
        texts = Condition(hidden, None if text.pooled is None else _spread(text.pooled, rows))
        conditions = self._with_images(self.texts.sized(texts, sampling), rows, guided=False)
        whole = self._in_chunks(latents, conditions, rows)
        agreeing = {
            n: torch.equal(self._in_chunks(latents, conditions, n), whole) for n in {*sizes, *(2 * n for n in sizes)}
        }
        pixels = self.latents.decode(latents[: max(sizes)])
        stable = []
        for size in sizes:
            decoded = np.concatenate([self.latents.decode(part) for part in latents[: max(sizes)].split(size)])
            if agreeing[size] and agreeing[2 * size] and np.array_equal(decoded, pixels, equal_nan=True):
                stable.append(size)
        return tuple(stable) if len(stable) > 1 else (1,)

    def _predict(
        self, scaled: torch.Tensor, conditions: Condition, step: _Step, sampling: Sampling, guided: bool
    ) -> torch.Tensor:
        """Returns the network's answer, guided where it is to be."""
        network = self._base_unet() if step.place < sampling.base_share else self.network
        weaker = self._base_unet() if sampling.guide_from_base else network
        t, answer, guiding = step.timestep, self.family.answer, self.family.defaults.guiding
        if not guided:
            return answer(network, scaled, t, conditions)
        if weaker is network and not guiding.apart:
            without, with_text = answer(network, scaled, t, conditions).chunk(2)
        else:
            half = len(scaled) // 2
            first, second = slice(0, half), slice(half, None)
            without = answer(weaker, scaled[first], t, conditions.rows(first))
            with_text = answer(network, scaled[second], t, conditions.rows(second))
        guided_answer = guided_by(guiding.rule, without, with_text, sampling.guidance_scale)
        return _rescaled(guided_answer, with_text, sampling.guidance_rescale)

    def _in_chunks(self, latents: torch.Tensor, conditions: Condition, size: int) -> torch.Tensor:
        t = torch.tensor(500, device=self.device)
        parts = []
        for start in range(0, len(latents), size):
            rows = slice(start, start + size)
            parts.append(self.family.answer(self.network, latents[rows], t, conditions.rows(rows)))
        return torch.cat(parts)


def _rescaled(guided: torch.Tensor, with_text: torch.Tensor, share: float) -> torch.Tensor:
    """Returns the guided answer (n, C, h, w) with the spread of the prompt's answer, row by row, by a share."""
    if not share:
        return guided
    rows = [row * (text.std() / row.std()) for row, text in zip(guided, with_text, strict=True)]
    return share * torch.stack(rows) + (1 - share) * guided


def _remaining(scheduler: Any, steps: int, run: int) -> torch.Tensor:
    """Returns the timesteps of the last `run` of `steps` steps."""
    skipped = (steps - run) * scheduler.order
    if skipped and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    return scheduler.timesteps[skipped:] if run else scheduler.timesteps[:0]


def _annealed(conditions: Condition, anneal: Annealer, step: _Step, rows: int) -> Condition:
    """Returns the conditions with noise on those of the prompts, which are the last `rows`."""
    time = float(step.timestep) / step.scheduler.config.num_train_timesteps
    hidden, pooled = conditions.hidden, conditions.pooled
    own = None if conditions.mask is None else conditions.mask[-rows:].sum(1).tolist()
    hidden = torch.cat([hidden[:-rows], anneal(hidden[-rows:], time, own)])
    if pooled is not None:
        pooled = torch.cat([pooled[:-rows], anneal(pooled[-rows:], time)])
    return replace(conditions, hidden=hidden, pooled=pooled)


def _is_due(done: int, steps: int, every: int) -> bool:
    return every > 0 and done < steps and done % every == 0


def _spread(row: torch.Tensor, rows: int) -> torch.Tensor:
    """Returns so many different rows made of one: (rows, ...)."""
    drawn = torch.randn((rows, *row.shape[1:]), generator=torch.Generator().manual_seed(1))
    return row + 0.1 * drawn.to(row.device, row.dtype)


def _takes_generator(scheduler: Any) -> bool:
    return "generator" in inspect.signature(scheduler.step).parameters
