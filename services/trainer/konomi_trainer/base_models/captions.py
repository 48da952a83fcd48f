"""Captions as a base model reads them, to what its network is told, by the one way a run's configuration names.

"plain" is the pipeline's own reading: one text, cut at 77 tokens. "weighted" is the generator's of imported models
(see its family): emphasis, BREAK, and chunks of 75 tokens, of which a caption has three at most, as in
kohya's scripts: memory on the card grows with their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.family import TextReading
from konomi_chassis.models.families.table import of_pipeline
from konomi_trainer.configuration import PLAIN
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.conditions import MOST_CHUNKS

CHUNKS_AT_ONCE = 256
"""Chunks that go through a text encoder together where captions are encoded anew at every step."""


@dataclass(frozen=True)
class CaptionReading:
    """How captions are read: see prompt_syntax and clip_skip of Configuration."""

    syntax: str = PLAIN
    clip_skip: int = 1

    @property
    def name(self) -> str:
        """Names the reading in the cache; empty for the one earlier versions knew."""
        if self == CaptionReading():
            return ""
        most = "" if self.syntax == PLAIN else f":{MOST_CHUNKS}"
        return f":{self.syntax}:{self.clip_skip}{most}"


class CaptionEncoder:
    """The text encoders of one pipeline, which may go while the pipeline stays.

    Attributes:
        chunk_states: hidden states of one chunk, 77.
    """

    def __init__(self, pipe: Any, device: str, reading: CaptionReading) -> None:
        """Takes a pipeline of one of the families and the device it is on."""
        self._pipe, self._device, self._family = pipe, torch.device(device), of_pipeline(pipe)
        self._reading = TextReading(reading.syntax, self._family.clip_skip(reading.clip_skip))
        self._zeros = self._family.drops_by_zeros(pipe)
        self.chunk_states = self._family.chunk_states(pipe)

    @property
    def is_there(self) -> bool:
        """Says whether the text encoders have not been freed."""
        return self._pipe.text_encoder is not None

    @torch.no_grad()
    def alone(self, caption: str) -> Tensors:
        """Returns one caption encoded, float32 on the host: "hidden" (T, D), "pooled" (P,) for SDXL.

        With "weighted" also "chunks", a number: how many it has, those that are not read included.
        """
        reading = replace(self._reading, most=MOST_CHUNKS, negative=not caption)
        tensors = self._zeroed([caption], self._tensors([caption], reading))
        on_host = {name: tensor[0].float().cpu() for name, tensor in tensors.items()}
        if self._reading.syntax == PLAIN:
            return on_host
        return {**on_host, "chunks": torch.tensor(self._family.chunk_count(self._pipe, caption))}

    def together(self, captions: Sequence[str]) -> Tensors:
        """Returns captions encoded, differentiable: "hidden" (N, T, D), "pooled" (N, P) for SDXL.

        Also "mask" (N, T) where they differ in length; see Condition.
        """
        reading = replace(self._reading, most=MOST_CHUNKS, together=CHUNKS_AT_ONCE)
        tensors = self._tensors(captions, reading)
        if reading.syntax != PLAIN:
            _, last = self._family.towers(self._pipe)[-1]
            tensors["hidden"] = tensors["hidden"].to(last.dtype)
        return self._zeroed(captions, tensors)

    @torch.no_grad()
    def guided(self, prompt: str) -> dict[str, torch.Tensor]:
        """Returns the arguments of the pipeline for a prompt and for none, which are of one length."""
        own = self._encode([prompt], self._reading)
        length = 1 if self._reading.syntax == PLAIN else own.hidden.shape[1] // self.chunk_states
        reading = replace(self._reading, length=length, negative=True)
        nothing = own.zeros() if self._zeros else self._encode([""], reading)
        return self._family.arguments(own, nothing)

    def _encode(self, captions: Sequence[str], reading: TextReading) -> Condition:
        return self._family.encode(self._pipe, captions, reading, self._device)

    def _tensors(self, captions: Sequence[str], reading: TextReading) -> Tensors:
        encoded = self._encode(captions, reading)
        tensors = {"hidden": encoded.hidden, "pooled": encoded.pooled, "mask": encoded.mask}
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def _zeroed(self, captions: Sequence[str], tensors: Tensors) -> Tensors:
        """Returns embeddings with zeros for the empty caption where the base says that it has none."""
        if not self._zeros:
            return tensors
        kept = torch.tensor([float(caption != "") for caption in captions]).to(tensors["hidden"])
        named = {name: tensor for name, tensor in tensors.items() if name != "mask"}
        return tensors | {name: tensor * kept.view(-1, *(1,) * (tensor.dim() - 1)) for name, tensor in named.items()}
