"""Prompts to conditions: each text encoded alone, remembered, and spread over the rows of a batch."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from cachetools import LRUCache

from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.family import TextReading
from konomi_chassis.models.families.table import of_pipeline
from konomi_generator.sampling import Sampling

KEPT_BYTES, KEPT_TEXTS, KEPT_COUNTS = 64 << 20, 64, 4096
TOGETHER = 16
"""Texts an accelerator encodes at once."""


PLAIN = TextReading()
"""As diffusers' own call reads a text."""


class Texts:
    """The text encoders of one pipeline; safe to use from several threads at once."""

    def __init__(self, pipe: Any, device: torch.device | None = None) -> None:
        self._pipe, self._family = pipe, of_pipeline(pipe)
        network = getattr(pipe, self._family.network)
        self._device, self._dtype = device or network.device, network.dtype
        self._encoded: LRUCache[tuple[str, TextReading], Condition] = LRUCache(KEPT_BYTES, getsizeof=_size)
        self._counts: LRUCache[str, int] = LRUCache(KEPT_COUNTS)
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Drops the encoded texts; to be called when the text encoder's weights or words change."""
        with self._lock:
            self._encoded.clear()
            self._counts.clear()

    def encode(self, text: str, reading: TextReading = PLAIN) -> Condition:
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

    def encode_all(self, texts: Sequence[str], reading: TextReading = PLAIN) -> list[Condition]:
        """Returns encoded texts: each alone on the CPU, to the bit; those not known yet together on an accelerator."""
        missing = [] if self._device.type == "cpu" else self._missing(texts, reading)
        for start in range(0, len(missing), TOGETHER):
            self._encode_together(missing[start : start + TOGETHER], reading)
        return [self.encode(text, reading) for text in texts]

    def length(self, prompt: str, sampling: Sampling, guided: bool) -> int:
        """Returns how many chunks an image's conditions have: as many as the longer of its prompt and the negative.

        Where texts are as long as they are, on the CPU, how many units its own prompt has: whom it may stand beside.
        """
        if self._family.defaults.text_unit:
            return self._count(prompt) if self._device.type == "cpu" else 1
        if sampling.prompt_syntax == "plain":
            return 1
        return max(self._count(prompt), self._count(sampling.negative_prompt) if guided else 1)

    def _count(self, prompt: str) -> int:
        with self._lock:
            if prompt not in self._counts:
                self._counts[prompt] = self._family.chunk_count(self._pipe, prompt)
            return self._counts[prompt]

    def _missing(self, texts: Sequence[str], reading: TextReading) -> list[str]:
        with self._lock:
            return [text for text in dict.fromkeys(texts) if (text, reading) not in self._encoded]

    def _encode_together(self, texts: list[str], reading: TextReading) -> None:
        with self._lock:
            for text, encoded in zip(texts, self._read(texts, reading), strict=True):
                self._encoded[text, reading] = encoded

    def _read(self, texts: list[str], reading: TextReading) -> list[Condition]:
        """Returns texts encoded: plain ones by the pipeline's own call."""
        together = 1 if self._device.type == "cpu" else TOGETHER
        encoded = self._family.encode(self._pipe, texts, replace(reading, together=together), self._device)
        if replace(reading, negative=False) != PLAIN:
            encoded = replace(encoded, hidden=encoded.hidden.to(self._dtype))
        return [encoded.rows(slice(row, row + 1)).trimmed() for row in range(len(texts))]

    def conditions(self, prompts: Sequence[str], sampling: Sampling, guided: bool) -> Condition:
        """Returns what the network takes besides latents and time; where guided, the unconditional rows come first.

        Args:
            prompts: of one `length`.
            sampling: settings of the images.
            guided: whether there is an unconditional half.
        """
        clip_skip = self._family.clip_skip(sampling.clip_skip)
        reading = TextReading(sampling.prompt_syntax, clip_skip, self.length(prompts[0], sampling, guided))
        texts = self.encode_all(prompts, reading)
        if guided:
            texts = [self._negative(sampling.negative_prompt, texts[0], reading)] * len(prompts) + texts
        condition = self._family.join(texts)
        return self.sized(self._family.with_guidance(self._pipe, condition, sampling.guidance_scale), sampling)

    def sized(self, condition: Condition, sampling: Sampling) -> Condition:
        """Returns texts with the size of the images, whole and not cropped."""
        size = [sampling.height, sampling.width]
        ids = torch.tensor([[*size, 0, 0, *size]], dtype=self._dtype, device=self._device)
        return replace(condition, sizes=ids.repeat(len(condition.hidden), 1))

    def _negative(self, text: str, like: Condition, reading: TextReading) -> Condition:
        if not text and self._family.drops_by_zeros(self._pipe):
            return like.zeros()
        return self.encode(text, replace(reading, negative=True))


def _size(text: Condition) -> int:
    """Returns what a text counts for: its bytes, but never so many that fewer than KEPT_TEXTS are kept."""
    return min(KEPT_BYTES // KEPT_TEXTS, text.hidden.numel() * text.hidden.element_size())
