"""The file of prompts a night is given on the line."""

from pathlib import Path

from konomi import errors
from konomi.datasets.spelling import lines_of, text_in
from konomi.i18n.catalogue import text


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
        raise errors.InvalidArgument(text("cannot read the prompts: {error}", error=error), field="prompts") from error
    prompts = [line for line in lines if line]
    if not prompts:
        raise errors.InvalidArgument(text("expected one prompt a line in {path}, found none", path=path.name))
    return prompts
