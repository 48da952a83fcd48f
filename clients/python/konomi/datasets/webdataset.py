"""WebDataset shards: plain tars in which the members of one image follow each other, `digest.png`, `.txt`, `.json`."""

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from konomi.datasets.kohya import one_line
from konomi.datasets.parquet import write_rows
from konomi.datasets.records import DatasetRecord


def write_shards(folder: Path, records: Iterable[DatasetRecord], size: int) -> int:
    """Writes 00000.tar with its table 00000.parquet, and so on, into an empty folder; returns how many images.

    Args:
        folder: where to.
        records: the images; their bytes are written as they are.
        size: images of a shard at most.
    """

    def write(stem: Path, shard: tuple[DatasetRecord, ...]) -> None:
        with tarfile.open(stem.with_suffix(".tar"), "w", format=tarfile.USTAR_FORMAT) as tar:
            for record in shard:
                for name, data in members(record):
                    member = tarfile.TarInfo(name)
                    member.size, member.mode = len(data), 0o644
                    tar.addfile(member, io.BytesIO(data))
        write_rows(stem.with_suffix(".parquet"), shard, images=False)

    return _each(folder, records, size, write)


def write_tables(folder: Path, records: Iterable[DatasetRecord], size: int) -> int:
    """Writes 00000.parquet and so on, images inside, into an empty folder; returns how many images."""
    return _each(
        folder, records, size, lambda stem, shard: write_rows(stem.with_suffix(".parquet"), shard, images=True)
    )


def members(record: DatasetRecord) -> Iterator[tuple[str, bytes]]:
    """Yields name and bytes of an image's members, in the order of the shard."""
    yield f"{record.digest}.{record.ending}", record.data
    yield f"{record.digest}.txt", one_line(record.caption).encode()
    yield f"{record.digest}.json", json.dumps(record.facts, ensure_ascii=False).encode()


def _each(
    folder: Path, records: Iterable[DatasetRecord], size: int, write: Callable[[Path, tuple[DatasetRecord, ...]], None]
) -> int:
    count, rest = 0, iter(records)
    while shard := tuple(islice(rest, size)):
        write(folder / f"{count // size:05}", shard)
        count += len(shard)
    return count
