"""Prompts to conditions: each text encoded alone, remembered, and spread over the rows of a batch."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from cachetools import LRUCache

from konomi_chassis.models.model_settings import Syntax
from konomi_chassis.models.prompt_encoder import PromptEncoder
from konomi_generator.sampling import Sampling

KEPT_BYTES, KEPT_TEXTS, KEPT_COUNTS = 64 << 20, 64, 4096
TOGETHER = 16
"""Texts an accelerator encodes at once."""


@dataclass(frozen=True)
class Text:
    """An encoded text: hidden states (1, T, C), and for SDXL the pooled vector (1, P)."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


@dataclass(frozen=True)
class Reading:
    """How a text is read: its syntax, the layer that counts, its chunks at least (see prompt_encoder)."""

    syntax: Syntax = "plain"
    clip_skip: int = 1
    length: int = 1


PLAIN = Reading()
"""As diffusers' own call reads a text."""


class Texts:
    """The text encoders of one pipeline; safe to use from several threads at once."""

    def __init__(self, pipe: Any, device: torch.device | None = None) -> None:
        self._pipe, self._device, self._dtype = pipe, device or pipe.unet.device, pipe.unet.dtype
        self._sdxl = hasattr(pipe, "text_encoder_2")
        self._encoded: LRUCache[tuple[str, Reading], Text] = LRUCache(KEPT_BYTES, getsizeof=_size)
        self._counts: LRUCache[str, int] = LRUCache(KEPT_COUNTS)
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drops the encoded texts; to be called when the text encoder's weights or words change."""
        with self._lock:
            self._encoded.clear()
            self._counts.clear()

    def encode(self, text: str, reading: Reading = PLAIN) -> Text:
        """Returns an encoded text; each is encoded alone, so no other text changes it.

        One at a time: a tokenizer keeps its padding as state, and encode_prompt asks for two kinds in turn, so a
        second thread would now and then get a text of the wrong length.
        """
        with self._lock:
            if (text, reading) in self._encoded:
                return self._encoded[text, reading]
            (result,) = self._read([text], reading)
            self._encoded[text, reading] = result
        return result

    def encode_all(self, texts: Sequence[str], reading: Reading = PLAIN) -> list[Text]:
        """Returns encoded texts: each alone on the CPU, to the bit; those not known yet together on an accelerator."""
        missing = [] if self._device.type == "cpu" else self._missing(texts, reading)
        for start in range(0, len(missing), TOGETHER):
            self._encode_together(missing[start : start + TOGETHER], reading)
        return [self.encode(text, reading) for text in texts]

    def length(self, prompt: str, sampling: Sampling, guided: bool) -> int:
        """Returns how many chunks an image's conditions have: as many as the longer of its prompt and the negative."""
        if sampling.prompt_syntax == "plain":
            return 1
        return max(self._count(prompt), self._count(sampling.negative_prompt) if guided else 1)

    def _count(self, prompt: str) -> int:
        with self._lock:
            if prompt not in self._counts:
                self._counts[prompt] = PromptEncoder(self._pipe).chunk_count(prompt)
            return self._counts[prompt]

    def _missing(self, texts: Sequence[str], reading: Reading) -> list[str]:
        with self._lock:
            return [text for text in dict.fromkeys(texts) if (text, reading) not in self._encoded]

    def _encode_together(self, texts: list[str], reading: Reading) -> None:
        with self._lock:
            for text, encoded in zip(texts, self._read(texts, reading), strict=True):
                self._encoded[text, reading] = encoded

    def _read(self, texts: list[str], reading: Reading) -> list[Text]:
        """Returns texts encoded: plain ones by the pipeline's own call."""
        if reading != PLAIN:
            encoder = PromptEncoder(self._pipe, reading.clip_skip, reading.syntax)
            together = 1 if self._device.type == "cpu" else TOGETHER
            read = encoder.encode_all(texts, reading.length, together)
            return [Text(one.hidden.to(self._dtype), one.pooled) for one in read]
        options = {"device": self._device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
        encoded = self._pipe.encode_prompt(texts if len(texts) > 1 else texts[0], **options)
        rows = [slice(row, row + 1) for row in range(len(texts))]
        return [Text(encoded[0][row], encoded[2][row] if self._sdxl else None) for row in rows]

    def conditions(self, prompts: Sequence[str], sampling: Sampling, guided: bool) -> dict[str, Any]:
        """Returns what the UNet takes besides latents and time; where guided, the unconditional rows come first.

        Args:
            prompts: of one `length`.
            sampling: settings of the images.
            guided: whether there is an unconditional half.
        """
        clip_skip = 1 if self._sdxl else sampling.clip_skip  # XL's layer is its own
        reading = Reading(sampling.prompt_syntax, clip_skip, self.length(prompts[0], sampling, guided))
        texts = self.encode_all(prompts, reading)
        if guided:
            texts = [self._negative(sampling.negative_prompt, texts[0], reading)] * len(prompts) + texts
        pooled = torch.cat([text.pooled for text in texts]) if self._sdxl else None
        conditions = {"encoder_hidden_states": torch.cat([text.hidden for text in texts])}
        width = self._pipe.unet.config.time_cond_proj_dim
        if width is not None:
            scale = torch.tensor(sampling.guidance_scale - 1).repeat(len(prompts))
            embedding = self._pipe.get_guidance_scale_embedding(scale, embedding_dim=width)
            conditions["timestep_cond"] = embedding.to(self._device, self._dtype)
        return conditions | self.added(pooled, sampling)

    def added(self, pooled: torch.Tensor | None, sampling: Sampling) -> dict[str, Any]:
        """Returns SDXL's pooled vectors (N, P) with the size conditioning; nothing for other layouts."""
        if pooled is None:
            return {}
        size = [sampling.height, sampling.width]
        ids = torch.tensor([[*size, 0, 0, *size]], dtype=self._dtype, device=self._device)
        return {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": ids.repeat(len(pooled), 1)}}

    def _negative(self, text: str, like: Text, reading: Reading) -> Text:
        if self._sdxl and not text and self._pipe.config.force_zeros_for_empty_prompt:
            return Text(torch.zeros_like(like.hidden), torch.zeros_like(like.pooled))
        return self.encode(text, reading)


def _size(text: Text) -> int:
    """Returns what a text counts for: its bytes, but never so many that fewer than KEPT_TEXTS are kept."""
    return min(KEPT_BYTES // KEPT_TEXTS, text.hidden.numel() * text.hidden.element_size())


def rows_of(value: Any, rows: slice) -> Any:
    """Returns some rows of a condition, or of every condition of a mapping or a list."""
    if isinstance(value, dict):
        return {name: rows_of(inner, rows) for name, inner in value.items()}
    return [rows_of(inner, rows) for inner in value] if isinstance(value, list) else value[rows]
