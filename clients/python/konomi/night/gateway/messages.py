"""Messages of the services as a night keeps them: plain values, ready for JSON."""

from collections.abc import Sequence
from typing import Any

from konomi.night.draws import Draw, plain
from konomi.v1 import generator_pb2, rater_pb2, trainer_pb2

EXAMPLES = 6
"""Digests kept per reason of rejection."""


def image_request(draw: Draw, tokens: Sequence[str] = ()) -> generator_pb2.ImageRequest:
    """Returns a draw as the generator takes it, without words its maker does not know."""
    request = generator_pb2.ImageRequest(prompt=plain(draw.prompt, tokens), seed=draw.seed, init_digest=draw.init)
    if draw.init:
        request.strength = draw.strength
    return request


def model(model: trainer_pb2.Model) -> dict[str, Any]:
    """Returns "model", "unit", "adapter", "manifest", "current" and the "tokens" it knows."""
    number = model.display_name.removeprefix("unit-")
    return {
        "model": model.name.removeprefix("models/"),
        "unit": int(number) if number.isdecimal() else 0,
        "adapter": model.adapter_digest,
        "manifest": model.manifest_digest,
        "current": model.current,
        "tokens": [concept.token for concept in model.concepts],
    }


def score(score: rater_pb2.Score) -> dict[str, Any]:
    """Returns what a night keeps of a score."""
    probabilities = list(score.grade_probabilities) or [0.0] * 5
    return {
        "utility": score.utility,
        "std": score.std,
        "lower_bound": score.lower_bound,
        "p_ssr": probabilities[3] + probabilities[4],
        "p_ur": probabilities[4],
        "unknown": score.unknown,
        "novelty": score.novelty,
        "rater_version": score.rater_version,
    }


def rejected(rejections: Sequence[rater_pb2.Rejection]) -> dict[str, dict[str, Any]]:
    """Returns the count and some example digests of every reason of rejection."""
    found: dict[str, dict[str, Any]] = {}
    for rejection in rejections:
        name = rater_pb2.RejectionReason.Name(rejection.reason).removeprefix("REJECTION_REASON_").lower()
        entry = found.setdefault(name, {"count": 0, "examples": []})
        entry["count"] += 1
        if len(entry["examples"]) < EXAMPLES:
            entry["examples"].append(rejection.digest)
    return found


def source(one: rater_pb2.SelectedImage) -> str:
    """Returns where a chosen image came from: "certified" where a certificate admitted it, else its source."""
    if one.certificate:
        return "certified"
    name = rater_pb2.Source.Name(one.source).removeprefix("SOURCE_").lower()
    return "self" if name == "unspecified" else name


def sources(reply: rater_pb2.SelectImagesResponse) -> dict[str, int]:
    """Returns how many of the images chosen by taste came from where."""
    chosen = [source(one) for one in reply.selected if one.role == rater_pb2.SELECTION_ROLE_SELECTED]
    return {name: chosen.count(name) for name in sorted(set(chosen))}


def items(reply: rater_pb2.SelectImagesResponse, weights: dict[str, float]) -> list[dict[str, Any]]:
    """Returns a manifest's items; a source's weight multiplies what the rater gave an image chosen by taste."""
    roles = {rater_pb2.SELECTION_ROLE_SELECTED: "selected", rater_pb2.SELECTION_ROLE_BASE: "base"}
    return [
        {
            "digest": one.digest,
            "caption": plain(one.prompt),
            "weight": (one.weight or 1.0) * (weights.get(source(one), 1.0) if roles[one.role] == "selected" else 1.0),
            "role": roles[one.role],
        }
        for one in reply.selected
    ]


def discovery(found: rater_pb2.ExploreNoveltyResponse) -> dict[str, float]:
    """Returns what slates have found, as figures; none before the first slate."""
    if not found.HasField("discovery"):
        return {}
    tail = found.discovery
    return {
        "islands": float(len(tail.islands)),
        "unseen_likes": tail.unseen_likes,
        "liked_showings": float(tail.liked_showings),
        "labels_since_island": float(tail.labels_since_island),
    }
