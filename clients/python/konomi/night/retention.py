"""What may be forgotten and when: the owner's policy, what keeps an image, and the collection by the services.

What nights and models name stays: every digest in the record, the verdict or the report of a night, every manifest a
model was trained on, every set that grows. What a night under way made stays whole.
"""

import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from konomi.client import Client
from konomi.client.paging import pages
from konomi.files import canonical
from konomi.night.records.state import ENDED, StateName
from konomi.night.records.store import NightStore
from konomi.settings import KonomiSettings
from konomi.v1 import trainer_pb2

DAY = 86400.0
NAMED = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
MOST_NAMED = 50_000
"""Digests that are named in a call; more go as an artifact."""
RECORDS = ("*.json", "*.html")
"""What a night leaves in its folder and names images in."""


class StorageSettings(KonomiSettings):
    """What may go from the disk, and after how many days; graded images, embeddings and records never go."""

    model_config = SettingsConfigDict(
        env_prefix="KONOMI_STORAGE_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )
    toml_table: ClassVar[str] = "storage"

    rejected_days: float = Field(30.0, ge=0, le=36500)
    """Age from which the pixels of rejected candidates may go; 0 means never."""
    keep_units: int = Field(2, ge=0, le=1000)
    """Newest units of every taste whose images all stay."""
    checkpoint_days: float = Field(7.0, ge=0, le=36500)
    """Age from which the adapters of checkpoints that became no model may go; 0 means never."""
    cache_days: float = Field(30.0, ge=0, le=36500)
    """Days without use after which caches may go, which are made again when they are needed; 0 means never."""
    demo_days: float = Field(14.0, ge=0, le=36500)
    """Age from which whole homes of `konomi demo` may go; 0 means never."""


@dataclass(frozen=True)
class Kept:
    """What keeps images: digests, artifacts that name images, and nights under way."""

    digests: frozenset[str] = frozenset()
    artifacts: frozenset[str] = frozenset()
    nights: frozenset[str] = frozenset()


@dataclass
class Taken:
    """What a collection found by kind, as (count, bytes), and what it took or would take."""

    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)
    digests: list[str] = field(default_factory=list)
    count: int = 0
    size: int = 0


def kept(client: Client, nights: NightStore) -> Kept:
    """Returns what keeps images in a home."""
    named = {digest for night in _folders(nights) for digest in _named(night)}
    under_way = {night for night in nights.all() if _under_way(nights, night)}
    listed = pages(client.trainer.list_models)
    artifacts = {model.manifest_digest for page in listed for model in page.models if model.manifest_digest}
    artifacts |= {run.request.manifest_digest for run in _unfinished(client)}
    sets = {unit.selection.set for night in nights.all() for unit in nights.state(night).units if unit.selection}
    return Kept(frozenset(named), frozenset(artifacts | sets - {""}), frozenset(under_way))


def collect_images(client: Client, keep: Kept, settings: StorageSettings, *, dry: bool, taste: str = "") -> Taken:
    """Collects the pixels of rejected candidates, or says which would go.

    Raises:
        FailedPrecondition: the store is no folder of the rater's machine, or what names images cannot be read.
    """
    taken, token, digests, artifacts = Taken(), "", sorted(keep.digests), sorted(keep.artifacts)
    if len(digests) > MOST_NAMED:
        artifacts.append(client.artifacts.put(canonical({"digests": digests}), "application/json").digest)
        digests = []
    while token or not taken.kinds:
        reply = client.rater.collect_images(
            taste=taste,
            rejected_seconds=settings.rejected_days * DAY,
            keep_units=settings.keep_units,
            keep_digests=digests,
            keep_artifacts=artifacts,
            keep_nights=sorted(keep.nights),
            page_token=token,
            dry_run=dry,
            request_id="" if dry else str(uuid.uuid4()),
        )
        if not taken.kinds:
            taken.kinds = {kind.kind: (kind.count, kind.bytes) for kind in reply.kinds}
        taken.digests += reply.digests
        taken.count, taken.size = taken.count + reply.count, taken.size + reply.bytes
        token = reply.next_page_token
        if not taken.kinds:
            break  # no taste knows an image
    return taken


def collect_checkpoints(client: Client, settings: StorageSettings, *, dry: bool) -> Taken:
    """Collects the adapters of checkpoints that became no model, or says which would go.

    Raises:
        FailedPrecondition: the store is no folder of the trainer's machine.
    """
    reply = client.trainer.collect_checkpoints(
        checkpoint_seconds=settings.checkpoint_days * DAY,
        dry_run=dry,
        request_id="" if dry else str(uuid.uuid4()),
    )
    kinds = {kind.kind: (kind.count, kind.bytes) for kind in reply.kinds}
    return Taken(kinds, list(reply.digests), reply.count, reply.bytes)


def _folders(nights: NightStore) -> Iterator[Path]:
    if nights.folder.is_dir():
        yield from (path for path in nights.folder.iterdir() if path.is_dir() and not path.is_symlink())


def _named(folder: Path) -> Iterable[str]:
    """Yields every digest that stands in the records of a night."""
    for pattern in RECORDS:
        for path in folder.glob(pattern):
            if not path.is_symlink():
                yield from (digest.decode() for digest in NAMED.findall(path.read_bytes()))


def _under_way(nights: NightStore, night: str) -> bool:
    """Says whether a night may go on: it has not ended, whatever version began it, and nobody gave it up."""
    return nights.read(night).get("state") not in (*ENDED, StateName.ABANDONED)


def _unfinished(client: Client) -> Iterator[trainer_pb2.TrainingRun]:
    """Yields the training runs that have made no model: their manifests name what they need to go on."""
    for page in pages(client.trainer.list_training_runs):
        yield from (run for run in page.training_runs if not run.model)
