"""Images of a taste looked for: by words, or by an image that need not belong to the taste."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from konomi.client import Client
from konomi.client.refusals import told
from konomi.client.services import BATCH_BYTES, DIGEST
from konomi.datasets.media import not_an_image
from konomi.datasets.reader import find_images
from konomi.errors import FailedPrecondition, InvalidArgument, NotFound
from konomi.i18n.catalogue import text
from konomi.taste.embedder import reading_lines
from konomi.taste.provenance import DIGEST_LENGTH, SHORTEST, whole_digest
from konomi.v1 import rater_pb2 as rater

HEXADECIMAL = frozenset("0123456789abcdef")


def query_image(client: Client, taste: str, like: str) -> rater.ImageInput:
    """Returns the image that is asked with: a file there is, else the digest of an image or its first digits.

    A file's bytes go to the rater with the question and nowhere else; one larger than a message may be is stored
    first, as `konomi score` does, and does not become an image of the taste either.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        like: path of a file, or a digest.

    Raises:
        InvalidArgument: the file is none of an image or cannot be read, or the digits stand for several images.
        NotFound: there is no such file, and no image of the taste begins so.
    """
    if DIGEST.fullmatch(like):
        return rater.ImageInput(digest=like)
    path = Path(like)
    digits = like.lower()
    if SHORTEST <= len(digits) <= DIGEST_LENGTH and not set(digits) - HEXADECIMAL and not path.exists():
        return rater.ImageInput(digest=whole_digest(client, taste, digits))
    files = list(islice(find_images([path]), 2))
    if len(files) > 1 or path.is_dir():
        raise InvalidArgument(
            text("expected one image to look for others like it, got {path}, which holds several", path=path),
            reason="NOT_ONE_IMAGE",
        )
    if not files:
        raise not_an_image()
    (file,) = files
    if file.error is not None:
        raise InvalidArgument(f"{path}: {file.error.message}", reason=file.error.reason)
    if len(file.data) > BATCH_BYTES:
        return rater.ImageInput(digest=client.artifacts.put(file.data, file.media_type).digest)
    return rater.ImageInput(content=file.data)


def by_image(client: Client, taste: str, image: rater.ImageInput, count: int, skip: int) -> rater.SearchImagesResponse:
    """Returns the images nearest an image, after the first `skip`, with their scores where a rater is fitted.

    Raises:
        FailedPrecondition: the taste has no images.
        InvalidArgument: the image cannot be read.
        NotFound: there is no image of that digest.
    """
    try:
        return client.rater.search_images(taste=taste, image=image, count=count, skip=skip, with_scores=True)
    except NotFound as error:
        if error.reason != "ARTIFACT_NOT_FOUND":
            raise
        line = text("there is no image with the digest {digest} here", digest=image.digest)
        raise NotFound(line, reason=error.reason) from error
    except FailedPrecondition as error:
        raise _without_images(error, taste) from error


def by_text(client: Client, taste: str, words: str, count: int, skip: int) -> rater.SearchImagesResponse:
    """Returns the images nearest some words, as `by_image` does.

    Raises:
        FailedPrecondition: the taste has no images.
        InvalidArgument: there are no words, or more than the embedder's text tower reads, or it has none.
    """
    try:
        return client.rater.search_images(taste=taste, text=words, count=count, skip=skip, with_scores=True)
    except FailedPrecondition as error:
        raise _without_images(error, taste) from error
    except InvalidArgument as error:
        raise InvalidArgument(_refused(client, taste, error), reason=error.reason) from error


def _without_images(error: FailedPrecondition, taste: str) -> FailedPrecondition:
    if error.reason != "NO_IMAGES":
        return error
    line = text("{taste} has no images to search among yet; run: konomi import PATH", taste=taste)
    return FailedPrecondition(line, reason=error.reason)


def _refused(client: Client, taste: str, error: InvalidArgument) -> str:
    """Returns why words cannot be searched for, and what to do."""
    match error.reason:
        case "TEXT_MISSING":
            return text("expected words to search for, got none")
        case "TEXT_TOO_LONG":
            return text("these are more words than the taste's embedder reads; use fewer ({why})", why=told(error))
        case "NO_TEXT_TOWER":
            advice = client.rater.advise_embedder(taste=taste)
            return no_text(advice.embedder, reading_lines(advice, taste))
    return told(error)


def no_text(embedder: str, lines: Sequence[str]) -> str:
    """Returns why a taste cannot be searched by words, and what changes that.

    Args:
        embedder: name of the taste's embedder.
        lines: what to run for one that reads words, in order.
    """
    fact = text(
        "the embedder of this taste, {embedder}, reads no words; search by an image, or change it", embedder=embedder
    )
    return f"{fact}: {text('run: {line}', line=' && '.join(lines))}"
