"""The manifest of a training run: what it is made of, frozen as canonical JSON."""

import json
from collections.abc import Sequence
from typing import Any

from konomi import files
from konomi.night.gateway.services import Studio


def manifest(studio: Studio, items: Sequence[dict[str, Any]]) -> str:
    """Freezes a training manifest, every image once, and returns its digest; what is said first of an image counts."""
    rows = {item["digest"]: item for item in reversed(items)}
    document = {"schema": "konomi.manifest/1", "items": [rows[digest] for digest in sorted(rows)]}
    return studio.client.artifacts.put(files.canonical(document), "application/json").digest


def items_of(studio: Studio, digest: str) -> list[dict[str, Any]]:
    """Returns the items of a manifest; none where there is none."""
    return list(json.loads(studio.client.artifacts.get(digest))["items"]) if digest else []
