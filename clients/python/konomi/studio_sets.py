"""The rpc calls of a set that grows and of concepts: what is known of images, the gate, words bound by a fit."""

from collections.abc import Sequence
from typing import Any

from konomi import errors, night_messages, paging
from konomi.studio import PAGE, Beat, Studio
from konomi.v1 import rater_pb2, trainer_pb2

UNFIT = ("MODEL_LAYOUT", "CONCEPTS")
"""Why a base model cannot be taught words; it is fitted with a LoRA instead."""


def known(studio: Studio, digests: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns "prompt", "grade" (0 for none), "depth", "parents" and "unit" of images the taste knows, by digest."""
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(digests), PAGE):
        filter_ = rater_pb2.ImageFilter(digests=digests[start : start + PAGE])
        for image in studio.client.rater.list_images(taste=studio.taste, filter=filter_, page_size=PAGE).images:
            found[image.digest] = {
                "prompt": image.prompt,
                "grade": int(image.grade),
                "depth": int(image.parameters.get("depth", 0)),
                "parents": list(image.parents),
                "unit": image.unit,
            }
    return found


def graded_ur(studio: Studio, most: int) -> tuple[list[str], int]:
    """Returns up to `most` images graded UR, oldest first, and how many there are in all."""
    filter_ = rater_pb2.ImageFilter(grades=[rater_pb2.GRADE_UR])
    page = studio.client.rater.list_images(taste=studio.taste, filter=filter_, page_size=most)
    return [image.digest for image in page.images], page.total_size


def gate(studio: Studio, candidates: Sequence[str], growing: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Asks which candidates a set takes in.

    Args:
        studio: the services.
        candidates: digests.
        growing: "originals" and "members", digests, and "room", how many may come.
        limits: fields of SelectImages.

    Returns:
        What `Studio.select` says of a choice, "taken" and "cosines", and the figures of the gate.
    """
    reply = studio.client.rater.select_images(
        taste=studio.taste,
        policy="propagate",
        candidates=rater_pb2.ImageFilter(digests=candidates),
        originals=growing["originals"],
        members=growing["members"],
        count=growing["room"],
        **limits,
    )
    grown = reply.growth
    return {
        "taken": [one.digest for one in reply.selected],
        "cosines": [round(cosine, 6) for cosine in grown.cosines],
        "n": len(reply.selected),
        "considered": reply.considered,
        "passed": grown.passed,
        "kept_share": reply.kept_share,
        "nats": reply.pressure_nats,
        "best_of_n_nats": reply.best_of_n_nats,
        "vendi": reply.diversity.vendi,
        "low": grown.low,
        "high": grown.high,
        "mean_cosine": grown.mean_cosine,
        "standard_error": grown.standard_error,
        "rater_version": reply.rater_version,
        "selected": [one.digest for one in reply.selected],
        "rejected": night_messages.rejected(reply.rejections),
    }


def choose(studio: Studio, wanted: dict[str, Any], text: str, seed: int) -> tuple[rater_pb2.SelectImagesResponse, int]:
    """Chooses among the taste's own images whose prompt contains a text; returns the reply and how many there are."""
    filter_ = rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF], prompt_contains=text)
    reply = studio.client.rater.select_images(taste=studio.taste, seed=seed, candidates=filter_, **wanted)
    return reply, reply.considered


def count(studio: Studio, text: str) -> int:
    """Returns how many of the taste's own images have a text in their prompt."""
    filter_ = rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF], prompt_contains=text)
    return studio.client.rater.list_images(taste=studio.taste, filter=filter_, page_size=1).total_size


def bind(
    studio: Studio, request: dict[str, Any], words: Sequence[tuple[str, str]], steps: int, beat: Beat
) -> dict[str, Any]:
    """Binds words by Custom Diffusion and returns what `Studio.train` does.

    Raises:
        InvalidArgument: the base model cannot be taught words (a reason of UNFIT), or the request is wrong.
    """
    concepts = [trainer_pb2.Concept(token=token, class_word=class_word) for token, class_word in words]
    return studio.train(request | {"concepts": concepts}, {"steps": steps}, beat, "custom_diffusion")


def merge(studio: Studio, names: Sequence[str], display_name: str, request_id: str) -> dict[str, Any]:
    """Merges models that know one concept each into one that knows all (closed form)."""
    merged = studio.client.trainer.merge_models(
        names=[f"models/{name}" for name in names], display_name=display_name, request_id=request_id
    )
    return {**night_messages.model(merged), "run": "", "loss": 0.0, "failed": ""}


def taught(studio: Studio, name: str) -> trainer_pb2.Model:
    """Returns the newest model of the taste of that id or name that knows words.

    Raises:
        NotFound: there is none.
    """
    for model in paging.models(studio.client, studio.taste):
        if model.concepts and name in (model.display_name, model.name.removeprefix("models/")):
            return model
    message = f"No model {name} of {studio.taste} knows concepts; `konomi concepts teach` makes one."
    raise errors.NotFound(message, reason="NO_CONCEPTS", field="concept_model")
