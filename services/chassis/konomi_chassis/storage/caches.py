"""Files that can be made again from an artifact: each bears the artifact's digest in its name, so all can be found.

Whatever computes something from one image and keeps it below the home's `cache` names the file so; when the image has
to go, its latents and thumbnails go by that alone, whoever made them.
"""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

NAMED = re.compile(r"[0-9a-f]{64}")


def forget_derived(cache: Path, digests: Collection[str]) -> int:
    """Removes every file below a cache folder whose name holds one of the digests; returns how many went.

    Links are neither followed nor removed. A file that went meanwhile, or a folder, is no error.
    """
    wanted, removed = set(digests), 0
    if not wanted:
        return 0
    for entry in regular_files(cache):
        if wanted.intersection(NAMED.findall(entry.name)):
            try:
                os.unlink(entry.path)
                removed += 1
            except FileNotFoundError:
                continue
    return removed


def regular_files(folder: Path) -> "Iterator[os.DirEntry[str]]":
    """Yields every regular file below a folder, through no link."""
    waiting = [str(folder)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry
