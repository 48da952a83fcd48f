"""What the families share whose transformer takes 2 x 2 cells of a latent as one token and answers a flow's velocity.

FLUX.1 (Black Forest Labs 2024) and what came after it: each is a file of its own beside this one, with its texts, its
conditions and its call of the network.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from konomi_chassis.models.families.family import LORA_TARGETS, Defaults, ExportNames, Found, FoundFolder, NoisePath
from konomi_chassis.models.families.flow.transformer import FlowTransformer, sensible_side
from konomi_chassis.models.families.layer_names import HEAD, text_calls
from konomi_chassis.models.noise_schedule import NoiseSchedule
from konomi_chassis.models.safetensors_check import unsupported

if TYPE_CHECKING:
    import torch

JOINT_TARGETS = (*LORA_TARGETS, "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""The layers of joint attention an adapter sits on: those of the image, then those of the text."""
PACKED = 4
"""Channels of a token for every channel of a latent."""


class PackedFamily(FlowTransformer):
    """See Family; what a family of this kind has of its own its class says."""

    defaults: ClassVar[Defaults]
    exported: ClassVar[ExportNames]
    latent_channels: ClassVar[str] = "latent_channels"
    """What the autoencoder's configuration calls the channels of a latent."""

    def check(self, found: Found) -> None:
        """Refuses a transformer that does not take the autoencoder's latents: one for inpainting or for depth."""
        assert isinstance(found, FoundFolder)
        taken = found.config("transformer").get("in_channels", 64)
        if taken != PACKED * found.config("vae").get(self.latent_channels, 16):
            unsupported(found.id, "its transformer does not take the vae's latents")

    def side(self, found: Found, schedule: NoiseSchedule) -> int:
        """Returns the side of the images it was trained for, pixels; the autoencoder's configuration may say it."""
        assert isinstance(found, FoundFolder)
        return sensible_side(found.config("vae").get("sample_size"), self.defaults.side)

    def towers(self, pipe: Any) -> list[tuple[Any, Any]]:
        """Returns none: its text encoders stay as they are."""
        return []

    def chunk_count(self, pipe: Any, text: str) -> int:
        """Returns 1: what is longer is cut."""
        return 1

    def channels(self, pipe: Any) -> int:
        """Returns the channels of a latent."""
        return int(pipe.transformer.config.in_channels) // PACKED

    def trained_side(self, pipe: Any) -> int:
        """Returns the side of the images its transformer was made for, pixels."""
        return sensible_side(pipe.vae.config.get("sample_size"), self.defaults.side)

    def drawn(self, pipe: Any, latents: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
        """Returns (N, C, h, w) latents of the tokens that the pipeline's call gives for images of so many pixels."""
        from konomi_chassis.models.families import packing

        scale = int(pipe.vae_scale_factor)
        return packing.unpack(latents, height // scale, width // scale)

    def path(self, scheduler: Any, device: "torch.device | None" = None) -> NoisePath:
        """Returns the flow of a scheduler; the steps are spaced evenly, whatever shift the scheduler adds."""
        from konomi_chassis.models.families.flow.flow_path import FlowPath

        return FlowPath.of(scheduler, device, cells=PACKED, spaced=True)

    def layer_calls(self, component: str, name: str, pipe: Any, names: Sequence[str]) -> list[str]:
        """Returns diffusers' names of a layer, and as what stands for dots kohya's and LyCORIS'."""
        if component != self.network:
            return text_calls(name, component, self.exported.texts[component])
        flat = name.replace(".", "_")
        kohya = [f"{head}_{flat}" for head in ("lora_unet", "lora_transformer", "lycoris")]
        return [f"{component}.{name}", name, f"{HEAD}{name}", *kohya]
