"""Images drawn to look like what a taste likes best, before any training: the images graded UR as an image prompt."""

import random
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from konomi.client import Client
from konomi.client.paging import pages
from konomi.client.services import DIGEST, taste_name
from konomi.errors import FailedPrecondition, Unavailable, from_item
from konomi.i18n.catalogue import text
from konomi.v1 import generator_pb2 as generator
from konomi.v1 import rater_pb2 as rater

MOST = 16
"""Images one image prompt holds."""
SEEDS = 1 << 31


@dataclass(frozen=True)
class Liked:
    """Images to be like, and the prompts they were made from."""

    digests: tuple[str, ...]
    prompts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sketch:
    """One image drawn: its digest, what it was drawn from, and what the rater expects of it, where there is one."""

    digest: str
    prompt: str
    seed: int
    score: rater.Score | None = None


@dataclass(frozen=True)
class Wish:
    """What is to be drawn.

    Attributes:
        base_model: id of the base model.
        prompts: words; each is drawn about equally often, none means no words.
        count: images.
        seed: of the images.
        like: images to be like; none draws by words alone.
        scale: how strongly these count, 0..1; None leaves it to the base model.
        draft: draw in a few steps.
    """

    base_model: str
    prompts: Sequence[str]
    count: int
    seed: int
    like: Sequence[str] = ()
    scale: float | None = None
    draft: bool = False


def liked(client: Client, like: Sequence[str], seed: int) -> Liked:
    """Returns the images that are meant by tastes and digests: of a taste those graded UR, of many a sample.

    Args:
        client: the services.
        like: ids of tastes, and digests.
        seed: of the sample.

    Raises:
        FailedPrecondition: a taste has no image graded UR.
    """
    digests = [name for name in like if DIGEST.fullmatch(name)]
    images = [image for name in like if not DIGEST.fullmatch(name) for image in _graded(client, taste_name(name))]
    room = max(0, MOST - len(digests))
    if len(images) > room:
        images = sorted(random.Random(seed).sample(images, room), key=lambda image: image.digest)
    digests += [image.digest for image in images]
    return Liked(tuple(dict.fromkeys(digests))[:MOST], tuple(dict.fromkeys(image.prompt for image in images)))


def _graded(client: Client, taste: str) -> list[rater.Image]:
    """Returns a taste's images graded UR that are still there, by digest."""
    wanted = rater.ImageFilter(grades=[rater.GRADE_UR])
    images = [
        image
        for page in pages(client.rater.list_images, taste=taste, filter=wanted)
        for image in page.images
        if image.grade == rater.GRADE_UR and not image.pixels_collected
    ]
    if not images:
        message = text("{taste} has no image graded UR to be like; grade some with konomi label", taste=taste)
        raise FailedPrecondition(message, reason="NOTHING_LIKED")
    return sorted(images, key=lambda image: image.digest)


def draw(client: Client, taste: str, wish: Wish, advance: Callable[[int], None] = lambda done: None) -> list[Sketch]:
    """Draws images and returns them, the one the rater likes best first; they do not become images of the taste.

    Args:
        client: the services.
        taste: full name of the taste whose rater says what to expect.
        wish: what to draw.
        advance: told how many images are made.

    Raises:
        FailedPrecondition: the base model takes no images, or draws no drafts; the message says what to put where.
    """
    request = _request(wish)
    digests = [""] * wish.count
    for image in client.generator.generate_images(request):
        if image.HasField("error"):
            raise from_item(image.error.code, image.error.reason, image.error.message)
        digests[image.index] = image.artifact.digest
        advance(sum(map(bool, digests)))
    if not all(digests):
        raise Unavailable(text("the generator ended {count} images short; try again", count=digests.count("")))
    scores = _scores(client, taste, digests)
    sketches = [
        Sketch(digest, one.prompt, one.seed, score)
        for digest, one, score in zip(digests, request.images, scores, strict=True)
    ]
    return sorted(sketches, key=lambda sketch: -sketch.score.lower_bound if sketch.score is not None else 0.0)


def _request(wish: Wish) -> generator.GenerateImagesRequest:
    words = wish.prompts or [""]
    images = [
        generator.ImageRequest(prompt=words[number % len(words)], seed=(wish.seed + number) % SEEDS)
        for number in range(wish.count)
    ]
    request = generator.GenerateImagesRequest(
        base_model=wish.base_model, images=images, unit="base", draft=wish.draft, request_id=str(uuid.uuid4())
    )
    if wish.like:
        request.image_prompt.CopyFrom(generator.ImagePrompt(digests=wish.like, scale=wish.scale))
    return request


def _scores(client: Client, taste: str, digests: Sequence[str]) -> list[rater.Score | None]:
    """Returns what the rater expects of images; nothing where the taste has no rater yet."""
    try:
        inputs = [rater.ImageInput(digest=digest) for digest in digests]
        results = client.rater.score_images(taste=taste, images=inputs).results
    except FailedPrecondition:
        return [None] * len(digests)
    return [result.score if result.HasField("score") else None for result in results]
