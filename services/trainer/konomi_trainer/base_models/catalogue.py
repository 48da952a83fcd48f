"""The base models of the home as the trainer needs them: digest, layout, and loaded on this machine's device."""

from pathlib import Path

import torch

from konomi.errors import FailedPrecondition, InvalidArgument
from konomi_chassis.models.catalogue import BaseModel, BaseModels
from konomi_chassis.models.diffusers_folder import read_json
from konomi_chassis.models.families.quantization import NONE, check_installed
from konomi_chassis.models.families.table import family
from konomi_chassis.models.memory_needs import WIDTHS, trains_in_blocks
from konomi_chassis.models.noise_schedule import V_MARK, ZERO_SNR_MARK
from konomi_trainer.base_models import checkpoint_layout, device, pipeline
from konomi_trainer.base_models.captions import CaptionReading
from konomi_trainer.base_models.pipeline import BaseInfo
from konomi_trainer.configuration import AUTO, BaseTraits, Configuration
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.tensors import unpack
from konomi_trainer.settings import TrainerSettings
from konomi_trainer.training.optimizers import check_optimizer

OF_FILE = ("precision", "learning_rate", "batch_size", "gradient_accumulation")
"""What a base's file of settings says of a run's numbers; 0 and "auto" leave them to the method and the machine."""


class BaseCatalogue:
    """Finds base models by id and loads them."""

    def __init__(self, home: Path, settings: TrainerSettings) -> None:
        """Looks into the home's models; the device is chosen once."""
        self._catalogue, self._settings = BaseModels(home), settings
        self.device = device.chosen(settings.device)

    def digest(self, name: str) -> str:
        """Returns the digest of a base model's weights; raises where it is missing or not to be trained."""
        return self._catalogue.digest(self._catalogue.get(name))

    def traits(self, name: str) -> BaseTraits:
        """Returns what of a base model, its file of settings and this machine decides the numbers a caller leaves open.

        Raises:
            FailedPrecondition: the file cannot be read (reason MODEL_SETTINGS).
        """
        model = self._catalogue.get(name)
        drawing, training = model.settings.drawing, model.settings.training
        numbers = {field: value for field in OF_FILE if (value := getattr(training, field)) not in (0, AUTO)}
        kind = family(model.layout)
        skip = kind.clip_skip(drawing.clip_skip)
        bits = self._settings.quantization if kind.noise == "flow" else NONE
        return BaseTraits(
            device.precision(self.device), kind.defaults.large, numbers, drawing.prompt_syntax, skip, bits
        )

    def check(self, configuration: Configuration) -> None:
        """Refuses what this machine or the base model cannot train.

        Raises:
            FailedPrecondition: not with this precision, optimiser or quantisation on this machine.
            InvalidArgument: the base model's text encoders, for adapters on which no program has a place; a base model
                whose weights are not quantised.
        """
        name = configuration.base_model
        if configuration.text_encoder_learning_rate > 0 and not _has_text_targets(self._catalogue.get(name)):
            raise InvalidArgument(
                f"expected 0, since the text encoder of {name} stays as it is; "
                f"{configuration.text_encoder_learning_rate:g} came: leave it out",
                reason="HYPER_PARAMETER",
                field="hyper_parameters.text_encoder_learning_rate",
            )
        check_optimizer(configuration.optimizer)
        self._check_quantization(configuration)
        if configuration.precision == "fp16" and self.device == "cpu":
            raise FailedPrecondition(
                "expected fp32 or bf16 on this machine, which has no GPU; fp16 came: choose another precision, here or "
                f"in the settings {configuration.base_model}.toml among the home's models",
                reason="PRECISION_UNAVAILABLE",
            )

    def _check_quantization(self, configuration: Configuration) -> None:
        kind = family(self._catalogue.get(configuration.base_model).layout)
        if configuration.quantization != NONE and kind.noise != "flow":
            raise InvalidArgument(
                f"expected none, since of a {kind.name} so little would be saved that konomi keeps its weights whole; "
                f"{configuration.quantization} came: leave it out",
                reason="HYPER_PARAMETER",
                field="hyper_parameters.quantization",
            )
        check_installed(configuration.quantization, "[trainer] quantization")

    def check_binds(self, name: str, *, words: bool = False) -> None:
        """Raises InvalidArgument where a method that binds concepts has nothing to change in a base model.

        Custom Diffusion changes keys and values of cross-attention; transformers that follow a flow read text and
        image in one attention. Words beside a LoRA need a text encoder that takes new rows.
        """
        kind = family(self._catalogue.get(name).layout)
        if words and not kind.words:
            raise InvalidArgument(
                f"expected a base model whose text encoders learn words; {name} is a {kind.name}, whose do not: train "
                "a LoRA, or choose another base model",
                reason="METHOD",
                field="method",
            )
        if kind.noise == "flow" and not words:
            raise InvalidArgument(
                f"expected a base model with cross-attention for Custom Diffusion; {name} is a {kind.name}, which "
                "reads text and image in one attention: choose the method concept_lora, which learns words beside a "
                "LoRA, or a base model of Stable Diffusion 1.x, 2.x or XL",
                reason="METHOD",
                field="method",
            )

    def describe(self, name: str) -> BaseInfo:
        """Returns layout, prediction type, resolution and depth of a base model."""
        model = self._catalogue.get(name)
        whole = model.path if model.format == "diffusers" else self._settings.single_file_configs / model.layout
        folder = model.lender or whole
        part = family(model.layout).network
        layers = read_json(folder / part / "config.json", f"The {part} of {name}").get("layers_per_block", 2)
        zero = model.schedule.zero_terminal_snr
        return BaseInfo(model.layout, model.prediction_type, model.resolution, int(layers), zero)

    def merged_checkpoint(self, name: str, digest: str, adapter: bytes) -> Tensors:
        """Returns the tensors of a single-file checkpoint with an adapter merged in, float16.

        What the file of a single-file base holds besides, for example a text encoder's last layer, is taken over.

        Raises:
            FailedPrecondition: the base's files have changed, or it has the small autoencoder no such file knows.
        """
        model, base = self._unchanged(name, digest), self.describe(name)
        pipe = pipeline.merged(model, self._settings.single_file_configs, adapter)
        if not pipeline.has_usual_autoencoder(pipe):
            raise FailedPrecondition(
                f"expected a base model with the usual autoencoder; {name} has the tiny one, which a single-file"
                " checkpoint has no place for: export a merged folder instead",
                reason="EXPORT_FORMAT",
            )
        tensors = checkpoint_layout.checkpoint(base.layout, pipeline.weights_of(pipe), base.layers_per_block)
        if model.format == "single_file":
            kept = unpack(model.path.read_bytes())[0]
            tensors = {n: t for n, t in kept.items() if not n.startswith("model_ema.")} | tensors
        return tensors | _marks(base)

    def merged_folder(self, name: str, digest: str, adapter: bytes, folder: Path) -> None:
        """Writes the diffusers folder of a base model with an adapter merged in, float16.

        Raises:
            FailedPrecondition: the base's files have changed.
        """
        model = self._unchanged(name, digest)
        pipe = pipeline.merged(model, self._settings.single_file_configs, adapter)
        pipe.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)

    def _unchanged(self, name: str, digest: str) -> BaseModel:
        """Returns a base model whose files have a digest.

        Raises:
            FailedPrecondition: they have another.
        """
        if self.digest(name) != digest:
            raise FailedPrecondition(
                f"expected the base model {name} as it was when the run was created; its files have changed: put them"
                " back, or start a new run",
                reason="BASE_CHANGED",
            )
        return self._catalogue.get(name)

    def load(self, configuration: Configuration) -> pipeline.BasePipeline:
        """Loads the base model of a configuration.

        Raises:
            FailedPrecondition: its files are not those the run was created with.
        """
        model = self._unchanged(configuration.base_model, configuration.base_digest)
        streams = self._streams(model, configuration)
        placement = pipeline.TrainingPlacement(
            self.device,
            configuration.precision,
            streams or self._checkpointing(model),
            self._settings.compile_blocks,
            streams,
            configuration.quantization,
        )
        configs = self._settings.single_file_configs
        reading = CaptionReading(configuration.prompt_syntax, configuration.clip_skip)
        return pipeline.load(model, configs, configuration.base_digest, placement, configuration.resolution, reading)

    def _checkpointing(self, model: BaseModel) -> bool:
        """Says whether activations are made twice: by the trainer's settings, else the base's file, else the card."""
        asked, filed = self._settings.gradient_checkpointing, model.settings.training.gradient_checkpointing
        if asked != "auto":
            return asked
        if filed != "auto":
            return filed == "on"
        return family(model.layout).defaults.large and not device.has_room(self.device)

    def _streams(self, model: BaseModel, configuration: Configuration) -> bool:
        """Says whether a transformer's blocks come to the device one by one: as the settings say, else by count."""
        asked = self._settings.block_offload
        if family(model.layout).noise != "flow" or asked is False:
            return False
        if asked is True:
            return True
        width = WIDTHS[configuration.precision]
        return self.device != device.CPU and trains_in_blocks(
            model, width, device.memory(self.device), configuration.quantization
        )


def _marks(base: BaseInfo) -> Tensors:
    """Returns the empty tensors that tell other programs of a checkpoint's noise by being there."""
    marks = {V_MARK: base.prediction == "v_prediction", ZERO_SNR_MARK: base.zero_terminal_snr}
    return {name: torch.zeros(0) for name, holds in marks.items() if holds}


def _has_text_targets(model: BaseModel) -> bool:
    return any(part.startswith("text_encoder") for part in family(model.layout).targets)
