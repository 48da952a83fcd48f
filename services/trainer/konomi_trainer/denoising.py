"""The denoising loss of a step's batch over cached latents and embeddings."""

import torch

from konomi_trainer import dataset, losses
from konomi_trainer.configuration import Configuration
from konomi_trainer.method import Base


class DenoisingLoss:
    """The loss of some rows of a step's batch, a function of the step and the weights alone."""

    def __init__(self, base: Base, data: dataset.TrainingSet, configuration: Configuration) -> None:
        """Takes base model, data and the numbers of the run."""
        self._base, self._data, self._configuration = base, data, configuration
        self._size = configuration.batch_size * configuration.gradient_accumulation
        self._drawn: tuple[int, dataset.Batch] | None = None

    def __call__(self, step: int, rows: range) -> torch.Tensor:
        """Returns the scalar loss of `rows`; over all rows of the batch these sum to the batch's mean."""
        base, part, configuration = self._base, slice(rows.start, rows.stop), self._configuration
        batch = _rows(self._batch(step), part)
        device = base.alphas.device
        latents, noise, timesteps = batch.latents.to(device), batch.noise.to(device), batch.timesteps.to(device)
        alphas = base.alphas[timesteps]
        wanted = losses.target(base.prediction, latents, noise, alphas)
        answer = base.predict(losses.add_noise(latents, noise, alphas), timesteps, batch)
        snr = losses.min_snr(base.prediction, alphas, configuration.min_snr_gamma)
        return losses.weighted_mse(answer, wanted, batch.weights.to(device) * snr) / self._size

    def _batch(self, step: int) -> dataset.Batch:
        if self._drawn is None or self._drawn[0] != step:
            configuration, length = self._configuration, len(self._base.alphas)
            batch = dataset.draw(
                self._data, configuration.seed, step, self._size, configuration.caption_dropout, length
            )
            self._drawn = (step, batch)
        return self._drawn[1]


def _rows(batch: dataset.Batch, part: slice) -> dataset.Batch:
    cut = {name: None if tensor is None else tensor[part] for name, tensor in vars(batch).items()}
    return dataset.Batch(**cut)
