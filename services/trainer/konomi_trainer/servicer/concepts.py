"""The rpcs about concepts, behind the trainer's servicer: merging models and retrieving regularisation images."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy

from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.concept_format import MEDIA_TYPE
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.configuration import PLAIN, Configuration
from konomi_trainer.data import dual_encoder, manifest, retrieval
from konomi_trainer.merging import concepts as merging
from konomi_trainer.methods import concept_file, word_lora
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.servicer import messages
from konomi_trainer.storage import models, runs

TARGETS_OF_A_MODEL = 8


@dataclass(frozen=True)
class Merged:
    """A merge that is done: run and model to register in one transaction."""

    model: models.ModelRow
    request: pb.CreateTrainingRunRequest


class ConceptRpcs:
    """Merges models and retrieves images."""

    def __init__(
        self,
        store: ArtifactStore,
        bases: BaseCatalogue,
        pixels: Callable[[bytes], np.ndarray],
        folder: Path,
        embedder: str,
    ) -> None:
        """Joins the parts.

        Args:
            store: where adapters, manifests and images are.
            bases: the base models of the home.
            pixels: decodes an image file to (H, W, 3) uint8.
            folder: the home's models folder.
            embedder: what compares captions and images; see data/dual_encoder.py.
        """
        self._store, self._bases, self._pixels, self._folder, self._embedder = store, bases, pixels, folder, embedder

    def retrieve(self, request: pb.RetrieveImagesRequest) -> pb.RetrieveImagesResponse:
        """Returns regularisation images among the candidates of a request."""
        items = manifest.parse(self._store.get(request.candidates_digest))
        query = retrieval.Query(
            prompts=request.prompts,
            concepts=request.concept_digests,
            limit=request.limit or retrieval.LIMIT,
            min_text=request.min_text_similarity if request.HasField("min_text_similarity") else retrieval.MIN_TEXT,
            min_image=request.min_image_similarity if request.HasField("min_image_similarity") else None,
        )
        encoder = dual_encoder.load(self._folder, self._embedder)
        retrieved = retrieval.retrieve(items, query, encoder, lambda digest: self._pixels(self._store.get(digest)))
        images = [
            pb.RetrievedImage(
                digest=hit.item.digest, caption=hit.item.caption, text_similarity=hit.text, image_similarity=hit.image
            )
            for hit in retrieved.hits
        ]
        return pb.RetrieveImagesResponse(images=images, candidates=len(items), warnings=retrieved.warnings)

    def merge(self, rows: Sequence[models.ModelRow], request: pb.MergeModelsRequest) -> Merged:
        """Returns the merge of models; its adapter is in the store, nothing is registered yet.

        Raises:
            FailedPrecondition: one knows no words, their methods or their bases differ.
            InvalidArgument: tokens collide, or there are too few captions.
        """
        if METHODS[rows[0].method].read_words is not None:
            return self._join(rows, request)
        readers = [_concept_reader(row) for row in rows]  # a method that cannot be merged is refused before any read
        loaded = [read(self._store.get(row.adapter_digest)) for read, row in zip(readers, rows, strict=True)]
        merging.check(loaded)
        texts = [_texts(self._store.get(row.manifest_digest), model) for row, model in zip(rows, loaded, strict=True)]
        captions = sorted(set(request.captions) or {caption for _, regular in texts for caption in regular})
        document = {
            "schema": merging.SCHEMA,
            "items": [],
            "models": [row.adapter_digest for row in rows],
            "captions": captions,
            "targets": sorted({caption for own, _ in texts for caption in own}),
            "keep_mass": request.keep_mass,
        }
        data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        digest = self._store.put(data, "application/json").digest
        first = Configuration(**json.loads(rows[0].configuration))
        concepts = tuple(asdict(concept) for model in loaded for concept in model.concepts)
        configuration = replace(first, concepts=concepts, seed=0, precision="fp32")
        record = _record(configuration, digest)
        parts = [merging.MergePart(model, own) for model, (own, _) in zip(loaded, texts, strict=True)]
        merged, figures = merging.merge_parts(
            self._bases.load(replace(configuration, prompt_syntax=PLAIN)), parts, captions, request.keep_mass, record
        )
        adapter = self._store.put(concept_file.to_bytes(merged), MEDIA_TYPE).digest
        return self._described(rows, request, configuration, digest, adapter, figures)

    def _join(self, rows: Sequence[models.ModelRow], request: pb.MergeModelsRequest) -> Merged:
        """Returns models with words beside a LoRA as one: all their words, and their changes added up."""
        if request.keep_mass or request.captions:
            field = "keep_mass" if request.keep_mass else "captions"
            raise InvalidArgument(
                f"expected none, since words beside a LoRA are merged by adding up, which needs no {field}; some came: "
                "leave it out",
                reason="MERGE",
                field=field,
            )
        loaded = [_word_reader(row, rows[0])(self._store.get(row.adapter_digest)) for row in rows]
        merging.check(loaded)
        texts = [_texts(self._store.get(row.manifest_digest), model) for row, model in zip(rows, loaded, strict=True)]
        document = {
            "schema": merging.SCHEMA,
            "items": [],
            "models": [row.adapter_digest for row in rows],
            "captions": [],
            "targets": sorted({caption for own, _ in texts for caption in own}),
        }
        data = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        digest = self._store.put(data, "application/json").digest
        first = Configuration(**json.loads(rows[0].configuration))
        concepts = tuple(asdict(concept) for model in loaded for concept in model.concepts)
        rank = sum(model.rank for model in loaded)
        configuration = replace(first, concepts=concepts, seed=0, rank=rank)
        record = _record(configuration, digest)
        merged = word_lora.to_bytes(word_lora.joined(loaded, record))
        adapter = self._store.put(merged, MEDIA_TYPE).digest
        figures = {"concepts": float(len(concepts)), "rank": float(rank)}
        return self._described(rows, request, configuration, digest, adapter, figures)

    def _described(
        self,
        rows: Sequence[models.ModelRow],
        request: pb.MergeModelsRequest,
        configuration: Configuration,
        manifest_digest: str,
        adapter: str,
        figures: Mapping[str, float],
    ) -> Merged:
        """Returns the model of a merge, and the request that stands for a training run it never had."""
        taste, config = rows[0].taste, configuration.digest()
        name = runs.run_id(taste, manifest_digest, config)
        model = models.ModelRow(
            id=name,
            training_run=name,
            taste=taste,
            display_name=request.display_name,
            method=configuration.method,
            base_model=configuration.base_model,
            base_digest=configuration.base_digest,
            parents=tuple(row.id for row in rows),
            adapter_digest=adapter,
            manifest_digest=manifest_digest,
            rater_version="",
            config_digest=config,
            configuration=json.dumps(asdict(configuration), sort_keys=True),
            seed=0,
            metrics=dict(figures),
            night="",
            create_time=time.time(),
        )
        return Merged(model, _training_request(model, configuration, request.request_id))


def _record(configuration: Configuration, manifest_digest: str) -> dict[str, str]:
    """Returns what the file of a merge says of where it comes from."""
    return {
        "schema": "konomi.adapter/1",
        "method": configuration.method,
        "base_model": configuration.base_model,
        "base_digest": configuration.base_digest,
        "manifest_digest": manifest_digest,
        "config_digest": configuration.digest(),
    }


def _training_request(
    model: models.ModelRow, configuration: Configuration, request_id: str
) -> pb.CreateTrainingRunRequest:
    return pb.CreateTrainingRunRequest(
        taste=model.taste,
        manifest_digest=model.manifest_digest,
        method=messages.method_value(model.method),
        base_model=model.base_model,
        display_name=model.display_name,
        parents=model.parents,
        request_id=request_id,
        concepts=[pb.Concept(**concept) for concept in configuration.concepts],
    )


def find(engine: sqlalchemy.Engine, names: Sequence[str]) -> list[models.ModelRow]:
    """Returns the models of a request, in its order.

    Raises:
        NotFound: there is no such model.
    """
    with reading(engine) as connection:
        rows = [(name, models.get(connection, name.removeprefix("models/"))) for name in names]
    for name, row in rows:
        if row is None:
            raise NotFound(f"There is no {name}; list the models to see which there are.", reason="MODEL_NOT_FOUND")
    return [row for _, row in rows if row is not None]


def register(connection: sqlalchemy.Connection, merged: Merged) -> pb.Model:
    """Adds the merged model, and the finished run it counts as, unless both are there; returns it as a message."""
    model = merged.model
    row = models.get(connection, model.id)
    if row is None:
        runs.create(
            connection,
            model.taste,
            model.manifest_digest,
            model.config_digest,
            request=merged.request.SerializeToString(),
            configuration=model.configuration,
            total_steps=0,
            now=model.create_time,
        )
        models.register(connection, model)
        runs.succeed(connection, model.id, model.id, 0, 0.0)
        row = models.get(connection, model.id)
    assert row is not None
    return messages.model(row)


def concepts_of(request: pb.CreateTrainingRunRequest) -> tuple[Any, ...]:
    """Returns the concepts of a request as plain mappings."""
    return tuple(
        {"token": c.token, "class_word": c.class_word, "initial_word": c.initial_word} for c in request.concepts
    )


def _texts(data: bytes, model: concept_file.ConceptModel | word_lora.WordLora) -> tuple[list[str], list[str]]:
    """Returns captions that name the concepts, and ordinary ones, from a manifest or an earlier merge."""
    document = json.loads(data)
    if document.get("schema") == merging.SCHEMA:
        return document["targets"], document["captions"]
    items = manifest.parse(data)
    own = sorted({item.caption for item in items if any(c.token in item.caption for c in model.concepts)})
    ordinary = sorted({item.caption for item in items if item.role != "selected" and item.caption})
    return own[:TARGETS_OF_A_MODEL], ordinary


def _word_reader(row: models.ModelRow, first: models.ModelRow) -> Callable[[bytes], word_lora.WordLora]:
    read = METHODS[row.method].read_words
    if read is None:
        raise FailedPrecondition(
            f"expected models of one method; {first.display_name or first.id} is of {first.method} and "
            f"{row.display_name or row.id} of {row.method}: merge those of one",
            reason="METHOD_NOT_MERGED",
        )
    return read


def _concept_reader(row: models.ModelRow) -> Callable[[bytes], concept_file.ConceptModel]:
    read = METHODS[row.method].read_concepts
    if read is None:
        raise FailedPrecondition(
            f"expected Custom Diffusion models; {row.display_name or row.id} is of method {row.method}: give "
            "GenerateImages several adapters instead",
            reason="METHOD_NOT_MERGED",
        )
    return read
