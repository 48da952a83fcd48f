"""The denoising loss of a step's batch over cached latents, with cached or live embeddings, prior and held-out set."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch

from konomi_trainer.configuration import Configuration
from konomi_trainer.data import dataset
from konomi_trainer.data.ahead import Ahead
from konomi_trainer.data.conditions import embedded
from konomi_trainer.methods import contrast, losses
from konomi_trainer.methods.base import LoadedBase

HELD_OUT_TIMES, HELD_OUT_AT_ONCE = 4, 4


class DenoisingLoss:
    """The loss of some rows of a step's batch, a function of the step and the weights alone.

    A step's rows are `gradient_accumulation` groups of `batch_size`; images of one group have one size. Where there
    is a prior (Ruiz et al. 2022, eq. 2), each row is accompanied by one of its images. With `contrast_beta` targets are
    signed (see `contrast`), which takes a forward more.
    """

    def __init__(
        self,
        base: LoadedBase,
        data: dataset.TrainingData,
        configuration: Configuration,
        live_texts: bool = False,
        switched_off: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """Takes base model, data and the numbers of the run.

        Args:
            base: the base model.
            data: the set.
            configuration: the numbers of the run.
            live_texts: encodes captions anew at every step.
            switched_off: gives a context in which the base model answers as if nothing had been learnt.
        """
        self._base, self._data, self._configuration, self._live = base, data, configuration, live_texts
        self._group = configuration.batch_size
        self._size = configuration.batch_size * configuration.gradient_accumulation
        self._switched_off, self._beta = switched_off, configuration.contrast_beta
        self._drawing = dataset.DrawSettings(
            self._group, configuration.caption_dropout, base.path, signed=self._beta > 0
        )
        self._prior = bool(data.prior) and configuration.prior_weight > 0
        card = base.device.type == "cuda"
        self._drawn: Ahead[tuple[int, bool], dataset.Batch] = Ahead(
            lambda key: self._draw(*key, pinned=card), lambda key: (key[0] + 1, key[1]), card, 2
        )

    def __call__(self, step: int, rows: range) -> torch.Tensor:
        """Returns the scalar loss of `rows`; over all rows of the batch these sum to the batch's mean."""
        total = torch.zeros((), device=self._base.device)
        for group in range(rows.start // self._group, (rows.stop - 1) // self._group + 1):
            first = group * self._group
            part = slice(max(0, rows.start - first), min(self._group, rows.stop - first))
            number = step * self._configuration.gradient_accumulation + group
            captions, gamma = self._data.captions, self._configuration.min_snr_gamma
            total = total + self._error(_rows(self._drawn[number, False], part), captions, gamma)
            if self._prior:
                prior = self._error(_rows(self._drawn[number, True], part), captions, gamma)
                total = total + self._configuration.prior_weight * prior
        return total / self._size

    def _error(self, batch: dataset.Batch, captions: tuple[str, ...], gamma: float) -> torch.Tensor:
        """Returns the scalar sum of the rows' weighted errors."""
        base, device = self._base, self._base.device
        if self._live and batch.captions is not None:
            texts = embedded(base.embed([captions[row] for row in batch.captions.tolist()]))
            batch = replace(batch, hidden=texts.hidden, pooled=texts.pooled, mask=texts.mask)
        latents, noise, timesteps, weights = (
            tensor.to(device, non_blocking=True)
            for tensor in (batch.latents, batch.noise, batch.timesteps, batch.weights)
        )
        target, noisy = base.path.target(latents, noise, timesteps), base.path.noisy(latents, noise, timesteps)
        weights = weights * base.path.weight(timesteps, gamma)
        if batch.signs is not None:
            with torch.no_grad(), self._switched_off():
                before = base.predict(noisy, timesteps, batch)
            target = contrast.signed_target(target, before, batch.signs.to(device, non_blocking=True), self._beta)
            weights = weights * self._beta
        answer = base.predict(noisy, timesteps, batch)
        return losses.weighted_mse(answer, target, weights)

    def _draw(self, group: int, prior: bool, pinned: bool) -> dataset.Batch:
        """Returns a group's images, in memory the device reads by itself where it is `pinned`."""
        batch = dataset.draw(self._data, self._configuration.seed, group, self._drawing, prior=prior)
        if not pinned:
            return batch
        return dataset.Batch(
            **{name: None if tensor is None else tensor.pin_memory() for name, tensor in vars(batch).items()}
        )

    @torch.no_grad()
    def held_out(self, data: dataset.TrainingData) -> float:
        """Returns the plain loss of images that are not trained on, at fixed times and with fixed noise."""
        total, count = 0.0, 0
        for bucket in data.buckets:
            for first in range(0, len(bucket.caption), HELD_OUT_AT_ONCE):
                part = slice(first, first + HELD_OUT_AT_ONCE)
                latents, caption = bucket.views.mean[part], bucket.caption[part]
                text = data.texts.rows(caption)
                for time in range(HELD_OUT_TIMES):
                    generator = torch.Generator().manual_seed(count * HELD_OUT_TIMES + time)
                    timesteps = self._base.path.at((time + 0.5) / HELD_OUT_TIMES).repeat(len(caption))
                    batch = dataset.Batch(
                        latents,
                        torch.randn(latents.shape, generator=generator),
                        timesteps,
                        text.hidden,
                        text.pooled,
                        bucket.views.sizes[part],
                        torch.ones(len(caption)),
                        caption,
                        text.mask,
                    )
                    total += float(self._error(batch, data.captions, 0.0))
                count += len(caption)
        return total / (count * HELD_OUT_TIMES)


def _rows(batch: dataset.Batch, part: slice) -> dataset.Batch:
    cut = {name: None if tensor is None else tensor[part] for name, tensor in vars(batch).items()}
    return dataset.Batch(**cut)
