"""Stand-ins for the three roles: real gRPC servers with an in-memory rater and a folder as artifact store."""

import argparse
import hashlib
import json
import signal
import sys
import threading
import time
from _thread import start_new_thread
from concurrent import futures
from pathlib import Path

import grpc
from grpc_status import rpc_status

from konomi.datasets.reader import media_type_of
from konomi.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    KonomiError,
    NotFound,
    Unauthenticated,
    Unimplemented,
    to_status,
)
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

TOKEN = "stand-in-token"


class Translate(grpc.ServerInterceptor):
    """Checks the token and turns konomi errors into statuses, of unary calls and of streams."""

    def __init__(self, token: str | None):
        self.token = token

    def intercept_service(self, continuation, details):
        handler = continuation(details)
        metadata = dict(details.invocation_metadata)
        if handler is None:
            return None
        denied = self.token is not None and metadata.get("authorization") != f"Bearer {self.token}"

        def fail(context, error):
            context.abort_with_status(rpc_status.to_status(to_status(error)))

        def one(behaviour):
            def call(request, context):
                try:
                    if denied:
                        raise Unauthenticated("expected the owner's token, got another", reason="BAD_TOKEN")
                    return behaviour(request, context)
                except KonomiError as error:
                    fail(context, error)

            return call

        def many(behaviour):
            def call(request, context):
                try:
                    if denied:
                        raise Unauthenticated("expected the owner's token, got another", reason="BAD_TOKEN")
                    yield from behaviour(request, context)
                except KonomiError as error:
                    fail(context, error)

            return call

        kinds = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler, one),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler, many),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler, one),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler, many),
        }
        name, make, wrap = kinds[handler.request_streaming, handler.response_streaming]
        return make(wrap(getattr(handler, name)), handler.request_deserializer, handler.response_serializer)


class Artifacts(artifact_pb2_grpc.ArtifactServiceServicer):
    def __init__(self, folder: Path):
        self.folder = folder
        self.corrupt: set[str] = set()
        self.failures = 0
        folder.mkdir(parents=True, exist_ok=True)

    def PutArtifact(self, requests, context):
        header = next(requests).header
        data = b"".join(part.chunk for part in requests)
        if self.failures:
            self.failures -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "just starting")
        digest = hashlib.sha256(data).hexdigest()
        if header.digest and header.digest != digest:
            raise InvalidArgument("digest differs", reason="DIGEST_MISMATCH", field="header.digest")
        (self.folder / digest).write_bytes(data)
        return artifact_pb2.Artifact(digest=digest, media_type=header.media_type, size_bytes=len(data))

    def GetArtifact(self, request, context):
        path = self.folder / request.digest
        if not path.exists():
            raise NotFound(f"no artifact {request.digest}", reason="NO_ARTIFACT")
        data = path.read_bytes()
        if request.digest in self.corrupt:
            data = data[:-1] + bytes([data[-1] ^ 1])
        for start in range(0, len(data), 1024):
            yield artifact_pb2.GetArtifactResponse(chunk=data[start : start + 1024])


PNG = b"\x89PNG\r\n\x1a\n"
DRAFT = {"steps": 4, "guidance_scale": 1, "scheduler": "LCMScheduler"}


class Rater(rater_pb2_grpc.RaterServiceServicer):
    """Knows one taste; a score is the first byte of the image's digest."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.tastes: dict[str, rater.Taste] = {}
        self.images: dict[str, rater.Image] = {}
        self.labels: list[rater.Label] = []
        self.requests: dict[str, bytes] = {}
        self.failures = 0
        self.short = 0
        self.delay = 0.0
        self.calls: list[str] = []
        self.deadlines: list[float] = []

    def CreateTaste(self, request, context):
        taste = rater.Taste(name=f"tastes/{request.taste_id}", embedder="starter", base_model="starter")
        self.tastes[taste.name] = taste
        return taste

    def GetTaste(self, request, context):
        self.calls.append("GetTaste")
        self.deadlines.append(context.time_remaining())
        time.sleep(self.delay)
        if self.failures:
            self.failures -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "just starting")
        if request.name not in self.tastes:
            raise NotFound(f"no taste {request.name}", reason="NO_TASTE")
        return self.tastes[request.name]

    def ListTastes(self, request, context):
        return rater.ListTastesResponse(tastes=self.tastes.values())

    def AddImages(self, requests, context):
        requests = list(requests)
        if self.failures:
            self.failures -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "just starting")
        if self.short:
            self.short -= 1
            requests = requests[:-1]
        for request in requests:
            digest = request.image.digest
            known = digest in self.images
            reply = rater.AddImagesResponse(digest=digest, already_known=known)
            data = (self.folder / digest).read_bytes()
            if b"corrupt" in data:
                reply.error.CopyFrom(
                    artifact_pb2.ItemError(code=3, reason="IMAGE_UNREADABLE", message="no pixels in it")
                )
            else:
                self.images[digest] = request.image
            yield reply

    def ListImages(self, request, context):
        found = [image for image in self.images.values() if image.source in (request.filter.sources or [image.source])]
        return rater.ListImagesResponse(images=found, total_size=len(found))

    def GetImage(self, request, context):
        return self.images[request.digest]

    def RecordLabels(self, request, context):
        content = request.SerializeToString(deterministic=True)
        if not request.request_id:
            raise InvalidArgument("request_id is required", field="request_id")
        if self.requests.setdefault(request.request_id, content) != content:
            raise AlreadyExists("the request id came with another payload")
        for label in request.labels:
            if label.image_digest not in self.images:
                raise NotFound(f"no image {label.image_digest}", reason="NO_IMAGE")
        for label in request.labels:
            label.create_time.GetCurrentTime()
            if label.HasField("grade_time"):
                label.create_time.CopyFrom(label.grade_time)
            self.labels.append(label)
        return rater.RecordLabelsResponse(labels=request.labels)

    def UndoLabel(self, request, context):
        if not self.labels:
            raise FailedPrecondition("nothing to undo", reason="NOTHING_TO_UNDO")
        return self.labels.pop()

    def ListLabels(self, request, context):
        start = int(request.page_token or 0)
        end = start + 2  # small pages, so that paging is tried
        token = str(end) if end < len(self.labels) else ""
        return rater.ListLabelsResponse(labels=self.labels[start:end], next_page_token=token)

    def FitRater(self, request, context):
        if not self.labels:
            raise FailedPrecondition("expected 8 labels, got 0; grade some", reason="TOO_FEW_LABELS")
        yield rater.FitRaterResponse(progress=rater.Progress(phase="folds", done=1, total=2))
        yield rater.FitRaterResponse(rater_version=self.version(f"{request.taste}/raterVersions/1"))

    def GetRaterVersion(self, request, context):
        return self.version(request.name.replace("/active", "/1"))

    def version(self, name):
        figure = rater.Estimate(value=0.7, low=0.6, high=0.8, n=64)
        broken = rater.Estimate(value=float("nan"), low=0.0, high=1.0, n=0)
        return rater.RaterVersion(
            name=name, label_count=len(self.labels), head="gp", metrics={"srcc": figure, "ap_ur": broken}, active=True
        )

    def ScoreImages(self, request, context):
        results = []
        for image in request.images:
            content = image.content or (self.folder / image.digest).read_bytes()
            if not media_type_of(content[:12]):
                error = artifact_pb2.ItemError(code=3, reason="IMAGE_TYPE", message="expected PNG, JPEG or WebP")
                results.append(rater.ScoreResult(error=error))
            else:
                results.append(rater.ScoreResult(score=self.score(hashlib.sha256(content).digest()[0], request.taste)))
        return rater.ScoreImagesResponse(results=results)

    def score(self, value, taste):
        utility = 1 + 4 * value / 255
        return rater.Score(
            utility=utility,
            std=0.5,
            lower_bound=utility - 0.5,
            grade_probabilities=[0.1, 0.2, 0.4, 0.2, 0.1],
            typicality=0.9,
            novelty=0.2,
            rater_version=f"{taste}/raterVersions/1",
        )

    def ScoreImageStream(self, requests, context):
        for request in requests:
            yield rater.ScoreImageStreamResponse(key=request.key)
        raise InvalidArgument("the stream ended badly", reason="BAD_END", field="image")

    def SuggestImages(self, request, context):
        graded = {label.image_digest for label in self.labels}
        found = [image for digest, image in sorted(self.images.items()) if digest not in graded][: request.count]
        reason = rater.SUGGESTION_REASON_RANDOM
        return rater.SuggestImagesResponse(
            suggestions=[rater.Suggestion(image=image, reason=reason) for image in found]
        )

    def ExploreNovelty(self, request, context):
        found = list(self.images.values())[: request.count]
        return rater.ExploreNoveltyResponse(
            images=found, findings=[rater.NoveltyFinding(digest=image.digest, novelty=0.5) for image in found]
        )

    def AdviseEmbedder(self, request, context):
        imported = [image for image in self.images.values() if image.source == rater.SOURCE_IMPORTED]
        embedder = self.tastes[request.taste].embedder
        foreign = 1.0 if imported and embedder == "starter" else 0.0
        offer = rater.EmbedderOffer(embedder="timm:tf_efficientnet_lite0")
        offers = [offer] if embedder == "starter" else []
        second = self.tastes[request.taste].second_embedder
        return rater.EmbedderAdvice(
            embedder=embedder,
            foreign_share=foreign,
            n=len(imported),
            change=foreign > 0,
            offers=offers,
            second_embedder=second,
        )

    def ChangeEmbedder(self, request, context):
        yield rater.ChangeEmbedderResponse(progress=rater.Progress(phase="embedding", done=1, total=2))
        taste = self.tastes[request.taste]
        if request.second:
            taste.second_embedder = request.embedder if request.embedder != taste.embedder else ""
        else:
            taste.embedder = request.embedder
        yield rater.ChangeEmbedderResponse(taste=self.tastes[request.taste])


class Generator(generator_pb2_grpc.GeneratorServiceServicer):
    def __init__(self, folder: Path):
        self.folder = folder
        self.requests: list[generator_pb2.GenerateImagesRequest] = []

    memory = generator_pb2.NightMemory(
        device="cuda",
        device_bytes=8 << 30,
        needs=[
            generator_pb2.MemoryNeed(
                service="generator", at_rest_bytes=7 << 30, at_peak_bytes=10 << 30, at_least_bytes=4 << 30
            )
        ],
        peak_bytes=12 << 30,
        least_bytes=7 << 30,
        fit=generator_pb2.NIGHT_FIT_REDUCED,
    )

    def ListBaseModels(self, request, context):
        return generator_pb2.ListBaseModelsResponse(base_models=[generator_pb2.BaseModel(id="starter")])

    def InspectModel(self, request, context):
        if request.id != "starter":
            context.abort(grpc.StatusCode.NOT_FOUND, f'There is no base model "{request.id}".')
        return generator_pb2.BaseModel(
            id="starter",
            layout=generator_pb2.MODEL_LAYOUT_SD1,
            format="diffusers",
            resolution=64,
            prediction_type="v_prediction",
            drawing=generator_pb2.DrawingSettings(steps=8, guidance_scale=4.0, clip_skip=2, prompt_syntax="plain"),
            training=generator_pb2.TrainingSettings(precision="auto", gradient_checkpointing="auto"),
            settings_in_file=["drawing.clip_skip"],
            memory=self.memory,
            draft={"adapter": "lcm-mine.safetensors", "adapter_bytes": 135_000_000, "scale": 0.8, "drawing": DRAFT},
            image_prompt={"missing": "Images as prompts need an IP-Adapter."},
        )

    def GenerateImages(self, request, context):
        self.requests.append(request)
        if request.base_model == "blind" and request.image_prompt.digests:
            raise FailedPrecondition("Images as prompts need an IP-Adapter.", reason="IMAGE_PROMPT_ADAPTER_MISSING")
        for index, one in enumerate(request.images):
            data = PNG + f"{one.prompt} {one.seed} {request.draft} {request.image_prompt.digests}".encode()
            digest = hashlib.sha256(data).hexdigest()
            (self.folder / digest).write_bytes(data)
            yield generator_pb2.GeneratedImage(index=index, artifact=artifact_pb2.Artifact(digest=digest))
        if request.images:
            return
        for index in range(1000):
            if not context.is_active():
                return
            yield generator_pb2.GeneratedImage(index=index)


class Trainer(trainer_pb2_grpc.TrainerServiceServicer):
    def __init__(self, artifacts: Artifacts):
        self.artifacts = artifacts
        self.models = [
            trainer.Model(name="models/m2", display_name="unit-2", base_model="starter", metrics={"win_rate": 0.6}),
            trainer.Model(name="models/m1", display_name="unit-1", base_model="starter", seed=7),
        ]
        self.models[0].current = True

    def ListModels(self, request, context):
        start = int(request.page_token or 0)
        token = str(start + 1) if start + 1 < len(self.models) else ""
        return trainer.ListModelsResponse(models=self.models[start : start + 1], next_page_token=token)

    def ExportModel(self, request, context):
        if request.format == trainer.EXPORT_FORMAT_MERGED:
            raise Unimplemented("merged checkpoints are not served yet")
        data = b"adapter of " + request.name.encode()
        digest = hashlib.sha256(data).hexdigest()
        (self.artifacts.folder / digest).write_bytes(data)
        return artifact_pb2.Artifact(digest=digest, size_bytes=len(data))

    def RollbackModel(self, request, context):
        return trainer.RollbackModelResponse(model=self.models[1])


class StandIn:
    """All services on one real socket."""

    def __init__(self, folder: Path, token: str | None = None, port: int = 0, credentials=None):
        self.artifacts = Artifacts(folder)
        self.rater = Rater(folder)
        self.generator = Generator(folder)
        self.trainer = Trainer(self.artifacts)
        self.server = grpc.server(futures.ThreadPoolExecutor(8), interceptors=[Translate(token)])
        artifact_pb2_grpc.add_ArtifactServiceServicer_to_server(self.artifacts, self.server)
        rater_pb2_grpc.add_RaterServiceServicer_to_server(self.rater, self.server)
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(self.generator, self.server)
        trainer_pb2_grpc.add_TrainerServiceServicer_to_server(self.trainer, self.server)
        host = "127.0.0.1" if credentials is None else "localhost"
        if credentials is None:
            bound = self.server.add_insecure_port(f"{host}:{port}")
        else:
            bound = self.server.add_secure_port(f"{host}:{port}", credentials)
        self.address = f"{host}:{bound}"
        self.server.start()


def wait_until(condition, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def main(role: str) -> None:
    """Behaves as `python -m konomi_<role>` does; the home's stand-in.json can make it misbehave."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--port", type=int)
    arguments = parser.parse_args()
    orders = arguments.home / "stand-in.json"
    behaviour = json.loads(orders.read_text()).get(role, "") if orders.exists() else ""
    stopped = threading.Event()
    if behaviour == "refuse":
        print("expected a certificate for 0.0.0.0, got none", file=sys.stderr)
        raise SystemExit(78)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda number, frame: start_new_thread(stopped.set, ()))
    token = arguments.home / "tokens" / "owner.token"
    token.parent.mkdir(exist_ok=True)
    token.write_text(TOKEN + "\n")
    token.chmod(0o600)
    running = StandIn(arguments.home / "artifacts", TOKEN, arguments.port)
    if behaviour == "mute":
        stopped.wait()
        return
    print(json.dumps({"event": f"{role} is up"}), file=sys.stderr, flush=True)
    print(json.dumps({"role": role, "address": running.address}), flush=True)
    if behaviour == "die":
        stopped.wait(1.0)
        print(json.dumps({"event": "out of memory"}), file=sys.stderr, flush=True)
        raise SystemExit(9)
    stopped.wait()
    running.server.stop(1.0).wait()
