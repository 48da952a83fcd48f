"""kohya's dataset layout: `N_concept/` folders of images with same-stem .txt captions, and dataset.toml beside them.

kohya reads N as repeats from the folder's name; with --dataset_config it ignores the name and reads num_repeats, so
both say the same. metadata.jsonl (the layout of Hugging Face's imagefolder) holds what a caption cannot.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from konomi.datasets.records import DatasetRecord

METADATA = "metadata.jsonl"
GENERAL = '[general]\ncaption_extension = ".txt"\nshuffle_caption = false\n\n[[datasets]]\nresolution = {resolution}\n'
SUBSET = '\n[[datasets.subsets]]\nimage_dir = "{folder}"\nclass_tokens = "{concept}"\nnum_repeats = {repeats}\n'


def write_kohya(folder: Path, records: Iterable[DatasetRecord], concept: str, repeats: int, resolution: int) -> int:
    """Writes images into a folder that is there and empty, one sub-folder per grade of the owner's; returns how many.

    Args:
        folder: the dataset.
        records: the images; their bytes are written as they are.
        concept: class tokens, for example "portrait".
        repeats: how often an epoch shows each image.
        resolution: side of the training images in pixels, for dataset.toml.
    """
    folders: dict[str, str] = {}
    count = 0
    with (folder / METADATA).open("w", encoding="utf-8", newline="\n") as metadata:
        for record in records:
            grade = record.grade.lower() or "ungraded"
            name = folders.setdefault(grade, f"{repeats}_{concept} {grade}")
            (folder / name).mkdir(exist_ok=True)
            file = f"{name}/{record.digest}.{record.ending}"
            (folder / file).write_bytes(record.data)
            (folder / name / f"{record.digest}.txt").write_text(one_line(record.caption) + "\n", "utf-8", newline="\n")
            line = {"file_name": file, "text": one_line(record.caption), **record.facts}
            metadata.write(json.dumps(line, ensure_ascii=False) + "\n")
            count += 1
    subsets = [
        SUBSET.format(folder=name, concept=name.partition("_")[2], repeats=repeats) for name in sorted(folders.values())
    ]
    (folder / "dataset.toml").write_text(GENERAL.format(resolution=resolution) + "".join(subsets), "utf-8")
    return count


def one_line(caption: str) -> str:
    """Returns a caption as kohya reads it: the first line is all."""
    return " ".join(caption.split())
