"""The manifest of a training run: what it is made of, frozen as canonical JSON.

Every manifest of the client is built here and read here: a document of the schema "konomi.manifest/1" whose items name
an image each, in the order of their digests; with images to turn away from it is "konomi.manifest/2", which a trainer
that knows none refuses.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from konomi import files
from konomi.client import Client

SCHEMA, SIGNED_SCHEMA = "konomi.manifest/1", "konomi.manifest/2"
SELECTED, BASE, PRIOR, AVOIDED = "selected", "base", "prior", "avoided"
"""Roles of an image: chosen by taste or taught, made by the base model, real regularisation, or to turn away from."""


@dataclass(frozen=True)
class Item:
    """One image of a training set.

    Attributes:
        digest: of the image.
        caption: what the model is told it shows.
        weight: its weight in the loss, 1 for an ordinary image.
        role: SELECTED, BASE, PRIOR or AVOIDED.
    """

    digest: str
    caption: str
    weight: float = 1.0
    role: str = SELECTED


def render(items: Sequence[Item]) -> bytes:
    """Returns the bytes of a manifest: every digest once, rising; what is said first of an image counts."""
    rows = {item.digest: asdict(item) for item in reversed(items)}
    signed = any(row["role"] == AVOIDED for row in rows.values())
    schema = SIGNED_SCHEMA if signed else SCHEMA
    return files.canonical({"schema": schema, "items": [rows[digest] for digest in sorted(rows)]})


def freeze(client: Client, items: Sequence[Item]) -> str:
    """Stores the manifest of some items and returns its digest."""
    return client.artifacts.put(render(items), "application/json").digest


def items_of(client: Client, digest: str) -> list[Item]:
    """Returns the items of a manifest; none where none is named."""
    rows = json.loads(client.artifacts.get(digest))["items"] if digest else []
    return [
        Item(row["digest"], row.get("caption", ""), row.get("weight", 1.0), row.get("role", SELECTED)) for row in rows
    ]
