"""Custom Diffusion: keys and values of cross-attention and one embedding row per concept, everything else frozen.

Kumari et al. 2023 (2212.04488), sections 3.1 and 3.2, from its equations: for a text feature c of the caption,
K = (W_k + dW_k) c and V = (W_v + dW_v) c, where the first (start) token gives no gradient. The loss is the denoising
loss of the concepts' images, within the area that is real, plus `prior_weight` times that of the regularisation images.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional

from konomi.errors import InvalidArgument
from konomi_chassis.models.concept_format import MEDIA_TYPE
from konomi_chassis.models.families.condition import Condition, choose
from konomi_trainer.configuration import Configuration, MethodDefaults
from konomi_trainer.data import conditions
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.dataset import Batch
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.methods import concept_file, concept_set, losses, token_rows
from konomi_trainer.methods.base import Files, LoadedBase, Method, PreparedMethod, TrainingSource
from konomi_trainer.methods.concepts import Concept, check_captions, from_rows

log = logging.getLogger(__name__)
REAL, REGULARISATION = "prior", ("prior", "prior_generated", "base")
PARTS = (".attn2.to_k", ".attn2.to_v")
Hook = Callable[[torch.nn.Module, Sequence[torch.Tensor], torch.Tensor], torch.Tensor]
"""(module, what it was given, its answer) → its answer."""


def prepare(base: LoadedBase, source: TrainingSource, configuration: Configuration) -> PreparedMethod:
    """Encodes the set, adds the tokens and returns what is trained."""
    bound = from_rows(configuration.concepts)
    check_captions(bound, source.items)
    targets, priors = chosen(source.items, configuration.prior_weight)
    data = concept_set.build(targets, priors, base, source, configuration.scale_augmentation)
    base.release_image_encoder()
    rows = token_rows.bind(base.text_towers(), bound)
    deltas = attach(base.network, base.chunk_states)
    weights = deltas | {
        f"{prefix}{token}": row
        for token, parameters in rows.items()
        for prefix, row in zip(concept_file.PREFIXES, parameters, strict=False)
    }

    def save(trained: Tensors, record: Mapping[str, str]) -> Files:
        return Files(concept_file.to_bytes(model_of(trained, bound, record)))

    figures = figures_of(targets, priors, bound)
    figures |= conditions.figures_of(data.prior.texts.cut if data.prior else 0)
    return PreparedMethod(weights, ConceptLoss(base, data, configuration), save, MEDIA_TYPE, figures)


def chosen(items: Sequence[ManifestItem], prior_weight: float) -> tuple[list[ManifestItem], list[ManifestItem]]:
    """Returns the concepts' images and the regularisation images, none of these where they weigh nothing."""
    targets = [item for item in items if item.role == "selected"]
    priors = [item for item in items if item.role in REGULARISATION] if prior_weight else []
    _warn(len(priors), _generated(priors))
    return targets, priors


def figures_of(
    targets: Sequence[ManifestItem], priors: Sequence[ManifestItem], bound: Sequence[Concept]
) -> dict[str, float]:
    """Returns what a run that binds words wants kept with its model."""
    return {
        "images": float(len(targets)),
        "concepts": float(len(bound)),
        "regularisation_images": float(len(priors)),
        "regularisation_generated": float(_generated(priors)),
    }


def _generated(priors: Sequence[ManifestItem]) -> int:
    return sum(item.role != REAL for item in priors)


def attach(unet: torch.nn.Module, chunk: int = conditions.CHUNK_STATES) -> dict[str, torch.nn.Parameter]:
    """Freezes the UNet and adds a trainable change, zero at first, to keys and values of its cross-attention.

    The start token of every chunk of a caption gives no gradient.

    The change is added behind the module that is there, so a LoRA on the same module, put on before or after, stays.

    Args:
        unet: the base model's UNet; changed in place.
        chunk: hidden states of one chunk of a caption.

    Returns:
        module name → (O, D) float32 parameter.

    Raises:
        InvalidArgument: the UNet has no cross-attention.
    """
    unet.requires_grad_(False)
    modules = {name: module for name, module in unet.named_modules() if name.endswith(PARTS)}
    if not modules:
        raise InvalidArgument("expected a base model with cross-attention; this one has none", reason="MODEL_LAYOUT")
    weights: dict[str, torch.nn.Parameter] = {}
    for name, module in sorted(modules.items()):
        weight: Any = module.weight
        weights[name] = torch.nn.Parameter(torch.zeros_like(weight, dtype=torch.float32))
        module.register_forward_hook(_adder(weights[name], chunk))
    return weights


def _adder(
    delta: torch.Tensor, chunk: int
) -> Callable[[torch.nn.Module, Sequence[torch.Tensor], torch.Tensor], torch.Tensor]:
    def add(module: torch.nn.Module, given: Sequence[torch.Tensor], answer: torch.Tensor) -> torch.Tensor:
        change = functional.linear(given[0], delta.to(given[0].dtype))
        if change.shape[1] <= chunk:
            return answer + torch.cat([change[:, :1].detach(), change[:, 1:]], dim=1)
        starts = torch.arange(change.shape[1], device=change.device) % chunk == 0
        return answer + torch.where(starts[None, :, None], change.detach(), change)

    return add


def model_of(trained: Tensors, bound: tuple[Concept, ...], record: Mapping[str, str]) -> concept_file.ConceptModel:
    """Returns trained weights, by the names `prepare` gives them, as a model."""
    rows = {
        concept.token: tuple(
            trained[f"{prefix}{concept.token}"].float().cpu()
            for prefix in concept_file.PREFIXES
            if f"{prefix}{concept.token}" in trained
        )
        for concept in bound
    }
    deltas = {name: tensor.float().cpu() for name, tensor in trained.items() if name.endswith(PARTS)}
    return concept_file.ConceptModel(
        bound, deltas, rows, record.get("base_model", ""), record.get("base_digest", ""), record
    )


class ConceptLoss:
    """The loss of some rows of a step's batch, a function of the step and the weights alone."""

    def __init__(self, base: LoadedBase, data: concept_set.ConceptSet, configuration: Configuration) -> None:
        """Takes base model, data and the numbers of the run."""
        self._base, self._data, self._configuration = base, data, configuration
        self._size = configuration.batch_size * configuration.gradient_accumulation
        self._drawn: tuple[int, concept_set.ConceptBatch] | None = None

    def __call__(self, step: int, rows: range) -> torch.Tensor:
        """Returns the scalar loss of `rows`: over all rows, mean of the concepts + prior_weight · mean of the prior."""
        base, path, part = self._base, self._base.path, slice(rows.start, rows.stop)
        drawn, device = self._rows(step), self._base.device
        latents, noise = drawn.latents[part].to(device), drawn.noise[part].to(device)
        timesteps, mask = drawn.timesteps[part].to(device), drawn.mask[part].to(device)
        texts = self._texts(drawn, rows)
        batch = Batch(
            latents=latents,
            noise=noise,
            timesteps=timesteps,
            hidden=texts.hidden,
            pooled=texts.pooled,
            sizes=drawn.sizes[part],
            weights=drawn.weights[part],
            mask=texts.mask,
        )
        answer = base.predict(path.noisy(latents, noise, timesteps), timesteps, batch)
        target = path.target(latents, noise, timesteps)
        weights = self._shares(drawn)[part].to(device) * path.weight(timesteps, self._configuration.min_snr_gamma)
        return losses.masked_mse(answer, target, mask, weights)

    def _rows(self, step: int) -> concept_set.ConceptBatch:
        if self._drawn is None or self._drawn[0] != step:
            numbers = self._configuration
            path, dropout = self._base.path, numbers.caption_dropout
            self._drawn = (step, concept_set.draw(self._data, numbers.seed, step, self._size, dropout, path))
        return self._drawn[1]

    def _shares(self, drawn: concept_set.ConceptBatch) -> torch.Tensor:
        """Returns (B,) what each row counts in the sum."""
        shares, rest = drawn.weights.clone(), len(drawn.prior)
        shares[: drawn.concepts] /= drawn.concepts
        shares[drawn.concepts :] *= self._configuration.prior_weight / max(1, rest)
        return shares

    def _texts(self, drawn: concept_set.ConceptBatch, rows: range) -> Condition:
        """Returns the encoded captions of `rows`; those of concepts carry gradients."""
        device, data, parts = self._base.device, self._data, []
        prompts = drawn.prompt[rows.start : min(rows.stop, drawn.concepts)]
        if len(prompts):
            unique, place = torch.unique(prompts, return_inverse=True)
            texts = self._base.embed([data.prompts[index] if index >= 0 else "" for index in unique.tolist()])
            own = conditions.embedded(texts).float().rows(place)
            if bool((prompts < 0).any()):
                own = choose((prompts >= 0).to(device), own, data.empty.to(device))
            parts.append(own)
        others = drawn.prior[max(0, rows.start - drawn.concepts) : max(0, rows.stop - drawn.concepts)]
        if len(others) and data.prior is not None:
            parts.append(data.prior.texts.rows(others).to(device))
        return self._base.family.join(parts)


def _warn(images: int, generated: int) -> None:
    """Says what the regularisation set lacks: generated images are worse than none in the paper's table 3."""
    if generated:
        log.warning(
            "%d of %d regularisation images are generated by a model: expect worse images than with real ones, and "
            "perhaps than with none; retrieve real ones from a folder",
            generated,
            images,
        )
    elif not images:
        log.warning("no regularisation images: the class word may drift towards the concept; retrieve real ones")


METHOD = Method(
    "custom_diffusion",
    2,
    prepare,
    # Kumari et al. 2023, section 4; the starter's images have 8 x 8 latents, too few to be shown smaller.
    MethodDefaults(
        learning_rate=8e-5,
        starter_learning_rate=0.005,
        numbers={"steps": 250, "batch_size": 8, "caption_dropout": 0.0, "checkpoint_steps": 50},
        starter_numbers={"scale_augmentation": False},
        large_numbers={"batch_size": 4, "gradient_accumulation": 2},
    ),
    read_concepts=concept_file.from_bytes,
)
