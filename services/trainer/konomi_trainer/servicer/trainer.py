"""konomi.v1.TrainerService over the tables and the worker: messages in, messages out."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import grpc
import sqlalchemy

from konomi.errors import GONE, InvalidArgument, NotFound, Unavailable
from konomi.v1 import artifact_pb2
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.auth.authentication import principal
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.idempotency import Idempotency
from konomi_trainer import configuration
from konomi_trainer.data import manifest
from konomi_trainer.export.exporter import Exporter, Extras
from konomi_trainer.jobs import publishing
from konomi_trainer.jobs.worker import Worker
from konomi_trainer.methods import concepts, contrast, registry
from konomi_trainer.servicer import concepts as concept_rpcs
from konomi_trainer.servicer import messages
from konomi_trainer.servicer.collection import CollectionRpcs
from konomi_trainer.servicer.listing import ListingRpcs, model_named, run_named
from konomi_trainer.servicer.snapshots import SnapshotRpcs
from konomi_trainer.storage import models, runs

BETWEEN_MESSAGES_SECONDS, STILL_THERE_SECONDS = 0.1, 5.0


class TrainableBases(Protocol):
    """The base models of the home."""

    def digest(self, name: str) -> str:
        """Returns the digest of a base model's weights; raises FailedPrecondition(MODEL_MISSING)."""

    def traits(self, name: str) -> configuration.BaseTraits:
        """Returns what of a base model and of this machine decides the numbers a caller leaves open."""

    def check(self, configuration: configuration.Configuration) -> None:
        """Raises FailedPrecondition where this machine cannot train with a precision or an optimiser."""

    def check_binds(self, name: str, *, words: bool = False) -> None:
        """Raises InvalidArgument where a method that binds words has nothing to change in a base model."""


@dataclass(frozen=True)
class ModelOperations:
    """What is done with models that are there: exports, merges and the search for regularisation images."""

    exporter: Exporter
    concepts: concept_rpcs.ConceptRpcs


class TrainerServicer(ListingRpcs, SnapshotRpcs, CollectionRpcs):
    """Serves training runs and the catalogue of models."""

    def __init__(
        self,
        engine: sqlalchemy.Engine,
        store: ArtifactStore,
        bases: TrainableBases,
        worker: Worker,
        operations: ModelOperations,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Joins the parts; `clock` gives seconds since 1970."""
        ListingRpcs.__init__(self, engine, worker.board)
        self._store, self._bases, self._worker = store, bases, worker
        self._exporter, self._concepts = operations.exporter, operations.concepts
        self._clock, self._idempotency = clock, Idempotency()

    def CreateTrainingRun(self, request: pb.CreateTrainingRunRequest, context: grpc.ServicerContext) -> pb.TrainingRun:
        """Commits a run, then answers."""
        with reading(self._engine) as connection:
            earlier = self._idempotency.replay(connection, "CreateTrainingRun", request)
        if earlier is not None:
            return pb.TrainingRun.FromString(earlier)
        numbers = self._configure(request)
        self._check_manifest(request.manifest_digest, numbers)
        full, digest = messages.completed(request, numbers), numbers.digest()
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "CreateTrainingRun", request)
            if earlier is not None:
                return pb.TrainingRun.FromString(earlier)
            self._check_parents(connection, request)
            run = runs.create(
                connection,
                request.taste,
                request.manifest_digest,
                digest,
                request=full.SerializeToString(),
                configuration=json.dumps(asdict(numbers), sort_keys=True),
                total_steps=numbers.steps,
                now=self._clock(),
            )
            reply = messages.training_run(run)
            self._idempotency.remember(connection, "CreateTrainingRun", request, reply)
            failpoint("trainer.before_create")
        failpoint("trainer.after_create")
        self._worker.wake()
        return reply

    def WatchTrainingRun(
        self, request: pb.WatchTrainingRunRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.TrainingRun]:
        """Yields the run whenever it changed, at most ten times a second, until it has ended."""
        board, last, sent = self._worker.board, None, 0.0
        while context.is_active():
            version = board.version()
            message = self._run_message(request.name)
            ended = message.state in ENDED
            if message != last or time.monotonic() - sent > STILL_THERE_SECONDS:
                yield message
                last, sent = message, time.monotonic()
            if ended:
                return
            if board.closed:
                raise Unavailable(
                    "The server stops; the run goes on at its next start: watch it again.",
                    reason="DRAINING",
                    retry_after=1.0,
                )
            time.sleep(BETWEEN_MESSAGES_SECONDS)
            board.wait(version, 1.0)

    def CancelTrainingRun(self, request: pb.CancelTrainingRunRequest, context: grpc.ServicerContext) -> pb.TrainingRun:
        """Commits that a run shall stop; one that has ended stays as it is."""
        name = request.name.removeprefix("trainingRuns/")
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "CancelTrainingRun", request)
            if earlier is not None:
                return pb.TrainingRun.FromString(earlier)
            run_named(connection, name)
            runs.request_cancel(connection, name)
            reply = messages.training_run(run_named(connection, name), self._worker.board.read(name))
            self._idempotency.remember(connection, "CancelTrainingRun", request, reply)
        self._worker.cancel(name)
        return reply

    def FinishTrainingRun(self, request: pb.FinishTrainingRunRequest, context: grpc.ServicerContext) -> pb.TrainingRun:
        """Makes a published checkpoint the run's model and ends the run, in one transaction."""
        name = request.name.removeprefix("trainingRuns/")
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "FinishTrainingRun", request)
            if earlier is not None:
                return pb.TrainingRun.FromString(earlier)
            publishing.finish(
                connection, run_named(connection, name), request.step, dict(request.metrics), self._clock()
            )
            reply = messages.training_run(run_named(connection, name), None, runs.published(connection, name))
            self._idempotency.remember(connection, "FinishTrainingRun", request, reply)
            failpoint("trainer.before_finish")
        self._worker.cancel(name)
        return reply

    def MergeModels(self, request: pb.MergeModelsRequest, context: grpc.ServicerContext) -> pb.Model:
        """Merges models that know words, Custom Diffusion's in closed form, and commits the new model."""
        with reading(self._engine) as connection:
            earlier = self._idempotency.replay(connection, "MergeModels", request)
        if earlier is not None:
            return pb.Model.FromString(earlier)
        merged = self._concepts.merge(concept_rpcs.find(self._engine, request.names), request)
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "MergeModels", request)
            if earlier is not None:
                return pb.Model.FromString(earlier)
            reply = concept_rpcs.register(connection, merged)
            self._idempotency.remember(connection, "MergeModels", request, reply)
        return reply

    def RetrieveImages(
        self, request: pb.RetrieveImagesRequest, context: grpc.ServicerContext
    ) -> pb.RetrieveImagesResponse:
        """Finds regularisation images among candidates."""
        return self._concepts.retrieve(request)

    def ExportModel(self, request: pb.ExportModelRequest, context: grpc.ServicerContext) -> artifact_pb2.Artifact:
        """Writes a model in a format other tools load."""
        with reading(self._engine) as connection:
            model = model_named(connection, request.name)
            sheets = [row.sheet_digest for row in runs.published(connection, model.training_run) if row.sheet_digest]
        form = pb.ExportFormat.Name(request.format).removeprefix("EXPORT_FORMAT_").lower()
        extras = Extras(request.thumbnail_digest, sheets[-1] if sheets else "", request.author)
        artifact = self._exporter.export(model, form, extras)
        return artifact_pb2.Artifact(
            digest=artifact.digest, media_type=artifact.media_type, size_bytes=artifact.size_bytes
        )

    def PromoteModel(self, request: pb.PromoteModelRequest, context: grpc.ServicerContext) -> pb.Model:
        """Makes a model its taste's current one in one transaction."""
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "PromoteModel", request)
            if earlier is not None:
                return pb.Model.FromString(earlier)
            model = model_named(connection, request.name)
            reply = messages.model(models.promote(connection, model, request.metrics, self._clock()))
            self._idempotency.remember(connection, "PromoteModel", request, reply)
            failpoint("trainer.before_promote")
        return reply

    def RollbackModel(
        self, request: pb.RollbackModelRequest, context: grpc.ServicerContext
    ) -> pb.RollbackModelResponse:
        """Returns a taste to its model before, in one transaction."""
        with self._engine.begin() as connection:
            earlier = self._idempotency.replay(connection, "RollbackModel", request)
            if earlier is not None:
                return pb.RollbackModelResponse.FromString(earlier)
            restored = models.roll_back_to(connection, request.taste, request.to, self._clock())
            reply = pb.RollbackModelResponse(model=messages.model(restored) if restored else None)
            self._idempotency.remember(connection, "RollbackModel", request, reply)
            failpoint("trainer.before_rollback")
        return reply

    def _configure(self, request: pb.CreateTrainingRunRequest) -> configuration.Configuration:
        method = registry.by_number(request.method)
        base, numbers = request.base_model or configuration.STARTER, messages.given(request.hyper_parameters)
        numbers["concepts"] = concepts.of_request(method.name, method.binds, concept_rpcs.concepts_of(request))
        digest = self._bases.digest(base)
        traits = self._bases.traits(base)
        complete = configuration.complete(method.name, base, digest, request.seed, numbers, method.defaults, traits)
        self._bases.check(complete)
        if method.binds:
            self._bases.check_binds(base, words=method.read_words is not None)
        return complete

    def _check_manifest(self, digest: str, numbers: configuration.Configuration) -> None:
        """Refuses a manifest that is malformed, does not fit the numbers or names an image the store lacks."""
        items = manifest.parse(self._store.get(digest))
        concepts.check_captions(concepts.from_rows(numbers.concepts), items)
        contrast.check(numbers, registry.METHODS[numbers.method].signed, items)
        for item in items:
            if not self._store.exists(item.digest):
                gone = self._store.missing(item.digest)
                if gone.reason in GONE:
                    raise NotFound(f"The manifest names an image that is gone. {gone.message}", reason=gone.reason)
                raise NotFound(
                    f"The manifest names image {item.digest}, which is not in the store; put it first.",
                    reason="ARTIFACT_NOT_FOUND",
                )

    def _check_parents(self, connection: sqlalchemy.Connection, request: pb.CreateTrainingRunRequest) -> None:
        for index, parent in enumerate(request.parents):
            model = models.get(connection, parent.removeprefix("models/"))
            if model is None or not principal().may_touch(model.taste):
                raise InvalidArgument(
                    f"parents[{index}]: expected the id of a model; there is no {parent[:80]}",
                    reason="PARENT_UNKNOWN",
                    field=f"parents[{index}]",
                )


ENDED = (pb.TRAINING_STATE_SUCCEEDED, pb.TRAINING_STATE_FAILED, pb.TRAINING_STATE_CANCELLED)
