"""Prompts to conditions: each text encoded alone, remembered, and spread over the rows of a batch."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from cachetools import LRUCache

from konomi_generator.sampling import Sampling

KEPT_BYTES, KEPT_TEXTS = 64 << 20, 64
TOGETHER = 16
"""Texts an accelerator encodes at once."""


@dataclass(frozen=True)
class Text:
    """An encoded text: hidden states (1, T, C), and for SDXL the pooled vector (1, P)."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None


class Texts:
    """The text encoders of one pipeline; safe to use from several threads at once."""

    def __init__(self, pipe: Any, device: torch.device | None = None) -> None:
        self._pipe, self._device, self._dtype = pipe, device or pipe.unet.device, pipe.unet.dtype
        self._sdxl = hasattr(pipe, "text_encoder_2")
        self._encoded: LRUCache[str, Text] = LRUCache(KEPT_BYTES, getsizeof=_size)
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drops the encoded texts; to be called when the text encoder's weights or words change."""
        with self._lock:
            self._encoded.clear()

    def encode(self, text: str) -> Text:
        """Returns an encoded text; each is encoded alone, so no other text changes it.

        One at a time: a tokenizer keeps its padding as state, and encode_prompt asks for two kinds in turn, so a
        second thread would now and then get a text of the wrong length.
        """
        with self._lock:
            if text in self._encoded:
                return self._encoded[text]
            options = {"device": self._device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
            encoded = self._pipe.encode_prompt(text, **options)
            result = Text(encoded[0], encoded[2] if self._sdxl else None)
            self._encoded[text] = result
        return result

    def encode_all(self, texts: Sequence[str]) -> list[Text]:
        """Returns encoded texts: each alone on the CPU, to the bit; those not known yet together on an accelerator."""
        missing = [] if self._device.type == "cpu" else self._missing(texts)
        for start in range(0, len(missing), TOGETHER):
            self._encode_together(missing[start : start + TOGETHER])
        return [self.encode(text) for text in texts]

    def _missing(self, texts: Sequence[str]) -> list[str]:
        with self._lock:
            return [text for text in dict.fromkeys(texts) if text not in self._encoded]

    def _encode_together(self, texts: list[str]) -> None:
        with self._lock:
            options = {"device": self._device, "num_images_per_prompt": 1, "do_classifier_free_guidance": False}
            encoded = self._pipe.encode_prompt(texts, **options)
            for row, text in enumerate(texts):
                pooled = encoded[2][row : row + 1] if self._sdxl else None
                self._encoded[text] = Text(encoded[0][row : row + 1], pooled)

    def conditions(self, prompts: Sequence[str], sampling: Sampling, guided: bool) -> dict[str, Any]:
        """Returns what the UNet takes besides latents and time; where guided, the unconditional rows come first."""
        texts = self.encode_all(prompts)
        if guided:
            texts = [self._negative(sampling.negative_prompt, texts[0])] * len(prompts) + texts
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

    def _negative(self, text: str, like: Text) -> Text:
        if self._sdxl and not text and self._pipe.config.force_zeros_for_empty_prompt:
            return Text(torch.zeros_like(like.hidden), torch.zeros_like(like.pooled))
        return self.encode(text)


def _size(text: Text) -> int:
    """Returns what a text counts for: its bytes, but never so many that fewer than KEPT_TEXTS are kept."""
    return min(KEPT_BYTES // KEPT_TEXTS, text.hidden.numel() * text.hidden.element_size())


def rows_of(value: Any, rows: slice) -> Any:
    """Returns some rows of a condition, or of every condition of a mapping."""
    return {name: rows_of(inner, rows) for name, inner in value.items()} if isinstance(value, dict) else value[rows]
