"""The name of a piece of work: a sha256 over everything its outcome depends on, and over nothing else.

Two machines that are asked for the same image know it by the same key, before it is made; so after any loss what is
missing can be told, and only that is made. An embedding needs no key of its own: the rater keeps it under the digest of
its image and the name of its embedder.
"""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from konomi_generator.png import GenerationRecord

SCHEMA = "konomi.image-key/1"
MAKERS = ("konomi", "diffusers", "torch", "transformers", "peft", "pillow", "numpy")
"""Distributions whose version can change a pixel, or the bytes of a PNG."""


def image_key(record: GenerationRecord) -> str | None:
    """Returns the key of an image: of the model's and the adapters' digests, prompt, seed, settings and versions.

    Args:
        record: all that the image would say of itself, without what memory forced on it; the images it is made from
            and is to look like stand there as digests.

    Returns:
        64 hexadecimal digits; None where another program makes the image, whose version nobody here knows.
    """
    if record.backend != "diffusers" or record.fallbacks:
        return None
    content = {"schema": SCHEMA, "versions": _versions(), "record": asdict(record)}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@cache
def _versions() -> dict[str, str]:
    versions = {}
    for name in MAKERS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions
