"""The prompts a taste's nights draw with, where their owner wrote them down: a file of the home, one prompt a line."""

from collections.abc import Sequence
from pathlib import Path

from konomi.client import Client, paging
from konomi.client.services import taste_name
from konomi.datasets.spelling import lines_of, text_in
from konomi.errors import InvalidArgument
from konomi.files import write_atomically
from konomi.i18n.catalogue import text
from konomi.taste.bundle_format import TASTE
from konomi.v1 import rater_pb2

FOLDER = "prompts"
MOST = 512
"""Prompts a taste may have."""
LONGEST = 4096
"""Bytes of a prompt, as the generator takes it."""


def file_of(home: Path, taste: str) -> Path:
    """Returns where the prompts of a taste, by its id or name, are kept.

    Raises:
        InvalidArgument: it is no name of a taste, which could lead out of the home.
    """
    name = taste_name(taste)
    if not TASTE.fullmatch(name):
        raise InvalidArgument(text('expected "tastes/{id}"'), field="taste")
    return home / FOLDER / f"{name.removeprefix('tastes/')}.txt"


def kept(home: Path, taste: str) -> list[str]:
    """Returns the prompts that were written down; none where nobody did."""
    try:
        lines = file_of(home, taste).read_text("utf-8").split("\n")
    except (OSError, UnicodeDecodeError):
        return []
    return [line.strip() for line in lines if line.strip()][:MOST]


def keep(home: Path, taste: str, prompts: Sequence[str]) -> list[str]:
    """Writes prompts down and returns them as they were kept, each once; none takes the file away.

    Raises:
        InvalidArgument: there are too many, or one is too long or holds a character that is none.
    """
    different = usable(prompts)
    file = file_of(home, taste)
    if different:
        write_atomically(file, ("\n".join(different) + "\n").encode())
    else:
        file.unlink(missing_ok=True)
    return different


def usable(prompts: Sequence[str]) -> list[str]:
    """Returns prompts as they are kept: each once, without the space around it.

    Raises:
        InvalidArgument: there are too many, or one is too long or holds a character that is none.
    """
    different = list(dict.fromkeys(prompt.strip() for prompt in prompts if prompt.strip()))
    if len(different) > MOST:
        message = text("expected at most {most} prompts, got {count}", most=MOST, count=len(different))
        raise InvalidArgument(message, reason="TOO_MANY_PROMPTS", field="prompts")
    for number, prompt in enumerate(different, start=1):
        if not _is_line(prompt):
            message = text(
                "prompt {number} cannot be used: expected one line of at most {most} bytes", number=number, most=LONGEST
            )
            raise InvalidArgument(message, reason="PROMPT_INVALID", field="prompts")
    return different


def _is_line(prompt: str) -> bool:
    """Says whether a prompt is one line, not too long, of characters that can be written."""
    try:
        size = len(prompt.encode())
    except UnicodeEncodeError:
        return False  # half of a pair of surrogates, as JSON can spell it
    return size <= LONGEST and len(prompt.splitlines()) == 1 and all(ord(letter) >= 32 for letter in prompt)


def at_hand(client: Client, home: Path, taste: str) -> tuple[list[str], str]:
    """Returns the prompts a night of a taste draws with, and where from: "kept", "pictures", or "" for none.

    Args:
        client: of a running rater.
        home: the home.
        taste: id or name.
    """
    written = kept(home, taste)
    if written:
        return written, "kept"
    carried: set[str] = set()
    own = rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF, rater_pb2.SOURCE_IMPORTED])
    for page in paging.pages(client.rater.list_images, taste=taste_name(taste), filter=own):
        carried |= {image.prompt.strip() for image in page.images if image.prompt.strip()}
        if len(carried) >= MOST:
            break
    return sorted(carried)[:MOST], "pictures" if carried else ""


def read_prompts(path: Path | None) -> list[str]:
    """Returns the prompts of a file, one a line; none where there is no file.

    Raises:
        InvalidArgument: the file cannot be read, or holds no prompt.
    """
    if path is None:
        return []
    try:
        lines = [line.strip() for line in lines_of(text_in(path))]
    except (OSError, ValueError) as error:
        raise InvalidArgument(text("cannot read the prompts: {error}", error=error), field="prompts") from error
    prompts = [line for line in lines if line]
    if not prompts:
        raise InvalidArgument(text("expected one prompt a line in {path}, found none", path=path.name))
    return prompts
