"""Texts to what a UNet of Stable Diffusion is given, and its answer: what of these families needs torch."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from konomi_chassis.models.families.condition import Condition, join
from konomi_chassis.models.families.family import TextReading
from konomi_chassis.models.prompt_encoder import PromptEncoder

PLAIN = "plain"


class TextTowers(Protocol):
    """What of a family says how its texts are read."""

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns tokenizer and text encoder, pair by pair."""

    def chunk_states(self, pipe: Any) -> int:
        """Returns the hidden states of one chunk of a text."""


def encode(
    family: TextTowers, pipe: Any, texts: Sequence[str], reading: TextReading, device: torch.device
) -> Condition:
    """Returns N texts encoded; plain ones by the pipeline's own call."""
    if reading.syntax == PLAIN and reading.clip_skip > 1 and reading.together > 1:
        return Condition(_earlier_layer(pipe, list(texts), reading.clip_skip, device))
    if reading.syntax == PLAIN and reading.clip_skip <= 1:
        given = list(texts) if len(texts) > 1 else texts[0]
        options = {"device": device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
        encoded = pipe.encode_prompt(given, **options)
        return Condition(encoded[0], encoded[2] if len(family.towers(pipe)) > 1 else None)
    encoder = PromptEncoder(pipe, reading.clip_skip, "plain" if reading.syntax == PLAIN else "weighted")
    rows = encoder.encode_all(texts, reading.length, reading.together)
    end = reading.most * family.chunk_states(pipe) or None
    return join([Condition(row.hidden[:, :end], row.pooled) for row in rows])


def _earlier_layer(pipe: Any, texts: list[str], clip_skip: int, device: torch.device) -> torch.Tensor:
    """Returns (N, 77, D) states of an earlier layer, which the pipeline itself looks for in the wrong place."""
    tokenizer, encoder = pipe.tokenizer, pipe.text_encoder
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    layer = min(clip_skip, encoder.config.num_hidden_layers)
    states = encoder(ids.to(device), output_hidden_states=True).hidden_states[-layer]
    hidden: torch.Tensor = encoder.final_layer_norm(states).to(encoder.dtype)
    return hidden


def chunk_count(pipe: Any, text: str) -> int:
    """Returns how many chunks a text has."""
    return PromptEncoder(pipe).chunk_count(text)


def with_guidance(pipe: Any, condition: Condition, scale: float) -> Condition:
    """Returns the condition with the guidance embedded; as it is where the UNet takes none."""
    width = pipe.unet.config.time_cond_proj_dim
    if width is None:
        return condition
    hidden = condition.hidden
    embedding = pipe.get_guidance_scale_embedding(torch.tensor(scale - 1).repeat(len(hidden)), embedding_dim=width)
    return replace(condition, guidance=embedding.to(hidden.device, pipe.unet.dtype))


def answer(network: Any, latents: torch.Tensor, time: torch.Tensor, condition: Condition) -> torch.Tensor:
    """Returns the UNet's (B, C, h, w) answer."""
    added: dict[str, Any] = {}
    if condition.pooled is not None:
        added |= {"text_embeds": condition.pooled, "time_ids": condition.sizes}
    if condition.images:
        added["image_embeds"] = list(condition.images)
    given: torch.Tensor = network(
        latents,
        time,
        encoder_hidden_states=condition.hidden,
        timestep_cond=condition.guidance,
        added_cond_kwargs=added or None,
        encoder_attention_mask=condition.mask,
        return_dict=False,
    )[0]
    return given
