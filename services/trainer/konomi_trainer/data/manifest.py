"""The frozen manifest of a training run: which images, with which captions and weights, and nothing else.

A set with images to turn away from has a schema of its own, so that a trainer that knows none refuses it; every other
set has the bytes it always had.
"""

import json
import math
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from konomi.errors import InvalidArgument

SCHEMA, SIGNED_SCHEMA = "konomi.manifest/1", "konomi.manifest/2"
AVOIDED = "avoided"
"""Role of an image to turn away from; a manifest of the second schema has at least one."""
ROLES = ("selected", "base", "prior", "prior_generated", AVOIDED)
DIGEST = re.compile(r"[0-9a-f]{64}")
MAX_BYTES, MAX_ITEMS, MAX_CAPTION_BYTES = 64 * 2**20, 100_000, 4096


@dataclass(frozen=True)
class ManifestItem:
    """One image of the set: digest, caption, weight above 0, and role; "prior" holds what the words meant before."""

    digest: str
    caption: str
    weight: float
    role: str

    @property
    def is_prior(self) -> bool:
        """Says whether it shows what the words meant before, found or generated."""
        return self.role.startswith("prior")


def parse(data: bytes) -> tuple[ManifestItem, ...]:
    """Returns the items of a manifest artifact in its own order, which is by digest.

    Raises:
        InvalidArgument: the bytes are no manifest; the field at fault is named, e.g. "manifest.items[3].weight".
    """
    if len(data) > MAX_BYTES:
        raise _refuse("manifest", f"at most {MAX_BYTES} bytes", f"{len(data)}")
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise _refuse(
            "manifest", "a JSON document in UTF-8", f"bytes that are none ({type(error).__name__})"
        ) from error
    _keys("manifest", document, {"schema", "items"})
    schema = document["schema"]
    if schema not in (SCHEMA, SIGNED_SCHEMA):
        raise _refuse("manifest.schema", f'"{SCHEMA}" or "{SIGNED_SCHEMA}"', repr(schema)[:80])
    rows = document["items"]
    if not isinstance(rows, list) or len(rows) > MAX_ITEMS:
        raise _refuse("manifest.items", f"a list of at most {MAX_ITEMS} items", type(rows).__name__)
    if not rows:
        raise InvalidArgument(
            "expected at least one image in the manifest; came an empty set: select images first",
            reason="MANIFEST_EMPTY",
            field="manifest.items",
        )
    items = tuple(_item(f"manifest.items[{index}]", row) for index, row in enumerate(rows))
    for index, (before, after) in enumerate(pairwise(items), 1):
        if before.digest >= after.digest:
            raise _refuse(f"manifest.items[{index}].digest", "digests in rising order, each once", after.digest[:12])
    if schema != schema_of(items):
        raise _refuse("manifest.schema", f'"{schema_of(items)}" for images of these roles', f'"{schema}"')
    return items


def schema_of(items: tuple[ManifestItem, ...]) -> str:
    """Returns the schema of a manifest of these items: the second where some are avoided."""
    return SIGNED_SCHEMA if any(item.role == AVOIDED for item in items) else SCHEMA


def render(items: tuple[ManifestItem, ...]) -> bytes:
    """Returns the canonical bytes of a manifest: sorted by digest, sorted keys, no spaces."""
    rows = [vars(item) for item in sorted(items, key=lambda item: item.digest)]
    document = {"schema": schema_of(items), "items": rows}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def _item(field: str, row: Any) -> ManifestItem:
    _keys(field, row, {"digest", "caption", "weight", "role"})
    digest, caption, weight, role = row["digest"], row["caption"], row["weight"], row["role"]
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        raise _refuse(f"{field}.digest", "a sha256 in 64 lower-case hex digits", repr(digest)[:80])
    if not isinstance(caption, str) or len(caption.encode("utf-8", "replace")) > MAX_CAPTION_BYTES:
        raise _refuse(f"{field}.caption", f"text of at most {MAX_CAPTION_BYTES} bytes", repr(caption)[:80])
    if any(ord(character) < 32 or ord(character) == 127 or 0xD800 <= ord(character) < 0xE000 for character in caption):
        raise _refuse(f"{field}.caption", "text without control characters", repr(caption)[:80])
    if (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or not 0 < weight <= 1e6
        or not math.isfinite(weight)
    ):
        raise _refuse(f"{field}.weight", "a number above 0, at most 1e6", repr(weight)[:80])
    if role not in ROLES:
        raise _refuse(f"{field}.role", " or ".join(ROLES), repr(role)[:80])
    return ManifestItem(digest, caption, float(weight), role)


def _keys(field: str, value: Any, expected: set[str]) -> None:
    if not isinstance(value, dict):
        raise _refuse(field, "a JSON object", type(value).__name__)
    if set(value) != expected:
        odd = ", ".join(sorted(set(value) ^ expected))[:120]
        raise _refuse(field, f"exactly the keys {', '.join(sorted(expected))}", f"a difference in: {odd}")


def _refuse(field: str, expected: str, came: str) -> InvalidArgument:
    message = f"{field}: expected {expected}; came {came}: write the manifest again"
    return InvalidArgument(message, reason="MANIFEST_MALFORMED", field=field)
