"""In how many bits a flow transformer's frozen weights may lie: names, bytes, and the library that packs them.

What is quantised are the linear layers within its blocks, most of its weights; embeddings, norms, and what reads the
blocks' answer stay as they are. `quantized_blocks` does it.
"""

import importlib.util
import re
from collections.abc import Mapping
from typing import Literal

from konomi.errors import FailedPrecondition

Quantization = Literal["none", "int8", "nf4"]
"""Of frozen weights; "none" leaves them in the precision of the run."""
NONE: Quantization = "none"
NAMES: tuple[Quantization, ...] = ("none", "int8", "nf4")
LIBRARY = "bitsandbytes"
BLOCK_WEIGHTS = {"int8": 256, "nf4": 64}
"""Weights that share a scale, a float32."""
PACKED_BYTES = {"int8": 1 + 4 / BLOCK_WEIGHTS["int8"], "nf4": 0.5 + 4 / BLOCK_WEIGHTS["nf4"]}
"""Bytes of a packed weight, its share of the scale included."""
BLOCK = re.compile(r"[^.]+\.\d+\.")
"""What the names begin with of that which belongs to a transformer's blocks, the numbered members of its lists."""


def check_installed(quantization: str, setting: str) -> None:
    """Refuses weights that nothing here can pack.

    Args:
        quantization: one of NAMES.
        setting: what asks for it, as konomi.toml has it, for example "[trainer] quantization".

    Raises:
        FailedPrecondition: the library is not installed (reason QUANTIZATION_UNAVAILABLE).
    """
    if quantization != NONE and importlib.util.find_spec(LIBRARY) is None:
        raise FailedPrecondition(
            f"expected the library {LIBRARY}, which packs weights as {quantization}; it is not installed: pip install "
            f"'konomi[quantized]', or set {setting} to \"none\"",
            reason="QUANTIZATION_UNAVAILABLE",
        )


def is_quantizable(name: str, dimensions: int) -> bool:
    """Says whether a transformer's tensor is the weight of a linear layer within a block, by its name and axes."""
    layer = name.removesuffix(".weight")
    return name.endswith(".weight") and dimensions == 2 and BLOCK.match(layer) is not None


def quantizable_weights(sizes: Mapping[str, int], dimensions: Mapping[str, int]) -> tuple[int, int]:
    """Returns how many weights of a transformer can be packed, and how many the largest of their layers has.

    Args:
        sizes: its tensors' names → their numbers of weights.
        dimensions: likewise, their numbers of axes.
    """
    counts = [size for name, size in sizes.items() if is_quantizable(name, dimensions[name])]
    return sum(counts), max(counts, default=0)
