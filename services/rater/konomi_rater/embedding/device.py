"""Where a tower runs, in what precision and in what portions, where settings leave it open.

A GPU multiplies half precision at ten times the rate of float32 and more: on a card of 2024 a ViT-L/14 takes 4,900
images a second in bfloat16 and 410 in float32, by count. What comes out is as near as two JPEG qualities of one image.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from konomi_rater.embedding.names import AUTO, FP32
from konomi_rater.settings import RaterSettings

if TYPE_CHECKING:  # torch is imported where something is asked of it: a placement is known before it is settled
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Precision to the name of torch's number format."""
BATCH, GPU_BATCH = 32, 64
"""Images of a pass at most where nobody says: a GPU is not busy with fewer."""
KEPT, GPU_KEPT = 16, 64
"""Images in a pass whose result is kept: one size for ever on a kind of device, because another rounds otherwise."""


@dataclass(frozen=True)
class Placement:
    """Where and in what portions a model runs.

    Attributes:
        device: "cpu", "cuda" or "cuda:1"; "auto" takes a GPU where there is one.
        threads: of the CPU.
        batch: images in a pass at most; 0 chooses by the device.
        precision: "fp32", "bf16" or "fp16"; "auto" until it is known whose it is.
    """

    device: str
    threads: int
    batch: int
    precision: str = FP32

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device.partition(":")[0] == "cuda"

    @property
    def kept(self) -> int:
        """Images in a pass whose result is kept."""
        return GPU_KEPT if self.on_gpu else KEPT

    @property
    def dtype(self) -> "torch.dtype":
        """The number format of the tower."""
        import torch

        dtype: torch.dtype = getattr(torch, DTYPES[self.precision])
        return dtype


def placement(settings: RaterSettings) -> Placement:
    """Returns what the settings say of it; not settled yet."""
    batch = 0 if settings.embed_batch == "auto" else settings.embed_batch
    return Placement(settings.embedder_device, settings.embedder_threads, batch, settings.embedder_precision)


def settled(asked: Placement) -> Placement:
    """Returns a placement with device and batch; on a GPU float32 may be multiplied as TF32 from then on.

    It takes no memory of the GPU, which another service may need until the first image comes.
    """
    import torch

    device = ("cuda" if torch.cuda.is_available() else "cpu") if asked.device == AUTO else asked.device
    placement = replace(asked, device=device)
    if placement.on_gpu:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    return replace(placement, batch=asked.batch or (GPU_BATCH if placement.on_gpu else BATCH))


def precision(placement: Placement) -> str:
    """Returns what a tower computes in: on a GPU bf16 where it computes in that, else fp16; fp32 on the CPU."""
    if placement.precision != AUTO:
        return placement.precision
    if not placement.on_gpu:
        return FP32
    import torch

    with torch.cuda.device(placement.device):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
