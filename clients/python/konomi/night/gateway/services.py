"""The rpc calls of a night: plain values in, records and plain values out."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypedDict

from konomi import errors
from konomi.client import paging
from konomi.client.refusals import told
from konomi.i18n.catalogue import text, translatable
from konomi.night.draws import plain
from konomi.night.gateway import manifests, measures, messages, training
from konomi.night.gateway.drawing import Beat, Drawing
from konomi.night.gateway.messages import ImageScore
from konomi.night.records.fit import Fit, Model
from konomi.night.records.state import RaterReport, Selection
from konomi.taste import consents
from konomi.taste.rater_summary import alarm_log
from konomi.v1 import generator_pb2, rater_pb2, trainer_pb2

SCORE_BATCH = 256
"""Images one ScoreImages call takes."""

PAGE = 1000
"""Images one ListImages call returns at most."""

LOST_VERSION = ("EMBEDDER_CHANGED", "RATER_VERSION_NOT_FOUND", "HEAD_MISSING")
"""Why a rater version that was once active can score no more."""


@dataclass(frozen=True)
class ImageFacts:
    """What the taste knows of an image: `grade` 0 for none, `depth` in a growth, and the unit that made it."""

    prompt: str
    grade: int = 0
    depth: int = 0
    parents: Sequence[str] = ()
    unit: str = ""


@dataclass(frozen=True)
class TrainingRun:
    """What a training run is asked for, less its taste, method, night and numbers; fields of CreateTrainingRun."""

    manifest_digest: str
    base_model: str
    seed: int
    request_id: str
    display_name: str
    parents: Sequence[str]
    rater_version: str
    concepts: Sequence[trainer_pb2.Concept] = ()


class Elite(TypedDict):
    """The best image of a region."""

    digest: str
    prompt: str
    lower_bound: float


class Elites(messages.Discovery):
    """The best image of every region, by cell, as a night records it; `coverage` of the space, 0..1."""

    elites: list[Elite]
    coverage: float
    qd_score: float
    vendi: float


class NightServices(Drawing):
    """The services as one taste's night uses them."""

    version = ""
    """Rater version that scores and chooses; "" means whichever is active."""

    def state(self) -> messages.TasteState:
        """Returns what the taste has now."""
        taste = self.client.rater.get_taste(name=self.taste)
        return messages.TasteState(
            taste.image_count, taste.label_count, taste.active_rater_version, taste.base_model or "starter"
        )

    def by_version(self, ask: Callable[..., Any], **fields: Any) -> Any:
        """Asks the rater for what the version this night keeps scores; of any, once that version can score no more.

        One fitted on vectors of an embedder the taste has left, or lost with a restored taste, cannot; then the guard
        `other_rater` ends the night.
        """
        try:
            return ask(taste=self.taste, rater_version=self.version, **fields)
        except (errors.FailedPrecondition, errors.NotFound, errors.DataLoss) as error:
            if not self.version or error.reason not in LOST_VERSION:
                raise
            self.version = ""
            return ask(taste=self.taste, **fields)

    def elites(self, cells: int, seed: int) -> Elites:
        """Returns the best image of every region of the taste's images, and how much of the space they cover.

        Args:
            cells: regions in all.
            seed: seed of the regions.

        Returns:
            The elites by cell and the figures of the archive; once a slate was shown also what slates have found.
        """
        own = rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF])
        reply = self.client.rater.explore_novelty(taste=self.taste, count=1, filter=own, cells=cells, seed=seed)
        archive = reply.archive
        elites: list[Elite] = [
            {"digest": e.image.digest, "prompt": e.image.prompt, "lower_bound": e.image.score.lower_bound}
            for e in archive.elites
        ]
        return {
            "elites": elites,
            "coverage": archive.coverage,
            "qd_score": archive.qd_score,
            "vendi": archive.diversity.vendi,
            **messages.discovery(reply),
        }

    def count(self, grades: Sequence[str] = (), sources: Sequence[str] = ()) -> int:
        """Returns how many images the taste has, of some grades and sources where any are named."""
        filter_ = rater_pb2.ImageFilter(
            grades=[rater_pb2.Grade.Value(f"GRADE_{grade}") for grade in grades],
            sources=[rater_pb2.Source.Value(f"SOURCE_{source.upper()}") for source in sources],
        )
        return self.client.rater.list_images(taste=self.taste, filter=filter_, page_size=1).total_size

    def certified(self, certificates: Sequence[int]) -> int:
        """Returns how many images certificates vouch for in all.

        Raises:
            NotFound: one of them is not known.
        """
        names = [f"{self.taste}/certificates/{number}" for number in certificates]
        return sum(int(self.client.rater.record_audit(name=name).certified_size) for name in names)

    def rater(self) -> RaterReport:
        """Returns what the rater says of itself."""
        version = self.client.rater.get_rater_version(name=f"{self.taste}/raterVersions/active")
        return RaterReport(
            version=version.name,
            nats=version.pressure.nats,
            best_of_n_nats=version.pressure.best_of_n_nats,
            **alarm_log(version),
        )

    def require_base(self, name: str) -> None:
        """Raises unless a base model is on this machine.

        Raises:
            NotFound: it is not (BASE_NOT_FOUND).
        """
        at_hand = sorted(model.id for model in self.client.generator.list_base_models().base_models)
        if name not in at_hand:
            message = text("there is no base model {name} here; at hand: {known}", name=name, known=", ".join(at_hand))
            raise errors.NotFound(message, reason="BASE_NOT_FOUND", field="base_model")

    def models_on(self, base_model: str) -> set[str]:
        """Returns the ids of the taste's models that were fitted on a base model, and of those that do not say."""
        fitted = paging.models(self.client, self.taste)
        return {model.name.removeprefix("models/") for model in fitted if model.base_model in ("", base_model)}

    def withdrawn(self) -> list[str]:
        """Returns the ids of models that were trained on images revoked since: none of them is a parent any more."""
        gone = [revocation["digest"] for revocation in consents.revocations(self.client, self.taste)]
        return [model["model"] for model in consents.affected(self.client, self.taste, gone)]

    def models(self) -> list[Model]:
        """Returns the taste's models, newest first."""
        return [messages.model(model) for model in paging.models(self.client, self.taste)]

    def prompts(self, limit: int) -> list[str]:
        """Returns up to `limit` distinct prompts of the taste's own images, sorted."""
        prompts: set[str] = set()
        filter_ = rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF, rater_pb2.SOURCE_IMPORTED])
        for page in paging.pages(self.client.rater.list_images, taste=self.taste, filter=filter_):
            prompts |= {plain(image.prompt) for image in page.images if plain(image.prompt)}
            if len(prompts) >= limit:
                break
        return sorted(prompts)[:limit]

    def drafts(self, base_model: str) -> generator_pb2.DraftSettings:
        """Returns how a base model draws drafts, or why it does not."""
        base = self.client.generator.inspect_model(id=base_model)
        if base.HasField("draft"):
            return base.draft
        message = "The generator draws no drafts here; set draft to off in the [night] table of konomi.toml."
        return generator_pb2.DraftSettings(missing=translatable(message))

    def score(self, digests: Sequence[str]) -> list[ImageScore]:
        """Returns the score of each image."""
        scores = []
        for start in range(0, len(digests), SCORE_BATCH):
            inputs = [rater_pb2.ImageInput(digest=digest) for digest in digests[start : start + SCORE_BATCH]]
            for result in self.by_version(self.client.rater.score_images, images=inputs, compares_models=True).results:
                if result.WhichOneof("result") == "error":
                    raise errors.from_item(result.error.code, result.error.reason, result.error.message)
                scores.append(messages.score(result.score))
        return scores

    def diversity(self, digests: Sequence[str]) -> messages.Diversity:
        """Returns the diversity of up to 256 images."""
        inputs = [rater_pb2.ImageInput(digest=digest) for digest in digests[:SCORE_BATCH]]
        reply = self.by_version(self.client.rater.score_images, images=inputs, measure_diversity=True)
        return messages.Diversity(reply.diversity.vendi, reply.diversity.typical_share)

    def select(self, asked: Mapping[str, Any], seed: int) -> Selection:
        """Chooses a training set from the taste's images and freezes it as a manifest artifact.

        Args:
            asked: fields of SelectImages; "sources" names those that may be chosen from (default: own images), and
                "source_weights" gives each its weight in the loss (default: 1).
            seed: seed of cells and base draw.
        """
        fields = {key: value for key, value in asked.items() if key not in ("sources", "source_weights")}
        if "certificates" in fields:
            fields["certificates"] = [f"{self.taste}/certificates/{number}" for number in fields["certificates"]]
        sources = [rater_pb2.Source.Value(f"SOURCE_{name.upper()}") for name in asked.get("sources", ("self",))]
        fields["candidates"] = rater_pb2.ImageFilter(sources=sources)
        reply = self.by_version(self.client.rater.select_images, seed=seed, **fields)
        items = messages.items(reply, asked.get("source_weights", {}))
        chosen = [item.digest for item in items if item.role == manifests.SELECTED]
        kept = len(chosen) + sum(item.role == manifests.BASE for item in items)
        return messages.selection(reply).changed(
            manifest=manifests.freeze(self.client, items),
            n=len(chosen),
            base_share=1 - len(chosen) / max(1, kept),
            selected=tuple(chosen[: 4 * messages.EXAMPLES]),
            strangest=tuple(measures.strangest(self.client, self.taste, self.night, reply)),
            sources=messages.sources(reply),
        )

    def train(
        self, run: TrainingRun, hyper: Mapping[str, Any], beat: Beat, method: str, *, publish: bool = False
    ) -> Fit:
        """Trains, watching until the end, and returns the model, or why there is none.

        Args:
            run: what is asked for.
            hyper: fields of HyperParameters.
            beat: called as steps are done.
            method: name of a training method of the contract, in small letters.
            publish: keep the adapter of every checkpoint, so that the run can be ended at one of them.

        Raises:
            Unavailable: the trainer stopped, or the run ended in what passes; the same call goes on with it.
        """
        fields = {name: getattr(run, name) for name in TrainingRun.__dataclass_fields__}
        self.release_generator()
        request = trainer_pb2.CreateTrainingRunRequest(
            taste=self.taste,
            method=trainer_pb2.TrainingMethod.Value(f"TRAINING_METHOD_{method.upper()}"),
            night=self.night,
            hyper_parameters=trainer_pb2.HyperParameters(**hyper),
            reports=trainer_pb2.CheckpointReports(adapters=publish),
            **fields,
        )
        latest = training.ended(self.client, request, lambda done, total: beat("train", done, total))
        if latest.state != trainer_pb2.TRAINING_STATE_SUCCEEDED:
            why = latest.error.reason or "CANCELLED"
            failed = told(errors.from_item(latest.error.code, why, latest.error.message)) or "the run was cancelled"
            return Fit(run=latest.name, failed=failed, why=why)
        made = self.client.trainer.get_model(name=latest.model)
        loss = latest.loss if math.isfinite(latest.loss) else -1.0
        settled = messages.training(latest, made.metrics)
        return Fit(**dict(messages.model(made)), run=latest.name, loss=loss, training=settled, failed="")

    def checkpoints(self, run: str) -> list[tuple[int, str]]:
        """Returns step and adapter of every checkpoint a run published, earliest first."""
        told = self.client.trainer.get_training_run(name=run)
        return [(one.step, one.adapter_digest) for one in told.checkpoints if one.adapter_digest]

    def finish(self, run: str, step: int, figures: Mapping[str, float], request_id: str) -> Model:
        """Makes a checkpoint of a run its model, and returns that.

        Args:
            run: name of the run.
            step: of the checkpoint.
            figures: kept with the model.
            request_id: UUID that makes the call idempotent.
        """
        ended = self.client.trainer.finish_training_run(
            name=run, step=step, metrics=dict(figures), request_id=request_id
        )
        return messages.model(self.client.trainer.get_model(name=ended.model))

    def release_generator(self) -> None:
        """Lets the generator hand its memory to what comes next; one that cannot, or is away, is left alone."""
        with suppress(errors.Unimplemented, errors.Unavailable, errors.DeadlineExceeded):
            self.client.generator.release_memory()

    def promote(self, model: str, metrics: dict[str, float], request_id: str) -> None:
        """Makes a model the taste's current one."""
        self.client.trainer.promote_model(name=f"models/{model}", metrics=metrics, request_id=request_id)

    def rollback(self, request_id: str) -> None:
        """Returns the taste to the model that was current before."""
        self.client.trainer.rollback_model(taste=self.taste, request_id=request_id)


BINDING = (trainer_pb2.TRAINING_METHOD_CUSTOM_DIFFUSION, trainer_pb2.TRAINING_METHOD_CONCEPT_LORA)
"""Training methods that bind words."""
METHODS = tuple(
    sorted(
        name.removeprefix("TRAINING_METHOD_").lower()
        for name, number in trainer_pb2.TrainingMethod.items()
        if number not in (trainer_pb2.TRAINING_METHOD_UNSPECIFIED, *BINDING)
    )
)
"""Training methods a night may fit with; those that bind words are asked for by the systems that teach."""

UNFIT = ("MODEL_LAYOUT", "CONCEPTS")
"""Why a base model cannot be taught words; it is fitted with a LoRA instead."""


def facts_of(gateway: NightServices, digests: Sequence[str]) -> dict[str, ImageFacts]:
    """Returns what the taste knows of images, by digest; those it does not know are left out."""
    facts: dict[str, ImageFacts] = {}
    for start in range(0, len(digests), PAGE):
        filter_ = rater_pb2.ImageFilter(digests=digests[start : start + PAGE])
        for image in gateway.client.rater.list_images(taste=gateway.taste, filter=filter_, page_size=PAGE).images:
            depth = int(image.parameters.get("depth", 0))
            facts[image.digest] = ImageFacts(image.prompt, int(image.grade), depth, list(image.parents), image.unit)
    return facts


def graded_ur(gateway: NightServices, most: int) -> tuple[list[str], int]:
    """Returns up to `most` images graded UR, oldest first, and how many there are in all."""
    filter_ = rater_pb2.ImageFilter(grades=[rater_pb2.GRADE_UR])
    page = gateway.client.rater.list_images(taste=gateway.taste, filter=filter_, page_size=most)
    return [image.digest for image in page.images], page.total_size


def gate(
    gateway: NightServices,
    candidates: Sequence[str],
    originals: Sequence[str],
    members: Sequence[str],
    room: int,
    limits: Mapping[str, Any],
) -> Selection:
    """Asks which candidates a growing set takes in.

    Args:
        gateway: the services.
        candidates: digests.
        originals: digests of the images the set began with.
        members: digests of its members.
        room: how many may come.
        limits: fields of SelectImages.
    """
    reply = gateway.by_version(
        gateway.client.rater.select_images,
        policy="propagate",
        candidates=rater_pb2.ImageFilter(digests=candidates),
        originals=originals,
        members=members,
        count=room,
        **limits,
    )
    return messages.gated(reply)


def choose(
    gateway: NightServices, asked: Mapping[str, Any], text: str, seed: int
) -> tuple[rater_pb2.SelectImagesResponse, int]:
    """Chooses among the taste's own images whose prompt contains a text; returns the reply and how many there are."""
    filter_ = rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF], prompt_contains=text)
    reply = gateway.by_version(gateway.client.rater.select_images, seed=seed, candidates=filter_, **asked)
    return reply, reply.considered


def count(gateway: NightServices, text: str) -> int:
    """Returns how many of the taste's own images have a text in their prompt."""
    filter_ = rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF], prompt_contains=text)
    return gateway.client.rater.list_images(taste=gateway.taste, filter=filter_, page_size=1).total_size
