"""The class behind konomi.v1.GeneratorService: proto in, proto out."""

from collections.abc import Iterator

import grpc

from konomi.errors import KonomiError
from konomi.v1 import generator_pb2 as pb
from konomi.v1 import generator_pb2_grpc
from konomi.v1.artifact_pb2 import Artifact, ItemError
from konomi_chassis.models.catalogue import STARTER, BaseModel
from konomi_chassis.models.companions import Draft, LikenessAdapter
from konomi_chassis.models.memory_needs import NightMemory
from konomi_generator.generator import Executor, Generator
from konomi_generator.prompts import Wildcard
from konomi_generator.requests import Finished, Image, Likeness, Request
from konomi_generator.sampling import Annealing, DeviceMemory

FITS = {"whole": pb.NIGHT_FIT_WHOLE, "reduced": pb.NIGHT_FIT_REDUCED, "none": pb.NIGHT_FIT_NONE}
LAYOUTS = {name.removeprefix("MODEL_LAYOUT_").lower(): value for name, value in pb.ModelLayout.items()}


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """Translates between messages and the use case.

    Args:
        generator: knows the base models.
        executor: makes the images; the generator itself, in this process, where there is no other.
    """

    def __init__(self, generator: Generator, executor: Executor | None = None) -> None:
        self._generator, self._executor = generator, executor or generator

    def ListBaseModels(
        self, request: pb.ListBaseModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListBaseModelsResponse:
        """Lists the base models at hand."""
        models = [_model(*entry) for entry in self._generator.models()]
        return pb.ListBaseModelsResponse(base_models=models, places=self._executor.places)

    def InspectModel(self, request: pb.InspectModelRequest, context: grpc.ServicerContext) -> pb.BaseModel:
        """Says what a base model is."""
        model, digest = self._generator.model(request.id)
        message = _model(model, digest)
        memory = self._generator.memory(model)
        if memory is not None:
            message.memory.CopyFrom(_memory(*memory))
        if model.format != "sdapi":
            draft, likeness = self._generator.companions(model)
            message.draft.CopyFrom(_draft(draft))
            message.image_prompt.CopyFrom(_image_prompt(likeness, model))
        return message

    def GenerateImages(
        self, request: pb.GenerateImagesRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.GeneratedImage]:
        """Makes images and streams each as it is finished."""
        for finished in self._executor.generate(_request(request), lambda: not context.is_active()):
            yield _image(finished)

    def ReleaseMemory(
        self, request: pb.ReleaseMemoryRequest, context: grpc.ServicerContext
    ) -> pb.ReleaseMemoryResponse:
        """Drops the loaded model unless a request is under way."""
        freed = self._executor.release()
        return pb.ReleaseMemoryResponse(released_bytes=freed or 0, busy=freed is None)


def _request(request: pb.GenerateImagesRequest) -> Request:
    return Request(
        images=[
            Image(i.prompt, i.seed, i.init_digest, i.strength if i.HasField("strength") else 0.5, i.draft_digest)
            for i in request.images
        ],
        base_model=request.base_model or STARTER,
        adapters=[(a.digest, a.scale if a.HasField("scale") else 1.0) for a in request.adapters],
        negative_prompt=request.negative_prompt,
        steps=request.steps,
        guidance_scale=request.guidance_scale if request.HasField("guidance_scale") else None,
        width=request.width,
        height=request.height,
        scheduler=request.scheduler,
        batch_size=request.batch_size,
        unit=request.unit,
        night=request.night,
        wildcards={name: Wildcard(list(words.words), list(words.weights)) for name, words in request.wildcards.items()},
        guide_from_base=request.guide_from_base,
        base_share=request.base_share,
        annealing=_annealing(request.condition_annealing) if request.HasField("condition_annealing") else None,
        preview_every=request.preview_every,
        guidance_rescale=request.guidance_rescale if request.HasField("guidance_rescale") else None,
        timestep_spacing=request.timestep_spacing,
        karras_sigmas=request.karras_sigmas if request.HasField("karras_sigmas") else None,
        clip_skip=request.clip_skip,
        prompt_syntax=request.prompt_syntax,
        draft=request.draft,
        likeness=_likeness(request.image_prompt) if request.HasField("image_prompt") else None,
    )


def _likeness(message: pb.ImagePrompt) -> Likeness:
    return Likeness(tuple(message.digests), message.scale if message.HasField("scale") else None)


def _annealing(message: pb.ConditionAnnealing) -> Annealing:
    return Annealing(**{field.name: value for field, value in message.ListFields()})


def _image(finished: Finished) -> pb.GeneratedImage:
    message = pb.GeneratedImage(
        index=finished.index,
        prompt=finished.prompt,
        seed=finished.seed,
        parents=() if finished.preview else finished.parents,
        seconds=finished.seconds,
        concessions=finished.fallbacks,
    )
    if finished.preview is not None:
        step, data = finished.preview
        message.preview.CopyFrom(pb.Preview(step=step, png=data))
    if finished.artifact is not None:
        stored = finished.artifact
        message.artifact.CopyFrom(
            Artifact(digest=stored.digest, media_type=stored.media_type, size_bytes=stored.size_bytes)
        )
    if finished.error is not None:
        error = finished.error
        message.error.CopyFrom(ItemError(code=error.code.value[0], reason=error.reason, message=error.message))
    return message


def _memory(device: DeviceMemory, night: NightMemory) -> pb.NightMemory:
    return pb.NightMemory(
        device=device.device,
        device_bytes=device.size,
        needs=[
            pb.MemoryNeed(
                service=need.service,
                at_rest_bytes=need.at_rest,
                at_peak_bytes=need.at_peak,
                at_least_bytes=need.at_least,
            )
            for need in night.needs
        ],
        peak_bytes=night.peak,
        least_bytes=night.least,
        fit=FITS[night.fit(device.size)],
    )


def _draft(draft: Draft | KonomiError) -> pb.DraftSettings:
    if isinstance(draft, KonomiError):
        return pb.DraftSettings(missing=draft.message)
    message = pb.DraftSettings(scale=draft.scale, drawing=pb.DrawingSettings(**draft.drawing.model_dump()))
    if draft.path is not None:
        message.adapter, message.adapter_digest = draft.path.name, draft.digest
        message.adapter_bytes = draft.path.stat().st_size
    return message


def _image_prompt(likeness: LikenessAdapter | KonomiError, model: BaseModel) -> pb.ImagePromptSettings:
    if isinstance(likeness, KonomiError):
        return pb.ImagePromptSettings(missing=likeness.message)
    return pb.ImagePromptSettings(
        adapter=likeness.path.name,
        adapter_digest=likeness.digest,
        image_encoder=likeness.encoder.name,
        size_bytes=likeness.size_bytes,
        scale=model.settings.image_prompt.scale,
    )


def _model(model: BaseModel, digest: str) -> pb.BaseModel:
    return pb.BaseModel(
        id=model.id,
        layout=LAYOUTS.get(model.layout, pb.MODEL_LAYOUT_UNSPECIFIED),
        size_bytes=model.size_bytes,
        format=model.format,
        resolution=model.resolution,
        prediction_type=model.prediction_type,
        parameters=model.parameters,
        digest=digest,
        zero_terminal_snr=model.schedule.zero_terminal_snr,
        unguided=model.schedule.unguided,
        drawing=pb.DrawingSettings(**model.settings.drawing.model_dump()),
        training=pb.TrainingSettings(**model.settings.training.model_dump()),
        settings_in_file=sorted(model.settings.in_file),
    )
