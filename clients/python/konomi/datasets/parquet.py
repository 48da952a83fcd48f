"""Parquet tables of images, written and read: the only file that knows pyarrow."""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from konomi.datasets.records import DatasetRecord
from konomi.errors import InvalidArgument
from konomi.host import extras
from konomi.i18n.catalogue import text

IMAGE_COLUMNS = ("image", "image_bytes", "jpg", "png", "webp", "bytes")
NO_IMAGES = "NO_IMAGES"
"""Reason of the error of a table that only speaks of images, as those beside WebDataset's shards do."""
MAX_GROUP_BYTES = 1024**3
ROWS_AT_ONCE = 16

COLUMNS: Sequence[tuple[str, str]] = (
    ("digest", "string"),
    ("image_name", "string"),
    ("prompt", "string"),
    ("seed", "int64"),
    ("step", "float64"),
    ("cfg", "float64"),
    ("width", "int32"),
    ("height", "int32"),
    ("caption", "string"),
    ("grade", "string"),
    ("predicted_grade", "string"),
    ("utility", "float64"),
    ("std", "float64"),
    ("lower_bound", "float64"),
    ("typicality", "float64"),
    ("novelty", "float64"),
    ("rater_version", "string"),
    ("source", "string"),
    ("licence", "string"),
    ("consent", "string"),
    ("unit", "string"),
    ("night", "string"),
    ("path", "string"),
)
"""Column to type; prompt, seed, step, cfg, width and height are named as DiffusionDB does."""


def write_rows(path: Path, records: Sequence[DatasetRecord], *, images: bool) -> None:
    """Writes a table of images, with their bytes in the column "image" where asked for.

    Raises:
        FailedPrecondition: pyarrow is not installed; the message is the line that brings it.
    """
    arrow, parquet = _arrow()
    fields = [arrow.field(name, getattr(arrow, kind)()) for name, kind in COLUMNS]
    if images:
        fields.append(arrow.field("image", arrow.binary()))
    rows = [row_of(record) | ({"image": record.data} if images else {}) for record in records]
    parquet.write_table(arrow.Table.from_pylist(rows, schema=arrow.schema(fields)), path, compression="zstd")


def row_of(record: DatasetRecord) -> dict[str, Any]:
    """Returns the columns of an image; the owner's grade and a predicted one never share a column."""
    facts: Mapping[str, object] = record.facts
    prediction: Mapping[str, object] = record.facts["prediction"] or {}
    parameters = record.facts["parameters"]
    taken = ("digest", "prompt", "seed", "width", "height", "grade", "source", "licence", "consent", "unit", "night")
    figures = ("utility", "std", "lower_bound", "typicality", "novelty", "rater_version")
    return {name: facts[name] for name in taken} | {name: prediction.get(name) for name in figures} | {
        "image_name": f"{record.digest}.{record.ending}",
        "path": record.facts["path"],
        "caption": record.caption,
        "predicted_grade": prediction.get("grade"),
        "step": parameters.get("steps"),
        "cfg": parameters.get("guidance_scale"),
    }  # fmt: skip


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the rows of a table that has images, their bytes under "image", some at a time.

    Raises:
        InvalidArgument: it is no such table, or a group of its rows would be too large to unpack.
        FailedPrecondition: pyarrow is not installed; the message is the line that brings it.
    """
    arrow, parquet = _arrow()
    try:
        with parquet.ParquetFile(path, memory_map=False) as file:
            names = file.schema_arrow.names
            column = next((name for name in IMAGE_COLUMNS if name in names), None)
            sizes = [file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups)]
            if column is None or max(sizes, default=0) > MAX_GROUP_BYTES:
                raise _no_images() if column is None else _unreadable(text("a group of its rows is too large"))
            wanted = [column, *(name for name in names if name in ("text", *dict(COLUMNS)))]
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=list(dict.fromkeys(wanted))):
                for row in batch.to_pylist():
                    held = row.pop(column)
                    yield {**row, "image": held.get("bytes") if isinstance(held, dict) else held}
    except (arrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise _unreadable(str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error


def _no_images() -> InvalidArgument:
    return InvalidArgument(text("expected a table with images: it has no column of images"), reason=NO_IMAGES)


def _unreadable(why: str) -> InvalidArgument:
    message = text("expected a readable parquet table with images: {why}", why=why)
    return InvalidArgument(message, reason="PARQUET_UNREADABLE")


def _arrow() -> tuple[Any, Any]:
    extras.require("files")
    return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
