"""The four services of konomi.v1 as Python objects: every rpc with its types, and the few shortcuts people want."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from konomi.client.calls import BidiStream, ClientStream, ServerStream, Service, Unary
from konomi.errors import DataLoss, InvalidArgument, NotFound, from_item
from konomi.i18n.catalogue import text
from konomi.v1 import (
    artifact_pb2,
    artifact_pb2_grpc,
    generator_pb2,
    generator_pb2_grpc,
    rater_pb2_grpc,
    trainer_pb2_grpc,
)
from konomi.v1 import rater_pb2 as rater
from konomi.v1 import trainer_pb2 as trainer

CHUNK_BYTES = 1024 * 1024
BATCH_IMAGES = 64
BATCH_BYTES = 12 * 1024 * 1024
DIGEST = re.compile(r"[0-9a-f]{64}")


class ArtifactClient(Service):
    """Stores and returns immutable bytes named by their digest."""

    descriptor = artifact_pb2.DESCRIPTOR.services_by_name["ArtifactService"]
    stub_class = artifact_pb2_grpc.ArtifactServiceStub
    put_artifact: ClientStream[artifact_pb2.PutArtifactRequest, artifact_pb2.Artifact]
    get_artifact: ServerStream[artifact_pb2.GetArtifactRequest, artifact_pb2.GetArtifactResponse]

    def put(self, data: bytes, media_type: str) -> artifact_pb2.Artifact:
        """Stores bytes and returns their artifact; the server refuses them if a bit changed on the way."""
        header = artifact_pb2.PutArtifactHeader(media_type=media_type, digest=hashlib.sha256(data).hexdigest())
        chunks = (data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES))
        parts = [artifact_pb2.PutArtifactRequest(header=header)]
        return self.put_artifact((*parts, *(artifact_pb2.PutArtifactRequest(chunk=chunk) for chunk in chunks)))

    def get(self, digest: str) -> bytes:
        """Returns the bytes of an artifact.

        Raises:
            NotFound: there is none of that digest.
            DataLoss: what came differs from the digest.
        """
        data = b"".join(reply.chunk for reply in self.get_artifact(digest=digest))
        if hashlib.sha256(data).hexdigest() != digest:
            message = text(
                "expected bytes with the digest {digest}, got others; restore the artifact from a backup", digest=digest
            )
            raise DataLoss(message)
        return data


class RaterClient(Service):
    """Asks one rater how the owner of a taste would grade."""

    descriptor = rater.DESCRIPTOR.services_by_name["RaterService"]
    stub_class = rater_pb2_grpc.RaterServiceStub
    create_taste: Unary[rater.CreateTasteRequest, rater.Taste]
    get_taste: Unary[rater.GetTasteRequest, rater.Taste]
    list_tastes: Unary[rater.ListTastesRequest, rater.ListTastesResponse]
    add_images: BidiStream[rater.AddImagesRequest, rater.AddImagesResponse]
    list_images: Unary[rater.ListImagesRequest, rater.ListImagesResponse]
    get_image: Unary[rater.GetImageRequest, rater.Image]
    record_labels: Unary[rater.RecordLabelsRequest, rater.RecordLabelsResponse]
    undo_label: Unary[rater.UndoLabelRequest, rater.Label]
    list_labels: Unary[rater.ListLabelsRequest, rater.ListLabelsResponse]
    record_comparison: Unary[rater.RecordComparisonRequest, rater.Comparison]
    undo_comparison: Unary[rater.UndoComparisonRequest, rater.Comparison]
    fit_rater: ServerStream[rater.FitRaterRequest, rater.FitRaterResponse]
    get_rater_version: Unary[rater.GetRaterVersionRequest, rater.RaterVersion]
    list_rater_versions: Unary[rater.ListRaterVersionsRequest, rater.ListRaterVersionsResponse]
    activate_rater_version: Unary[rater.ActivateRaterVersionRequest, rater.RaterVersion]
    fit_population: Unary[rater.FitPopulationRequest, rater.FitPopulationResponse]
    list_populations: Unary[rater.ListPopulationsRequest, rater.ListPopulationsResponse]
    remove_population: Unary[rater.RemovePopulationRequest, rater.Population]
    score_images: Unary[rater.ScoreImagesRequest, rater.ScoreImagesResponse]
    score_image_stream: BidiStream[rater.ScoreImageStreamRequest, rater.ScoreImageStreamResponse]
    suggest_images: Unary[rater.SuggestImagesRequest, rater.SuggestImagesResponse]
    select_images: Unary[rater.SelectImagesRequest, rater.SelectImagesResponse]
    release_selections: Unary[rater.ReleaseSelectionsRequest, rater.ReleaseSelectionsResponse]
    search_images: Unary[rater.SearchImagesRequest, rater.SearchImagesResponse]
    explore_novelty: Unary[rater.ExploreNoveltyRequest, rater.ExploreNoveltyResponse]
    advise_embedder: Unary[rater.AdviseEmbedderRequest, rater.EmbedderAdvice]
    change_embedder: ServerStream[rater.ChangeEmbedderRequest, rater.ChangeEmbedderResponse]
    certify_set: Unary[rater.CertifySetRequest, rater.Certificate]
    record_audit: Unary[rater.RecordAuditRequest, rater.Certificate]
    measure_images: Unary[rater.MeasureImagesRequest, rater.ImageMeasures]
    map_images: Unary[rater.MapImagesRequest, rater.ImageMap]
    set_favourites: Unary[rater.SetFavouritesRequest, rater.SetFavouritesResponse]
    list_favourites: Unary[rater.ListFavouritesRequest, rater.ListFavouritesResponse]
    record_consent: Unary[rater.RecordConsentRequest, rater.Consent]
    list_consents: Unary[rater.ListConsentsRequest, rater.ListConsentsResponse]
    revoke_images: Unary[rater.RevokeImagesRequest, rater.RevokeImagesResponse]
    list_revocations: Unary[rater.ListRevocationsRequest, rater.ListRevocationsResponse]
    collect_images: Unary[rater.CollectImagesRequest, rater.CollectImagesResponse]
    record_blind_audit: Unary[rater.RecordBlindAuditRequest, rater.BlindAudit]
    export_taste: ServerStream[rater.ExportTasteRequest, artifact_pb2.SnapshotArtifact]
    import_taste: Unary[rater.ImportTasteRequest, rater.Taste]

    def score(self, images: Iterable[bytes | str | Path], taste: str = "default") -> list[rater.Score]:
        """Scores images, in order.

        Args:
            images: encoded bytes (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF, HEIC), digests of stored images, or paths of
                local files.
            taste: id or name of the taste.

        Raises:
            KonomiError: the first image that could not be scored says why; use `score_each` to go on past it.
        """
        scores = []
        for index, result in enumerate(self.score_each(images, taste)):
            if result.HasField("error"):
                error = result.error
                raise from_item(error.code, error.reason, text("image {index}: {why}", index=index, why=error.message))
            scores.append(result.score)
        return scores

    def score_each(self, images: Iterable[bytes | str | Path], taste: str = "default") -> Iterator[rater.ScoreResult]:
        """Yields a score or an error per image, in order, a batch at a time; arguments as for `score`."""
        for batch in batches(image_input(image) for image in images):
            yield from self.score_images(taste=taste_name(taste), images=batch).results

    def ensure_taste(self, taste: str = "default") -> rater.Taste:
        """Returns a taste; where there is none of that name it is created with the default embedder and base model."""
        name = taste_name(taste)
        try:
            return self.get_taste(name=name)
        except NotFound:
            return self.create_taste(taste_id=name.removeprefix("tastes/"), taste=rater.Taste())


class GeneratorClient(Service):
    """Asks one generator for images."""

    descriptor = generator_pb2.DESCRIPTOR.services_by_name["GeneratorService"]
    stub_class = generator_pb2_grpc.GeneratorServiceStub
    list_base_models: Unary[generator_pb2.ListBaseModelsRequest, generator_pb2.ListBaseModelsResponse]
    inspect_model: Unary[generator_pb2.InspectModelRequest, generator_pb2.BaseModel]
    generate_images: ServerStream[generator_pb2.GenerateImagesRequest, generator_pb2.GeneratedImage]
    release_memory: Unary[generator_pb2.ReleaseMemoryRequest, generator_pb2.ReleaseMemoryResponse]


class TrainerClient(Service):
    """Asks one trainer for units."""

    descriptor = trainer.DESCRIPTOR.services_by_name["TrainerService"]
    stub_class = trainer_pb2_grpc.TrainerServiceStub
    create_training_run: Unary[trainer.CreateTrainingRunRequest, trainer.TrainingRun]
    watch_training_run: ServerStream[trainer.WatchTrainingRunRequest, trainer.TrainingRun]
    get_training_run: Unary[trainer.GetTrainingRunRequest, trainer.TrainingRun]
    list_training_runs: Unary[trainer.ListTrainingRunsRequest, trainer.ListTrainingRunsResponse]
    cancel_training_run: Unary[trainer.CancelTrainingRunRequest, trainer.TrainingRun]
    finish_training_run: Unary[trainer.FinishTrainingRunRequest, trainer.TrainingRun]
    retrieve_images: Unary[trainer.RetrieveImagesRequest, trainer.RetrieveImagesResponse]
    list_models: Unary[trainer.ListModelsRequest, trainer.ListModelsResponse]
    get_model: Unary[trainer.GetModelRequest, trainer.Model]
    merge_models: Unary[trainer.MergeModelsRequest, trainer.Model]
    export_model: Unary[trainer.ExportModelRequest, artifact_pb2.Artifact]
    promote_model: Unary[trainer.PromoteModelRequest, trainer.Model]
    rollback_model: Unary[trainer.RollbackModelRequest, trainer.RollbackModelResponse]
    collect_checkpoints: Unary[trainer.CollectCheckpointsRequest, trainer.CollectCheckpointsResponse]
    export_lineage: ServerStream[trainer.ExportLineageRequest, artifact_pb2.SnapshotArtifact]
    import_lineage: Unary[trainer.ImportLineageRequest, trainer.ImportLineageResponse]


def taste_name(taste: str) -> str:
    """Returns the resource name of a taste given by id or by name."""
    return taste if taste.startswith("tastes/") else f"tastes/{taste}"


def image_input(image: bytes | str | Path) -> rater.ImageInput:
    """Returns the message for bytes, a digest or a local file.

    Raises:
        InvalidArgument: the file cannot be read, or is larger than a message may be.
    """
    if isinstance(image, str) and DIGEST.fullmatch(image):
        return rater.ImageInput(digest=image)
    try:
        data = image if isinstance(image, bytes) else Path(image).read_bytes()
    except OSError as error:
        message = text(
            "expected image bytes, a sha256 digest or a readable file, got {got!r}: {why}",
            got=str(image),
            why=error.strerror,
        )
        raise InvalidArgument(message, reason="FILE_UNREADABLE", field="images") from error
    if len(data) > BATCH_BYTES:
        message = text(
            "expected at most {limit} bytes of inline image, got {got}; "
            "store it with artifacts.put and score its digest",
            limit=BATCH_BYTES,
            got=len(data),
        )
        raise InvalidArgument(message, reason="IMAGE_TOO_LARGE")
    return rater.ImageInput(content=data)


def batches(images: Iterable[rater.ImageInput]) -> Iterator[Sequence[rater.ImageInput]]:
    """Yields the images in batches that fit a message."""
    batch: list[rater.ImageInput] = []
    size = 0
    for image in images:
        weight = len(image.content)
        if batch and (len(batch) == BATCH_IMAGES or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(image)
        size += weight
    if batch:
        yield batch
