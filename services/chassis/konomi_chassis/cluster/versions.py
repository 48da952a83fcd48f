"""Which libraries decide what an actor makes, and whether its machine has them in the versions of the service.

Another version of one of them can change a bit of an image, a vector or an adapter, and nothing afterwards would tell
which machine made it. How a library was built does not count (`+cpu`, `+cu130`): a service without a card may well give
work to actors that have one. Nor does what only one side has: where it is needed, its lack is said by whoever needs it.
"""

import json
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from konomi.errors import FailedPrecondition

DRAWING = ("konomi", "torch", "diffusers", "transformers", "peft", "tokenizers", "bitsandbytes", "pillow", "numpy")
"""Distributions whose version can change a pixel, or the bytes of a PNG."""
EMBEDDING = ("konomi", "torch", "torchvision", "timm", "open_clip_torch", "transformers", "pillow", "pi-heif", "numpy")
"""Those whose version can change a vector, from the bytes of an image on."""
TRAINING = (*DRAWING, "accelerate", "torchvision", "safetensors")
"""Those whose version can change an adapter."""


def installed(names: Iterable[str]) -> dict[str, str]:
    """Returns the version of each distribution, without how it was built; empty where it is not installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = version(name).partition("+")[0]
        except PackageNotFoundError:
            versions[name] = ""
    return versions


def difference(service: Mapping[str, str]) -> FailedPrecondition | None:
    """Returns why this machine cannot do the work of a service; None where it has the same versions.

    Args:
        service: what `installed` says where the service is.

    Returns:
        An error with reason VERSIONS_DIFFER that names each library, and the line that makes them equal.
    """
    own = installed(service)
    others = [name for name in service if own[name] and service[name] and own[name] != service[name]]
    if not others:
        return None
    told = ", ".join(f"{name} {own[name]} in place of {service[name]}" for name in others)
    wanted = " ".join(f'"{name}=={service[name]}"' for name in others)
    return FailedPrecondition(
        f"One machine of the cluster has other libraries than the service, so what it makes could differ: {told}. "
        f"Run there: pip install {wanted}. Then restart the service.",
        reason="VERSIONS_DIFFER",
    )


def written(names: Iterable[str]) -> str:
    """Returns what `installed` says as JSON, for an actor."""
    return json.dumps(installed(names))
