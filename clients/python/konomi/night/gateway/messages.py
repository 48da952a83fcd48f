"""Messages of the services as a night keeps them: plain values, ready for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from konomi.night.draws import Draw, plain
from konomi.night.gateway import manifests
from konomi.night.gateway.manifests import Item
from konomi.night.records.fit import Model
from konomi.night.records.state import Rejection, Selection
from konomi.v1 import generator_pb2, rater_pb2, trainer_pb2

EXAMPLES = 6
"""Digests kept per reason of rejection."""


@dataclass(frozen=True)
class TasteState:
    """How many images and labels a taste has, its rater version ("" for none) and its base model."""

    images: int
    labels: int
    rater_version: str
    base_model: str


@dataclass(frozen=True)
class Diversity:
    """Vendi score and typical share of some images."""

    vendi: float
    typical_share: float


def image_request(draw: Draw, tokens: Sequence[str] = (), draft: str = "") -> generator_pb2.ImageRequest:
    """Returns a draw as the generator takes it, without words its maker does not know; `draft` is drawn again."""
    request = generator_pb2.ImageRequest(
        prompt=plain(draw.prompt, tokens), seed=draw.seed, init_digest=draw.init, draft_digest=draft
    )
    if draw.init:
        request.strength = draw.strength
    return request


def image(digest: str, draw: Draw, tokens: Sequence[str] = ()) -> rater_pb2.Image:
    """Returns what the rater is told of a made image; words its maker does not know were not said to it."""
    made = rater_pb2.Image(digest=digest, prompt=plain(draw.prompt, tokens), seed=draw.seed)
    if draw.init:
        made.parents.append(draw.init)
    if draw.depth:
        made.parameters["depth"] = float(draw.depth)
    return made


def model(model: trainer_pb2.Model) -> Model:
    """Returns a model as a night keeps it."""
    number = model.display_name.removeprefix("unit-")
    return Model(
        model=model.name.removeprefix("models/"),
        unit=int(number) if number.isdecimal() else 0,
        adapter=model.adapter_digest,
        manifest=model.manifest_digest,
        current=model.current,
        tokens=tuple(concept.token for concept in model.concepts),
    )


SETTLED = ("precision", "batch_size", "gradient_accumulation", "learning_rate", "rank", "resolution", "optimizer")
MEASURED = ("images_at_once", "gradient_checkpointing", "loss_scale", "compiled")


def training(run: trainer_pb2.TrainingRun, metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Returns with what a unit was fitted: what the trainer filled in, and what its memory made of that.

    Args:
        run: with its request's defaults filled in.
        metrics: of the model it made.
    """
    settled: dict[str, float | str] = {name: getattr(run.request.hyper_parameters, name) for name in SETTLED}
    if run.request.hyper_parameters.contrast_beta:
        settled["contrast_beta"] = run.request.hyper_parameters.contrast_beta
    if run.prompt_syntax:  # a trainer of an earlier version does not say
        settled |= {"prompt_syntax": run.prompt_syntax, "clip_skip": run.clip_skip}
    return settled | {name: metrics[name] for name in MEASURED if name in metrics}


@dataclass(frozen=True)
class ImageScore:
    """What a night keeps of a score: utility and its deviation, the lower bound, and expected SSR or better and UR."""

    utility: float
    std: float
    lower_bound: float
    p_ssr: float
    p_ur: float
    unknown: bool
    novelty: float
    rater_version: str


def score(score: rater_pb2.Score) -> ImageScore:
    """Returns what a night keeps of a score."""
    probabilities = list(score.grade_probabilities) or [0.0] * 5
    return ImageScore(
        utility=score.utility,
        std=score.std,
        lower_bound=score.lower_bound,
        p_ssr=probabilities[3] + probabilities[4],
        p_ur=probabilities[4],
        unknown=score.unknown,
        novelty=score.novelty,
        rater_version=score.rater_version,
    )


def selection(reply: rater_pb2.SelectImagesResponse) -> Selection:
    """Returns the figures every choice has; what was chosen is the caller's to say."""
    figures = Selection(
        considered=reply.considered,
        kept_share=reply.kept_share,
        nats=reply.pressure_nats,
        best_of_n_nats=reply.best_of_n_nats,
        vendi=reply.diversity.vendi,
        largest_cell_share=reply.largest_cell_share,
        rater_version=reply.rater_version,
        rejected=rejected(reply.rejections),
    )
    return figures.merged(avoided(reply)) if reply.avoided else figures


def avoided(reply: rater_pb2.SelectImagesResponse) -> Selection:
    """Returns what a choice turns away from, and nothing else of it."""
    examples: dict[str, list[str]] = {}
    for image in reply.avoided:
        name = rater_pb2.AvoidanceReason.Name(image.reason).removeprefix("AVOIDANCE_REASON_").lower()
        examples.setdefault(name, []).append(image.digest)
    counted = _counted(examples)
    return Selection(avoided=counted, avoided_share=reply.avoided_share, avoided_nats=reply.avoided_nats)


def gated(reply: rater_pb2.SelectImagesResponse) -> Selection:
    """Returns what the gate of a growing set let in, and its figures; it measures no cells."""
    grown, taken = reply.growth, tuple(image.digest for image in reply.selected)
    figures = selection(reply)
    shared = figures.model_fields_set - {"largest_cell_share"}
    return Selection(
        **{name: getattr(figures, name) for name in shared},
        taken=taken,
        cosines=tuple(round(cosine, 6) for cosine in grown.cosines),
        n=len(taken),
        passed=grown.passed,
        low=grown.low,
        high=grown.high,
        mean_cosine=grown.mean_cosine,
        standard_error=grown.standard_error,
        selected=taken,
    )


def rejected(rejections: Sequence[rater_pb2.Rejection]) -> dict[str, Rejection]:
    """Returns the count and some example digests of every reason of rejection."""
    examples: dict[str, list[str]] = {}
    for rejection in rejections:
        name = rater_pb2.RejectionReason.Name(rejection.reason).removeprefix("REJECTION_REASON_").lower()
        examples.setdefault(name, []).append(rejection.digest)
    return _counted(examples)


def _counted(examples: Mapping[str, Sequence[str]]) -> dict[str, Rejection]:
    return {
        name: Rejection(count=len(digests), examples=tuple(digests[:EXAMPLES])) for name, digests in examples.items()
    }


def source(image: rater_pb2.SelectedImage) -> str:
    """Returns where a chosen image came from: "certified" where a certificate admitted it, else its source."""
    if image.certificate:
        return "certified"
    name = rater_pb2.Source.Name(image.source).removeprefix("SOURCE_").lower()
    return "self" if name == "unspecified" else name


def sources(reply: rater_pb2.SelectImagesResponse) -> dict[str, int]:
    """Returns how many of the images chosen by taste came from where."""
    chosen = [source(image) for image in reply.selected if _chosen(image)]
    return {name: chosen.count(name) for name in sorted(set(chosen))}


def items(reply: rater_pb2.SelectImagesResponse, weights: Mapping[str, float]) -> list[Item]:
    """Returns a manifest's items; a source's weight multiplies what the rater gave an image chosen by taste."""
    return [
        Item(
            image.digest,
            plain(image.prompt),
            (image.weight or 1.0) * (weights.get(source(image), 1.0) if _chosen(image) else 1.0),
            manifests.SELECTED if _chosen(image) else manifests.BASE,
        )
        for image in reply.selected
    ] + [Item(image.digest, plain(image.prompt), image.weight or 1.0, manifests.AVOIDED) for image in reply.avoided]


def _chosen(image: rater_pb2.SelectedImage) -> bool:
    """Says whether an image was chosen by taste, not drawn from the base model's own."""
    return image.role == rater_pb2.SELECTION_ROLE_SELECTED


class Discovery(TypedDict, total=False):
    """What slates have found, as a night records it; nothing before the first slate."""

    islands: float
    unseen_likes: float
    liked_showings: float
    labels_since_island: float


def discovery(reply: rater_pb2.ExploreNoveltyResponse) -> Discovery:
    """Returns what slates have found, as figures; none before the first slate."""
    if not reply.HasField("discovery"):
        return {}
    tail = reply.discovery
    return {
        "islands": float(len(tail.islands)),
        "unseen_likes": tail.unseen_likes,
        "liked_showings": float(tail.liked_showings),
        "labels_since_island": float(tail.labels_since_island),
    }
