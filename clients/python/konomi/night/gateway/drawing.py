"""Images of a night: drawn by the generator, and made known to the taste, after one another or side by side."""

import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from typing import Protocol

from konomi import errors, files
from konomi.client import Client
from konomi.i18n.catalogue import translatable
from konomi.night.draws import Draw
from konomi.night.gateway import messages
from konomi.night.records.fit import Model
from konomi.night.settings import NightSettings
from konomi.v1 import generator_pb2, rater_pb2

WHOLE_DAY = 24 * 3600.0
"""Seconds for which images may be drawn while they are made known."""


class Beat(Protocol):
    """Called as work advances."""

    def __call__(self, name: str, done: int, total: int, made: str = "") -> None:
        """Takes the phase, how much of it is done, and the digest of the image that was made, where one was."""


class Source(Protocol):
    """Whatever holds the client of now; it changes when the services come back at other addresses."""

    @property
    def client(self) -> Client:
        """The client."""


class Drawing:
    """The part of a night's services that draws."""

    def __init__(self, source: Source, taste: str, night: str = "") -> None:
        self.source = source
        self.taste = taste
        self.night = night
        self._guided: dict[str, bool] = {}

    @property
    def client(self) -> Client:
        """The client of now."""
        return self.source.client

    def places(self) -> int:
        """Returns how many draw at the same time: 1, or the actors of a cluster."""
        return max(1, self.client.generator.list_base_models().places)

    def generate(
        self,
        draws: Sequence[Draw],
        model: Model | None,
        settings: NightSettings,
        beat: Beat,
        *,
        draft: bool = False,
        drafts: Sequence[str] = (),
    ) -> list[str]:
        """Makes one image per draw and returns their digests in order.

        Args:
            draws: what to make; all with the same `rare`, which holds for a whole request.
            model: the model that makes them; None for the base model.
            settings: base model, adapter scale, sampling steps and guidance are read.
            beat: called after every image.
            draft: make drafts, by what the base model's few-step adapter wants of steps and guidance.
            drafts: the drafts these are drawn again from, one a draw; none where they are drawn for the first time.
        """
        if not draws:
            return []
        request = self._request(draws, model, settings, drafts)
        if draft:
            request.draft = True
            request.guide_from_base, request.steps = False, 0
            request.ClearField("guidance_scale")
            request.request_id = files.derived_id(request.request_id, "draft")
        digests = [""] * len(draws)
        for index, digest in self._drawn(request, beat):
            digests[index] = digest
        return digests

    def generate_known(
        self,
        draws: Sequence[Draw],
        model: Model | None,
        settings: NightSettings,
        beat: Beat,
        *,
        drafts: Sequence[str] = (),
        meanwhile: bool = False,
    ) -> tuple[list[str], int]:
        """Makes one image per draw, makes them known to the taste in that order, and says how many it refused.

        Args:
            draws: see `generate`, as for model, settings, beat and drafts.
            model: the same.
            settings: the same.
            beat: the same.
            drafts: the same.
            meanwhile: make known what is drawn while the rest is still drawn. Where one card does both, each waits for
                the other to be done.
        """
        maker, tokens = (model.model, model.tokens) if model else ("base", ())
        if meanwhile:
            request = self._request(draws, model, settings, drafts)
            return self._known_meanwhile(request, draws, tokens, beat)
        digests = self.generate(draws, model, settings, beat, drafts=drafts)
        made = [messages.image(digest, draw, tokens) for digest, draw in zip(digests, draws, strict=True)]
        return digests, self.add(made, maker) if made else 0

    def _known_meanwhile(
        self,
        request: generator_pb2.GenerateImagesRequest,
        draws: Sequence[Draw],
        tokens: Sequence[str],
        beat: Beat,
    ) -> tuple[list[str], int]:
        digests = [""] * len(draws)
        waiting: queue.SimpleQueue[rater_pb2.AddImagesRequest | None] = queue.SimpleQueue()
        with ThreadPoolExecutor(1, "adding") as adding:
            refused = adding.submit(self._refused, iter(waiting.get, None))
            told = 0
            try:
                for index, digest in self._drawn(request, beat):
                    digests[index] = digest
                    while told < len(draws) and digests[told]:  # rows come in the order of the draws
                        image = messages.image(digests[told], draws[told], tokens)
                        waiting.put(self._addition(image, request.unit))
                        told += 1
            finally:
                waiting.put(None)
            return digests, refused.result()

    def add(self, images: Sequence[rater_pb2.Image], unit: str) -> int:
        """Makes images known to the taste and returns how many were refused; adding twice changes nothing.

        Args:
            images: digest, prompt, seed and, where it has some, parents and parameters of each.
            unit: "base" or a model id.
        """
        requests = [self._addition(image, unit) for image in images]
        return sum(reply.HasField("error") for reply in self.client.rater.add_images.exchange(requests))

    def _addition(self, image: rater_pb2.Image, unit: str) -> rater_pb2.AddImagesRequest:
        image.MergeFrom(rater_pb2.Image(source=rater_pb2.SOURCE_SELF, unit=unit, night=self.night))
        return rater_pb2.AddImagesRequest(taste=self.taste, image=image)

    def _refused(self, requests: Iterator[rater_pb2.AddImagesRequest]) -> int:
        return sum(reply.HasField("error") for reply in self.client.rater.add_images(requests, timeout=WHOLE_DAY))

    def _drawn(self, request: generator_pb2.GenerateImagesRequest, beat: Beat) -> Iterator[tuple[int, str]]:
        """Yields place and digest of each image as it is made.

        Raises:
            KonomiError: what became of one instead; Unavailable where the stream ended short of some.
        """
        missing = len(request.images)
        for done, image in enumerate(self.client.generator.generate_images(request), start=1):
            if image.HasField("error"):
                raise errors.from_item(image.error.code, image.error.reason, image.error.message)
            missing -= 1
            beat("generate", done, len(request.images), image.artifact.digest)
            yield image.index, image.artifact.digest
        if missing:
            message = "The generator ended its stream {missing} images short; the step is tried again."
            raise errors.Unavailable(translatable(message, missing=missing))

    def _request(
        self, draws: Sequence[Draw], model: Model | None, settings: NightSettings, drafts: Sequence[str]
    ) -> generator_pb2.GenerateImagesRequest:
        """Returns what the generator is asked for, drawn in full."""
        maker, tokens = model.model if model else "base", model.tokens if model else ()
        again = drafts or [""] * len(draws)
        request = generator_pb2.GenerateImagesRequest(
            base_model=settings.base_model,
            images=[messages.image_request(one, tokens, draft) for one, draft in zip(draws, again, strict=True)],
            steps=settings.sampling_steps,
            unit=maker,
            night=self.night,
            request_id=files.derived_id(self.night, maker, *astuple(draws[0])),
        )
        if settings.guidance_scale:
            request.guidance_scale = settings.guidance_scale
        if draws[0].rare:
            request.condition_annealing.SetInParent()
        if model:
            request.adapters.add(digest=model.adapter, scale=settings.adapter_scale)
            request.guide_from_base = settings.guide_from_base and self._has_unconditional_half(settings.base_model)
        return request

    def _has_unconditional_half(self, base_model: str) -> bool:
        if base_model not in self._guided:
            self._guided[base_model] = not self.client.generator.inspect_model(id=base_model).unguided
        return self._guided[base_model]
