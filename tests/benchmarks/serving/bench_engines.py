"""What an acknowledged label costs in SQLite and in PostgreSQL: make bench-engines.

One label a transaction, as the page sends them, with its request id; and a hundred at once, as a file brings them. No
rpc is in it: the wire costs the same on both. PostgreSQL runs from the system's binaries beside the home, on the same
disk, by its socket. "Against" is SQLite.
"""

import argparse
import statistics
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from konomi.v1 import rater_pb2 as pb
from konomi_chassis.storage.idempotency import Idempotency
from konomi_rater.storage import image_records, labels, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import SCHEMA
from tests.benchmarks.results import Figure, report
from tests.postgresql import Rows, binaries, serving

IMAGES, AT_ONCE = 500, 100
DIGESTS = [f"{number:064x}" for number in range(IMAGES)]


def main() -> None:
    """Measures both engines, one after the other, and files the result."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--labels", type=int, default=2000)
    count = options.parse_args().labels
    server_binaries = binaries()
    if server_binaries is None:
        raise SystemExit("needs PostgreSQL's server (apt: postgresql)")
    disk = Path(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(dir=disk) as name, serving(server_binaries, disk) as server:
        sqlite = measure(Rows(None), Path(name) / "sqlite", count)
        postgresql = measure(Rows(server), Path(name) / "postgresql", count)
    report(
        "engines",
        [
            Figure(
                "P15", "labels acknowledged a second, a hundred at once", postgresql.rate, sqlite.rate, "1/s", count
            ),
            Figure("P15a", "one label acknowledged, median", postgresql.median, sqlite.median, "ms", count),
            Figure("P15b", "one label acknowledged, 99 %", postgresql.slow, sqlite.slow, "ms", count),
        ],
    )


@dataclass(frozen=True)
class Cost:
    """What labels cost: milliseconds of one (median, 99 %), and how many a second by hundreds."""

    median: float
    slow: float
    rate: float


def measure(rows: Rows, home: Path, count: int) -> Cost:
    """Measures one engine on an empty home."""
    engine = rows.open(home, SCHEMA)
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest in DIGESTS:
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
    took = [one(engine, number) for number in range(count)][count // 10 :]
    began = time.perf_counter()
    for _ in range(count // AT_ONCE):
        with engine.begin() as connection:
            labels.record(connection, "t", [NewLabel(digest, 4) for digest in DIGESTS[:AT_ONCE]], 1.0)
    rate = count / (time.perf_counter() - began)
    engine.dispose()
    return Cost(statistics.median(took), statistics.quantiles(took, n=100)[98], rate)


def one(engine, number: int) -> float:
    """Records one label as RecordLabels does, and returns the milliseconds until it is durable."""
    request = pb.RecordLabelsRequest(taste="tastes/t", request_id=str(uuid.uuid4()))
    memory, digest = Idempotency(), DIGESTS[number % IMAGES]
    began = time.perf_counter()
    with engine.begin() as connection:
        assert memory.replay(connection, "RecordLabels", request) is None
        labels.record(connection, "t", [NewLabel(digest, 1 + number % 5)], 1.0)
        memory.remember(connection, "RecordLabels", request, pb.RecordLabelsResponse())
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main()
