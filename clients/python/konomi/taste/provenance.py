"""Where an image comes from and what became of it: prompt, parents, grades, score, and the training sets it entered."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from konomi.client import Client
from konomi.client.messages import plain
from konomi.client.paging import labels, models, pages
from konomi.errors import InvalidArgument, KonomiError, NotFound
from konomi.i18n.catalogue import text
from konomi.v1 import rater_pb2

DIGEST_LENGTH = 64
SHORTEST = 6
"""Digits of a digest that may stand for the whole."""

AVOIDED = "avoided"
"""Role of an image a unit was turned away from."""

DEPTH = 8
"""Generations of parents followed; a unit's images are at most a few deep."""


@dataclass(frozen=True)
class ParentImage:
    """An image another was made from, with its own parents; the taste may have forgotten it."""

    digest: str
    parents: Sequence["ParentImage"] = ()
    in_taste: bool = False
    prompt: str = ""
    unit: str = ""

    def plain(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        about = {"known": True, "prompt": self.prompt, "unit": self.unit} if self.in_taste else {"known": False}
        return {"digest": self.digest, **about, "parents": [parent.plain() for parent in self.parents]}


@dataclass(frozen=True)
class TrainingSet:
    """A training set that holds an image: the image's part in it, and the model that came of it."""

    model: str
    display_name: str
    current: bool
    manifest: str
    rater_version: str
    role: str
    weight: float
    images: int


@dataclass(frozen=True)
class Explanation:
    """All that is known of one image.

    Attributes:
        taste: "tastes/{taste}".
        image: the image.
        parents: those it was made from, each with its own.
        labels: of it, oldest first.
        score: by the active rater version, None where there is none.
        training_sets: those it entered, oldest first.
    """

    taste: str
    image: rater_pb2.Image
    parents: Sequence[ParentImage]
    labels: Sequence[rater_pb2.Label]
    score: rater_pb2.Score | None
    training_sets: Sequence[TrainingSet]

    def plain(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        return {
            "taste": self.taste,
            "image": plain(self.image),
            "parents": [parent.plain() for parent in self.parents],
            "labels": [plain(label) for label in self.labels],
            "score": None if self.score is None else plain(self.score),
            "training_sets": [asdict(training_set) for training_set in self.training_sets],
        }


def explain(client: Client, taste: str, digest: str) -> Explanation:
    """Returns all that is known of one image.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        digest: sha256 of the image, or its first digits.

    Raises:
        InvalidArgument: the digits are too few, or stand for several images.
        NotFound: the taste knows no such image.
    """
    image = client.rater.get_image(taste=taste, digest=whole_digest(client, taste, digest))
    return Explanation(
        taste=taste,
        image=image,
        parents=[_ancestor(client, taste, parent, DEPTH) for parent in image.parents],
        labels=[label for label in labels(client, taste) if label.image_digest == image.digest],
        score=_score(client, taste, image.digest),
        training_sets=list(_training_sets(client, taste, image.digest)),
    )


def whole_digest(client: Client, taste: str, digits: str) -> str:
    """Returns the one digest that begins with some digits.

    Raises:
        InvalidArgument: the digits are too few, are none, or stand for several images.
        NotFound: no image of the taste begins so.
    """
    prefix = digits.lower()
    if len(prefix) < SHORTEST or len(prefix) > DIGEST_LENGTH or set(prefix) - set("0123456789abcdef"):
        raise InvalidArgument(
            text("expected a digest, or its first {count} digits at least, got {digits}", count=SHORTEST, digits=digits)
        )
    if len(prefix) == DIGEST_LENGTH:
        return prefix
    digests = [image.digest for image in _by_digest(client, taste, prefix)]
    if not digests:
        raise NotFound(text("{taste} knows no image whose digest begins with {digits}", taste=taste, digits=digits))
    if len(digests) > 1:
        raise InvalidArgument(
            text("{count} images begin with {digits}; give more digits", count=len(digests), digits=digits)
        )
    return digests[0]


def _by_digest(client: Client, taste: str, prefix: str) -> Iterator[rater_pb2.Image]:
    """Yields the images whose digest begins with a prefix; they come ordered by digest, so the rest is not read."""
    for page in pages(client.rater.list_images, taste=taste, order_by="digest"):
        for image in page.images:
            if image.digest.startswith(prefix):
                yield image
            elif image.digest > prefix:
                return


def _ancestor(client: Client, taste: str, digest: str, depth: int) -> ParentImage:
    try:
        image = client.rater.get_image(taste=taste, digest=digest)
    except NotFound:
        return ParentImage(digest)
    parents = [_ancestor(client, taste, parent, depth - 1) for parent in image.parents] if depth else []
    return ParentImage(digest, parents, in_taste=True, prompt=image.prompt, unit=image.unit)


def _score(client: Client, taste: str, digest: str) -> rater_pb2.Score | None:
    """Returns the score by the active rater version; None where there is no rater yet."""
    try:
        (result,) = client.rater.score_images(taste=taste, images=[rater_pb2.ImageInput(digest=digest)]).results
    except KonomiError:
        return None
    return result.score if result.WhichOneof("result") == "score" else None


def _training_sets(client: Client, taste: str, digest: str) -> Iterator[TrainingSet]:
    """Yields every training set that holds the image, with its part in it and the model that came of it."""
    for model in reversed(list(models(client, taste))):
        manifest = json.loads(client.artifacts.get(model.manifest_digest)) if model.manifest_digest else {"items": []}
        for item in manifest["items"]:
            if item["digest"] == digest:
                yield TrainingSet(
                    model=model.name,
                    display_name=model.display_name,
                    current=model.current,
                    manifest=model.manifest_digest,
                    rater_version=model.rater_version,
                    role=item.get("role", "selected"),
                    weight=item.get("weight", 1.0),
                    images=len(manifest["items"]),
                )
