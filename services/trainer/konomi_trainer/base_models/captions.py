"""Captions as a base model reads them, to what its UNet is conditioned on, by the one way a run's configuration names.

"plain" is the pipeline's own reading: one text, cut at 77 tokens. "weighted" is the generator's of imported models
(chassis' prompt_encoder): emphasis, BREAK, and chunks of 75 tokens, of which a caption has three at most, as in
kohya's scripts: memory on the card grows with their number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from konomi_chassis.models.prompt_encoder import EncodedPrompt, PromptEncoder
from konomi_trainer.configuration import PLAIN
from konomi_trainer.data import conditions
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
        """Takes a StableDiffusionPipeline or StableDiffusionXLPipeline and the device it is on."""
        self._pipe, self._device, self._reading = pipe, torch.device(device), reading
        self._xl = getattr(pipe, "text_encoder_2", None) is not None
        self._skips = not self._xl and reading.clip_skip > 1
        self._zeros = self._xl and bool(pipe.config.force_zeros_for_empty_prompt)
        towers = [(pipe.tokenizer, pipe.text_encoder)]
        towers += [(pipe.tokenizer_2, pipe.text_encoder_2)] if self._xl else []
        self.chunk_states = min(
            int(min(tokenizer.model_max_length, encoder.config.max_position_embeddings))
            for tokenizer, encoder in towers
        )

    @property
    def is_there(self) -> bool:
        """Says whether the text encoders have not been freed."""
        return self._pipe.text_encoder is not None

    @torch.no_grad()
    def alone(self, caption: str) -> Tensors:
        """Returns one caption encoded, float32 on the host: "hidden" (T, D), "pooled" (P,) for SDXL.

        With "weighted" also "chunks", a number: how many it has, those that are not read included.
        """
        if self._reading.syntax == PLAIN:
            return self._on_host([caption], self._plain([caption]))
        encoder = self._encoder()
        encoded = encoder.encode(caption)
        count = torch.tensor(encoder.chunk_count(caption))
        return {**self._on_host([caption], _tensors(self._read(encoded), encoded.pooled)), "chunks": count}

    def together(self, captions: Sequence[str]) -> Tensors:
        """Returns captions encoded, differentiable: "hidden" (N, T, D), "pooled" (N, P) for SDXL.

        Also "mask" (N, T) where they differ in length; see Conditions.
        """
        tensors = self._plain(list(captions)) if self._reading.syntax == PLAIN else self._weighted(captions)
        return self._zeroed(captions, tensors)

    @torch.no_grad()
    def guided(self, prompt: str) -> dict[str, torch.Tensor]:
        """Returns the arguments of the pipeline for a prompt and for none, which are of one length."""
        embeddings: tuple[torch.Tensor | None, ...]
        names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
        if self._reading.syntax == PLAIN:
            embeddings = self._guided_plainly(prompt)
        else:
            encoder = self._encoder()
            own = encoder.encode(prompt)
            empty = encoder.encode("", own.hidden.shape[1] // self.chunk_states)
            if self._zeros:
                empty = EncodedPrompt(torch.zeros_like(empty.hidden), torch.zeros_like(own.pooled))
            embeddings = (own.hidden, empty.hidden, own.pooled, empty.pooled)
        return {name: tensor for name, tensor in zip(names, embeddings, strict=False) if tensor is not None}

    def _plain(self, captions: list[str]) -> Tensors:
        if self._skips:
            return {"hidden": self._earlier_layer(captions)}
        encoded = self._pipe.encode_prompt(
            captions, device=self._device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return {"hidden": encoded[0], "pooled": encoded[2]} if self._xl else {"hidden": encoded[0]}

    def _guided_plainly(self, prompt: str) -> tuple[torch.Tensor | None, ...]:
        if self._skips:
            return self._earlier_layer([prompt]), self._earlier_layer([""])
        return tuple(
            self._pipe.encode_prompt(
                prompt, device=self._device, num_images_per_prompt=1, do_classifier_free_guidance=True
            )
        )

    def _earlier_layer(self, captions: list[str]) -> torch.Tensor:
        """Returns (N, 77, D) states of an earlier layer, which the pipeline itself looks for in the wrong place."""
        tokenizer, encoder = self._pipe.tokenizer, self._pipe.text_encoder
        ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        states = encoder(ids.to(self._device), output_hidden_states=True).hidden_states[-self._reading.clip_skip]
        hidden: torch.Tensor = encoder.final_layer_norm(states).to(encoder.dtype)
        return hidden

    def _weighted(self, captions: Sequence[str]) -> Tensors:
        encoded = self._encoder().encode_all(captions, together=CHUNKS_AT_ONCE)
        whole = conditions.join([conditions.Conditions(self._read(each), each.pooled) for each in encoded])
        dtype = self._pipe.text_encoder_2.dtype if self._xl else self._pipe.text_encoder.dtype
        return _tensors(whole.hidden.to(dtype), whole.pooled, whole.mask)

    def _read(self, encoded: EncodedPrompt) -> torch.Tensor:
        """Returns the states (1, T, D) of the chunks that are read."""
        return encoded.hidden[:, : MOST_CHUNKS * self.chunk_states]

    def _zeroed(self, captions: Sequence[str], tensors: Tensors) -> Tensors:
        """Returns embeddings with zeros for the empty caption where the base says that it has none."""
        if not self._zeros:
            return tensors
        kept = torch.tensor([float(caption != "") for caption in captions]).to(tensors["hidden"])
        hidden, pooled = tensors["hidden"] * kept.view(-1, 1, 1), tensors["pooled"] * kept.view(-1, 1)
        return {**tensors, "hidden": hidden, "pooled": pooled}

    def _on_host(self, captions: Sequence[str], tensors: Tensors) -> Tensors:
        return {name: tensor[0].float().cpu() for name, tensor in self._zeroed(captions, tensors).items()}

    def _encoder(self) -> PromptEncoder:
        return PromptEncoder(self._pipe, self._reading.clip_skip)


def _tensors(hidden: torch.Tensor, pooled: torch.Tensor | None, mask: torch.Tensor | None = None) -> Tensors:
    tensors = {"hidden": hidden, "pooled": pooled, "mask": mask}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}
