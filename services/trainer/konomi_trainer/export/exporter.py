"""Models in the formats of other tools: as stored, kohya's, merged into a whole checkpoint, and their model card."""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.table import family
from konomi_trainer.base_models import pipeline
from konomi_trainer.data.cache import Tensors
from konomi_trainer.data.manifest import parse
from konomi_trainer.data.tensors import pack, unpack
from konomi_trainer.export import custom_diffusion, kohya, model_card
from konomi_trainer.merging import concepts as merging
from konomi_trainer.methods import adapter_file
from konomi_trainer.methods.concept_file import ConceptModel
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.methods.word_lora import WordLora
from konomi_trainer.storage.models import ModelRow

CHECKPOINT_MEDIA_TYPE, ZIP_MEDIA_TYPE = "application/vnd.konomi.checkpoint+safetensors", "application/zip"
LONG_AGO = (1980, 1, 1, 0, 0, 0)


class ExportStore(Protocol):
    """The artifact store."""

    def get(self, digest: str) -> bytes:
        """Returns the bytes, verified."""

    def put(self, data: bytes, media_type: str) -> Any:
        """Stores bytes; returns digest, media type and size."""

    def stat(self, digest: str) -> Any:
        """Returns digest, media type and size."""


class MergeableBases(Protocol):
    """The base models, with what merging into them needs; see base_models/catalogue.py."""

    def describe(self, name: str) -> pipeline.BaseInfo:
        """Returns what is known of a base model."""

    def merged_checkpoint(self, name: str, digest: str, adapter: bytes) -> Tensors:
        """Returns the tensors of a single-file checkpoint with an adapter merged in, float16."""

    def merged_folder(self, name: str, digest: str, adapter: bytes, folder: Path) -> None:
        """Writes the diffusers folder of a base model with an adapter merged in, float16."""


@dataclass(frozen=True)
class Extras:
    """What is added: an image for the thumbnail, or a sample sheet whose first image serves; the author's name."""

    thumbnail_digest: str = ""
    sheet_digest: str = ""
    author: str = ""


class Exporter:
    """Writes models for other tools; the same model gives the same bytes."""

    def __init__(
        self, store: ExportStore, bases: MergeableBases, pixels: Callable[[bytes], np.ndarray], scratch: Path
    ) -> None:
        """Joins the parts.

        Args:
            store: where adapters are and exports go.
            bases: the base models.
            pixels: decodes an image file to (H, W, 3) uint8.
            scratch: a folder for files that are on their way into an archive.
        """
        self._store, self._bases, self._pixels, self._scratch = store, bases, pixels, scratch
        self._forms: dict[str, Callable[[ModelRow, Extras], Any]] = {
            "peft": self._stored,
            "diffusers": self._diffusers,
            "kohya": self._kohya,
            "merged": self._merged,
            "merged_folder": self._folder,
            "model_card": self._card,
        }

    def export(self, model: ModelRow, form: str, extras: Extras | None = None) -> Any:
        """Returns the artifact of a model as one of the formats of ExportFormat in trainer.proto.

        Raises:
            FailedPrecondition: a model that knows words cannot be merged into a checkpoint, or its base has changed.
        """
        return self._forms[form](model, extras or Extras())

    def _stored(self, model: ModelRow, _extras: Extras) -> Any:
        return self._store.stat(model.adapter_digest)

    def _diffusers(self, model: ModelRow, extras: Extras) -> Any:
        concept, words = self._concepts(model), self._words(model)
        if words is not None:
            archive = custom_diffusion.words_archive(words, self._row_names(model), {})
            return self._store.put(archive, custom_diffusion.MEDIA_TYPE)
        if concept is None:
            data = self._store.get(model.adapter_digest)
            loadable = adapter_file.loadable(data)
            if loadable is data:
                return self._stored(model, extras)
            return self._store.put(loadable, adapter_file.MEDIA_TYPE)
        return self._store.put(custom_diffusion.archive(concept, {"konomi": model.id}), custom_diffusion.MEDIA_TYPE)

    def _kohya(self, model: ModelRow, extras: Extras) -> Any:
        base, concept = self._bases.describe(model.base_model), self._concepts(model)
        if concept is not None:
            fields = self._header(model, base, custom_diffusion.largest_rank(concept), extras)
            archive = custom_diffusion.archive(
                concept, fields, lambda tensors: kohya.rename(tensors, base.layout, base.layers_per_block)
            )
            return self._store.put(archive, custom_diffusion.MEDIA_TYPE)
        words = self._words(model)
        if words is not None:
            fields = self._header(model, base, words.rank, extras)
            archive = custom_diffusion.words_archive(
                words,
                self._row_names(model),
                fields,
                lambda tensors: kohya.rename(tensors, base.layout, base.layers_per_block),
            )
            return self._store.put(archive, custom_diffusion.MEDIA_TYPE)
        stored, joined = self._store.get(model.adapter_digest), bool(family(base.layout).exported.head)
        weights, header = unpack(adapter_file.loadable(stored) if joined else stored)
        record = json.loads(header["konomi"])
        native = None if joined else record.get("native")
        if native:
            weights, header = unpack(self._store.get(native))
        own = bool(native) or record["schema"] == adapter_file.NATIVE
        if own:
            rank = int(json.loads(header["konomi"])["rank"])
        else:
            rank = int(json.loads(header["lora_adapter_metadata"])[f"{family(base.layout).network}.r"])
        named = kohya.rename(weights, base.layout, base.layers_per_block, rank if own else 0)
        fields = self._header(model, base, rank, extras)
        return self._store.put(pack(named, {**fields, **kohya.hashes(pack(named))}), kohya.MEDIA_TYPE)

    def _merged(self, model: ModelRow, extras: Extras) -> Any:
        base = self._bases.describe(model.base_model)
        tensors = self._bases.merged_checkpoint(model.base_model, model.base_digest, self._plain(model))
        fields = {
            name: value for name, value in self._header(model, base, 0, extras).items() if name.startswith("modelspec.")
        }
        fields["modelspec.architecture"] = kohya.architecture(base)
        return self._store.put(pack(tensors, {**fields, **kohya.hashes(pack(tensors))}), CHECKPOINT_MEDIA_TYPE)

    def _folder(self, model: ModelRow, _extras: Extras) -> Any:
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch) as name:
            folder = Path(name) / "model"
            self._bases.merged_folder(model.base_model, model.base_digest, self._plain(model), folder)
            (folder / "README.md").write_text(self._text(model), "utf-8")
            return self._store.put(_zip(folder), ZIP_MEDIA_TYPE)

    def _card(self, model: ModelRow, _extras: Extras) -> Any:
        return self._store.put(self._text(model).encode(), "text/markdown")

    def _text(self, model: ModelRow) -> str:
        return model_card.card(model, self._bases.describe(model.base_model).layout, self._captions(model))

    def _header(self, model: ModelRow, base: pipeline.BaseInfo, rank: int, extras: Extras) -> dict[str, str]:
        fields = kohya.header(model, base, rank, self._captions(model), extras.author)
        if extras.thumbnail_digest:
            fields["modelspec.thumbnail"] = kohya.thumbnail(self._pixels(self._store.get(extras.thumbnail_digest)))
        elif extras.sheet_digest:
            side = json.loads(model.configuration).get("resolution") or base.resolution
            sheet = self._pixels(self._store.get(extras.sheet_digest))
            fields["modelspec.thumbnail"] = kohya.thumbnail(sheet[:side, :side])
        return fields

    def _captions(self, model: ModelRow) -> list[str]:
        if not model.manifest_digest:
            return []
        data = self._store.get(model.manifest_digest)
        document = json.loads(data)
        if document.get("schema") == merging.SCHEMA:
            return list(document["targets"])
        return [item.caption for item in parse(data)]

    def _concepts(self, model: ModelRow) -> ConceptModel | None:
        """Returns a model that brings words of its own; None for one that changes weights alone."""
        read = METHODS[model.method].read_concepts
        return read(self._store.get(model.adapter_digest)) if read is not None else None

    def _words(self, model: ModelRow) -> WordLora | None:
        """Returns a model that brings words beside a LoRA; None for any other."""
        read = METHODS[model.method].read_words
        return read(self._store.get(model.adapter_digest)) if read is not None else None

    def _row_names(self, model: ModelRow) -> tuple[str, ...]:
        names = family(self._bases.describe(model.base_model).layout).words
        return tuple(names[encoder] for encoder in sorted(names))

    def _plain(self, model: ModelRow) -> bytes:
        if METHODS[model.method].binds:
            raise FailedPrecondition(
                "expected an adapter that changes weights alone; a model that knows concepts also brings words, which "
                "a whole checkpoint has no place for: export it as kohya, which gives a LoRA and its embeddings",
                reason="EXPORT_FORMAT",
            )
        return adapter_file.loadable(self._store.get(model.adapter_digest))


def _zip(folder: Path) -> bytes:
    """Returns a zip of a folder that depends on its files alone."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            archive.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), LONG_AGO), path.read_bytes())
    return stream.getvalue()
