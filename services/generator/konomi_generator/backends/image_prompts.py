"""Images as a prompt: an IP-Adapter on a pipeline (Ye et al. 2023, 2308.06721), put on for a request and taken off.

diffusers' own loader makes the attention processors, its own call encodes the images. Several images count by their
tokens side by side, as diffusers' list of images for one adapter does. The image encoder is read when images come that
were not seen before, and dropped again: what it saw of them is small and is kept.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from cachetools import LRUCache
from PIL import Image
from safetensors import safe_open

from konomi.errors import FailedPrecondition
from konomi_chassis.memory_shortage import give_back, is_shortage
from konomi_chassis.models.companions import LikenessAdapter
from konomi_chassis.models.loading import load_image_encoder, quiet
from konomi_generator.sampling import ImagePrompt

PARTS = ("image_proj", "ip_adapter")
"""What an IP-Adapter's file holds: the projection of what the encoder sees, and keys and values of cross-attention."""
KEPT_PROMPTS = 16
Embeds = tuple[torch.Tensor, torch.Tensor]
"""What the encoder sees of nothing and of the images: (1, images, C) each, or (1, images, T, C) by patches."""


class ImagePrompts:
    """Puts one IP-Adapter at a time on a pipeline, and makes of images what its UNet takes beside the words."""

    def __init__(self, pipe: Any, device: torch.device, changed: Callable[[], None] = lambda: None) -> None:
        """Takes a pipeline, where its encoder shall run, and what is told when the UNet gets or loses parts."""
        self._pipe, self._device, self._changed = pipe, device, changed
        self._on = ""
        self._seen: LRUCache[tuple[str, str, tuple[str, ...]], Embeds] = LRUCache(KEPT_PROMPTS)

    def apply(self, prompt: ImagePrompt | None) -> Embeds | None:
        """Makes the pipeline take images, or words alone; returns what it takes of these images.

        Raises:
            FailedPrecondition: the IP-Adapter is of another base model or kind, or its encoder of another size (reason
                IMAGE_PROMPT_ADAPTER); the pipeline takes words alone then.
            NotFound, InvalidArgument: an image is not there, or cannot be read.
            RuntimeError, MemoryError: memory ran out.
        """
        if prompt is None:
            self._take_off()
            return None
        if self._on != prompt.adapter.digest:
            self._take_off()
            self._put_on(prompt.adapter)
        self._pipe.set_ip_adapter_scale(prompt.scale)
        key = (prompt.adapter.digest, prompt.adapter.encoder_digest, prompt.digests)
        if key not in self._seen:
            self._seen[key] = self._encode(prompt)
        return self._seen[key]

    def _take_off(self) -> None:
        if self._on:
            self._pipe.unload_ip_adapter()
            self._on = ""
            self._changed()

    def _put_on(self, adapter: LikenessAdapter) -> None:
        state = _state(adapter)
        try:
            with quiet(), torch.inference_mode(False):
                self._pipe.load_ip_adapter(state, subfolder="", weight_name="", image_encoder_folder=None)
                unet = self._pipe.unet
                unet.to(dtype=unet.dtype, device=unet.device).eval().requires_grad_(False)
                _check_widths(self._pipe.unet, state)
        except Exception as error:
            self._pipe.unload_ip_adapter()
            if is_shortage(error) or isinstance(error, FailedPrecondition):
                raise
            raise _refused(adapter, f"does not fit this base model ({type(error).__name__})") from error
        self._on = adapter.digest
        self._changed()

    def _encode(self, prompt: ImagePrompt) -> Embeds:
        """Returns what the encoder sees of images, by diffusers' own call; the encoder is gone afterwards."""
        pictures = [Image.fromarray(pixels, "RGB") for pixels in prompt.images()]
        pipe = self._pipe
        with quiet():
            encoder, processor = load_image_encoder(prompt.adapter.encoder, pipe.unet.dtype)
        try:
            pipe.register_modules(image_encoder=encoder.to(self._device), feature_extractor=processor)
            with torch.inference_mode():
                (embeds,) = pipe.prepare_ip_adapter_image_embeds([pictures], None, self._device, 1, True)
        except RuntimeError as error:
            if is_shortage(error):
                raise
            raise _refused(prompt.adapter, "does not fit its image encoder") from error
        finally:
            pipe.register_modules(image_encoder=None, feature_extractor=None)
            del encoder
            give_back()
        nothing, seen = embeds.chunk(2)
        self._check(prompt.adapter, seen)
        return nothing, seen

    def _check(self, adapter: LikenessAdapter, seen: torch.Tensor) -> None:
        """Refuses an encoder of another width than the adapter was trained with."""
        projection = self._pipe.unet.encoder_hid_proj.image_projection_layers[0]
        first = next(layer for layer in projection.modules() if isinstance(layer, torch.nn.Linear))
        if first.in_features != seen.shape[-1]:
            raise _refused(
                adapter,
                f"takes {first.in_features} numbers of an image and the encoder {adapter.encoder.name} gives "
                f"{seen.shape[-1]}",
            )


def rows(embeds: Embeds, images: int, *, guided: bool) -> list[torch.Tensor]:
    """Returns what a batch of so many images takes in `added_cond_kwargs`: the unconditional rows first."""
    nothing, seen = embeds
    return [torch.cat([nothing] * images + [seen] * images if guided else [seen] * images)]


def _state(adapter: LikenessAdapter) -> dict[str, dict[str, torch.Tensor]]:
    """Returns the tensors of a checked file by its parts."""
    state: dict[str, dict[str, torch.Tensor]] = {part: {} for part in PARTS}
    strange: list[str] = []
    with safe_open(adapter.path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            part, _, rest = name.partition(".")
            if part not in state or "lora" in rest or rest.startswith("perceiver_resampler"):
                strange.append(name)
            else:
                state[part][rest] = file.get_tensor(name)
    if strange or not all(state.values()):
        what = f"has tensors that konomi cannot apply ({strange[0][:80]})" if strange else "lacks half of an IP-Adapter"
        raise _refused(adapter, what)
    return state


def _check_widths(unet: Any, state: dict[str, dict[str, torch.Tensor]]) -> None:
    """Raises ValueError where keys and values are not those of this UNet's cross-attention, in number or shape."""
    processors = [layer for layer in unet.attn_processors.values() if hasattr(layer, "to_k_ip")]
    wide = {tuple(layer.to_k_ip[0].weight.shape) for layer in processors}
    fits = all(
        tuple(layer.to_k_ip[0].weight.shape) == (layer.hidden_size, layer.cross_attention_dim) for layer in processors
    )
    if not fits or 2 * len(processors) != len(state["ip_adapter"]):
        raise ValueError(f"keys of {sorted(wide)}")


def _refused(adapter: LikenessAdapter, why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"The IP-Adapter {adapter.path.name} {why}. Give one of this base model's layout, with the image encoder it "
        "was trained with; those for faces alone are not applied.",
        reason="IMAGE_PROMPT_ADAPTER",
    )


def shape_of(embeds: Embeds | None) -> Sequence[int]:
    """Returns the shape of what images add, on which it depends which batch sizes agree."""
    return tuple(embeds[1].shape) if embeds is not None else ()
