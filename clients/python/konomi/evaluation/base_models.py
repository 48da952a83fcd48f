"""Which base model suits a taste, before a night is spent on it: the same prompts and seeds by each, scored blind.

The rater has only ever seen some models' images. Where a base model's images are unlike all that was graded, its score
says little; the share of typical images stands beside every figure, and a warning where it is low.
"""

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypedDict

from konomi.client import Client
from konomi.errors import FailedPrecondition, InvalidArgument, Unavailable, from_item
from konomi.i18n.catalogue import text
from konomi.night import metrics
from konomi.night.draws import image_seed, shuffled
from konomi.night.gateway.measures import graded_of
from konomi.night.gateway.services import NightServices
from konomi.v1 import generator_pb2 as generator

CHUNK = 32
TYPICAL = 0.8
"""Share of typical images below which a score is a guess."""

Advance = Callable[[int], None]
"""Called with the number of images made so far."""


class BaseJudgement(TypedDict):
    """What the rater says of a base model's images, as JSON has it; figures carry their interval.

    `wins` is against the best one, pair by pair, None for itself; `warning` says that the score is a guess.
    """

    base: str
    digests: list[str]
    prompts: list[str]
    utility: metrics.Estimate
    lower_bound: metrics.Estimate
    p_ur: metrics.Estimate
    p_ssr: metrics.Estimate
    vendi: float
    typical_share: float
    unknown_share: float
    warning: str
    wins: metrics.Estimate | None


def check(gateway: NightServices, bases: Sequence[str]) -> None:
    """Raises unless there are two base models or more, all at hand, and a rater.

    Raises:
        InvalidArgument: fewer than two, or one named twice.
        NotFound: a base model that is not on this machine.
        FailedPrecondition: the taste has no rater yet.
    """
    if len(set(bases)) < 2 or len(set(bases)) < len(bases):
        raise InvalidArgument(text("expected two base models or more, each once, got {names}", names=" ".join(bases)))
    for base in bases:
        gateway.require_base(base)
    require_rater(gateway)


def require_rater(gateway: NightServices) -> None:
    """Raises unless the taste has a rater.

    Raises:
        FailedPrecondition: it has none yet.
    """
    if not gateway.state().rater_version:
        message = text("the taste has no rater yet; grade some images, then run: konomi rater fit")
        raise FailedPrecondition(message, reason="NO_RATER")


def compare(
    gateway: NightServices, bases: Sequence[str], prompts: Sequence[str], count: int, seed: int, advance: Advance
) -> list[BaseJudgement]:
    """Returns what the rater says of each base model's images, the best by its lower bound first.

    Args:
        gateway: the services of one taste.
        bases: ids of base models.
        prompts: prompts, one or more; each is drawn about equally often.
        count: images of each base model, 8 to 256.
        seed: of the images.
        advance: told how many images are made.
    """
    order = shuffled(prompts, f"{seed}/bases")
    drawn = [(order[i % len(order)], image_seed(seed, "bases", i)) for i in range(count)]
    judgements = []
    for place, base in enumerate(bases):
        digests = make(gateway.client, base, drawn, partial(_after, advance, place * count))
        judgements.append(judge(gateway, base, digests, [prompt for prompt, _ in drawn]))
    judgements.sort(key=lambda pair: -pair[0]["lower_bound"]["value"])
    best = judgements[0][1]
    for judged, bounds in judgements[1:]:
        judged["wins"] = metrics.paired_wins(bounds, best)
    return [judged for judged, _ in judgements]


def _after(advance: Advance, before: int, done: int) -> None:
    advance(before + done)


def judge(
    gateway: NightServices, base: str, digests: Sequence[str], prompts: Sequence[str]
) -> tuple[BaseJudgement, list[float]]:
    """Returns what the rater says of a base model's images, and the lower bound of each."""
    scores, whole, graded = (
        gateway.score(digests),
        gateway.diversity(digests),
        graded_of(gateway.client, gateway.taste, digests),
    )
    typical = whole.typical_share if graded is None else graded.typical
    bounds = [score.lower_bound for score in scores]
    unknown = sum(score.unknown for score in scores) / len(scores)
    judged: BaseJudgement = {
        "base": base,
        "digests": list(digests),
        "prompts": list(prompts),
        "utility": metrics.mean([score.utility for score in scores]),
        "lower_bound": metrics.mean(bounds),
        "p_ur": metrics.mean([score.p_ur for score in scores]),
        "p_ssr": metrics.mean([score.p_ssr for score in scores]),
        "vendi": whole.vendi,
        "typical_share": typical,
        "unknown_share": unknown,
        "warning": "untypical" if typical < TYPICAL or unknown > 1 - TYPICAL else "",
        "wins": None,
    }
    return judged, bounds


def make(client: Client, base: str, drawn: Sequence[tuple[str, int]], advance: Advance, adapter: str = "") -> list[str]:
    """Returns the digests of the images of a base model, or of an adapter on it, in order.

    Args:
        client: the services.
        base: id of the base model.
        drawn: prompt and seed of each image.
        advance: told how many images are made.
        adapter: digest of a stored adapter; empty for the base model alone.
    """
    digests: list[str] = []
    for start in range(0, len(drawn), CHUNK):
        part = drawn[start : start + CHUNK]
        request = generator.GenerateImagesRequest(
            base_model=base,
            images=[generator.ImageRequest(prompt=prompt, seed=seed) for prompt, seed in part],
            unit=adapter[:16] or "base",
            request_id=str(uuid.uuid4()),
        )
        if adapter:
            request.adapters.add(digest=adapter, scale=1.0)
        made = [""] * len(part)
        for image in client.generator.generate_images(request):
            if image.HasField("error"):
                raise from_item(image.error.code, image.error.reason, image.error.message)
            if image.artifact.digest:
                made[image.index] = image.artifact.digest
                advance(start + sum(map(bool, made)))
        if not all(made):
            raise Unavailable(text("the generator ended {count} images short; try again", count=made.count("")))
        digests += made
    return digests
