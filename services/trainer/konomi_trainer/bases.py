"""The base models of the home as the trainer needs them: digest, layout, and loaded on this machine's device."""

from pathlib import Path

import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.base_models import BaseModels
from konomi_trainer import pipeline
from konomi_trainer.configuration import Configuration
from konomi_trainer.optimizers import check_optimizer
from konomi_trainer.settings import TrainerSettings


class Bases:
    """Finds base models by id and loads them."""

    def __init__(self, home: Path, settings: TrainerSettings) -> None:
        """Looks into the home's models; the device is chosen once."""
        self._catalogue, self._settings = BaseModels(home), settings
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = found if settings.device == "auto" else settings.device

    def digest(self, name: str) -> str:
        """Returns the digest of a base model's weights; raises where it is missing or not to be trained."""
        return self._catalogue.digest(self._catalogue.get(name))

    def check(self, configuration: Configuration) -> None:
        """Raises FailedPrecondition where this machine cannot train with a precision or an optimiser."""
        check_optimizer(configuration.optimizer)
        if configuration.precision == "fp16" and self.device == "cpu":
            raise FailedPrecondition(
                "expected fp32 or bf16 on this machine, which has no GPU; fp16 came: choose another precision",
                reason="PRECISION_UNAVAILABLE",
            )

    def describe(self, name: str) -> dict[str, str]:
        """Returns layout, prediction type and resolution of a base model."""
        model = self._catalogue.get(name)
        return {"layout": model.layout, "prediction": model.prediction_type, "resolution": str(model.resolution)}

    def load(self, configuration: Configuration) -> pipeline.Base:
        """Loads the base model of a configuration.

        Raises:
            FailedPrecondition: its files are not those the run was created with.
        """
        if self.digest(configuration.base_model) != configuration.base_digest:
            raise FailedPrecondition(
                f"expected the base model {configuration.base_model} as it was when the run was created; its files have"
                " changed: put them back, or start a new run",
                reason="BASE_CHANGED",
            )
        model = self._catalogue.get(configuration.base_model)
        placement = pipeline.Placement(self.device, configuration.precision, self._settings.gradient_checkpointing)
        configs = self._settings.single_file_configs
        return pipeline.load(model, configs, configuration.base_digest, placement, configuration.resolution)
