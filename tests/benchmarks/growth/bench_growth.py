"""How the rater's calls grow: 10^3 to 10^5 labels of 10^4 to 10^6 images, against the smallest home of the same run.

Question: what does a label, a page, an image, a suggestion and a fit cost at 100,000 labels and 1,000,000 images?
Method: a home of each size (`growth_home`, 64 dimensions, kept in build/bench/growth), a rater in a process of its own
with two threads, calls over gRPC. The first call after the start is the cold cost; after it the least of several calls
counts: other work on the machine only ever adds to it. Beside it stands the processor time of a call (`cpu`), which
other work changes less (to a hundredth of a second over all calls). Memory is the rater's peak so far (VmHWM).

`make bench-growth`, or `make bench-growth ARGS="--sizes 1000:10000,10000:100000 --only fit,suggest"`. An hour, most of
it the building of the largest home, which is built once.
"""

import argparse
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from konomi.v1 import rater_pb2 as pb
from tests.benchmarks.growth import growth_home
from tests.benchmarks.growth.growth_home import Size, digest_at
from tests.benchmarks.results import FOLDER, merge
from tests.benchmarks.serving.rig import Server

SIZES = "1000:10000,10000:100000,100000:1000000"
TASTE = f"tastes/{growth_home.TASTE}"
THREADS, TURNS, SECONDS = 2, 7, 20.0
CERTIFIED = 1000
Row = dict[str, Any]
Call = Callable[[], object]


def main() -> None:
    """Measures every size that is asked for and files the figures."""
    arguments = _arguments()
    base: dict[str, float] = {}
    for size in [Size(*map(int, pair.split(":"))) for pair in arguments.sizes.split(",")]:
        home = arguments.folder / size.name
        home.mkdir(parents=True, exist_ok=True)
        growth_home.build(home, size)
        for name, figure in _measure(home, size, set(filter(None, arguments.only.split(",")))):
            base.setdefault(name, figure.value)
            merge(arguments.result, [_row(name, size, figure, base[name])])


@dataclass(frozen=True)
class Cost:
    """What calls cost: the least milliseconds of one, processor milliseconds of one on average, and how many."""

    value: float
    cpu: float
    turns: int
    unit: str = "ms"


def _measure(home: Path, size: Size, only: set[str]) -> Iterator[tuple[str, Cost]]:
    began = time.monotonic()
    server = Server(home, THREADS, KONOMI_LIBRARY_THREADS=str(THREADS), KONOMI_DEFAULT_DEADLINE_SECONDS="3600")
    yield "start", Cost(1000 * (time.monotonic() - began), 1000 * server.cpu_seconds(), 1)
    try:
        with server.client() as client:
            if "fit" in only or not only:
                yield "fit", _cost(server, lambda: _fit(client), 1)
            for name, call in _Calls(client, size).all().items():
                if only and name.split(",")[0] not in only:
                    continue
                yield f"{name}, first", _cost(server, call, 1)
                yield name, _cost(server, call, TURNS)
        yield "memory, peak", Cost(_peak(server) / 2**20, 0.0, 1, "MiB")
    finally:
        server.stop()


class _Calls:
    """The calls that are measured."""

    def __init__(self, client: Any, size: Size) -> None:
        self._rater, self._size, self._turn = client.rater, size, 0
        self._deep = ""

    def all(self) -> dict[str, Call]:
        """Returns every call by name."""
        rater, listing = self._rater, self._list
        return {
            "get taste": lambda: rater.get_taste(name=TASTE),
            "record": self._record,
            "record and undo": self._undo,
            "compare and undo": self._compare,
            "record audit": self._audit,
            "list labels": lambda: rater.list_labels(taste=TASTE, page_size=100),
            "list labels, deep": self._deep_labels,
            "list labels, in force": lambda: rater.list_labels(taste=TASTE, page_size=100, in_force=True),
            "list versions": lambda: rater.list_rater_versions(taste=TASTE),
            "get version": lambda: rater.get_rater_version(name=f"{TASTE}/raterVersions/active"),
            "get image": self._get_image,
            "list images": listing(),
            "list images, deep": self._deep_images,
            "list images, unit": listing(filter=pb.ImageFilter(units=["unit-1"])),
            "list images, graded UR": listing(filter=pb.ImageFilter(grades=[5])),
            "list images, ungraded": listing(filter=pb.ImageFilter(grades=[0])),
            "list images, prompt": listing(filter=pb.ImageFilter(prompt_contains="person 77,")),
            "list images, by utility": listing(order_by="utility desc"),
            "list images, by digest": listing(order_by="digest"),
            "list images, scores": listing(with_scores=True, order_by="utility desc"),
            "score 32 images": self._score,
            "search": lambda: rater.search_images(taste=TASTE, image=pb.ImageInput(digest=digest_at(5)), count=10),
            "map": lambda: rater.map_images(taste=TASTE),
            "map, 5000 points": lambda: rater.map_images(taste=TASTE, count=5000),
            "suggest": lambda: rater.suggest_images(taste=TASTE, count=10, seed=self._next()),
            "suggest, novel": lambda: rater.suggest_images(taste=TASTE, count=10, novel=5, seed=self._next()),
            "suggest, slate": lambda: rater.suggest_images(taste=TASTE, slate=True, seed=self._next()),
            "explore": lambda: rater.explore_novelty(taste=TASTE, count=10),
            "suggest after a label": self._suggest_anew,
        }

    def _next(self) -> int:
        self._turn += 1
        return self._turn

    def _fresh(self) -> str:
        return digest_at((self._next() * 7919) % self._size.images)

    def _record(self, digest: str = "") -> object:
        label = pb.Label(image_digest=digest or self._fresh(), grade=pb.GRADE_SR)
        return self._rater.record_labels(taste=TASTE, labels=[label], request_id=str(uuid.uuid4()))

    def _undo(self) -> None:
        self._record()
        self._rater.undo_label(taste=TASTE, request_id=str(uuid.uuid4()))

    def _compare(self) -> None:
        pair = pb.Comparison(winner_digest=self._fresh(), loser_digest=self._fresh())
        self._rater.record_comparison(taste=TASTE, comparison=pair, request_id=str(uuid.uuid4()))
        self._rater.undo_comparison(taste=TASTE, request_id=str(uuid.uuid4()))

    def _audit(self) -> None:
        certificate = self._rater.certify_set(
            taste=TASTE, digests=[digest_at(row) for row in range(CERTIFIED)], alpha=0.2, delta=0.05, threshold=4
        )
        label = pb.Label(image_digest=certificate.pending[0], grade=pb.GRADE_UR)
        self._rater.record_audit(name=certificate.name, labels=[label], request_id=str(uuid.uuid4()))

    def _deep_labels(self) -> object:
        token = f"{TASTE}/labels/{self._size.labels // 2}"
        return self._rater.list_labels(taste=TASTE, page_size=100, page_token=token.rpartition("/")[2])

    def _get_image(self) -> object:
        return self._rater.get_image(taste=TASTE, digest=self._fresh())

    def _list(self, **fields: Any) -> Call:
        return lambda: self._rater.list_images(taste=TASTE, page_size=100, **fields)

    def _deep_images(self) -> object:
        if not self._deep:
            middle = self._size.images // 2
            self._deep = self._rater.list_images(taste=TASTE, page_size=100, skip=middle).next_page_token
        return self._rater.list_images(taste=TASTE, page_size=100, page_token=self._deep)

    def _score(self) -> object:
        images = [pb.ImageInput(digest=self._fresh()) for _ in range(32)]
        return self._rater.score_images(taste=TASTE, images=images)

    def _suggest_anew(self) -> object:
        self._record()
        return self._rater.suggest_images(taste=TASTE, count=10, seed=self._next())


def _fit(client: Any) -> None:
    list(client.rater.fit_rater(taste=TASTE, request_id=str(uuid.uuid4()), timeout=3600.0))


def _cost(server: Server, call: Call, most: int) -> Cost:
    """Returns what up to `most` calls cost, fewer where they are long."""
    times: list[float] = []
    cpu = server.cpu_seconds()
    while len(times) < most and sum(times) < SECONDS:
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return Cost(1000 * min(times), 1000 * (server.cpu_seconds() - cpu) / len(times), len(times))


def _peak(server: Server) -> int:
    text = Path(f"/proc/{server.pid}/status").read_text()
    return 1024 * int(next(line for line in text.splitlines() if line.startswith("VmHWM")).split()[1])


def _row(name: str, size: Size, cost: Cost, base: float) -> Row:
    what = f"{size.labels:,} labels, {size.images:,} images"
    figures = {"value": cost.value, "baseline": base, "unit": cost.unit, "n": cost.turns, "cpu": cost.cpu}
    return {"id": name, "what": what, **figures}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default=SIZES, help="labels:images, separated by commas; the first is the baseline")
    parser.add_argument("--only", default="", help="calls to measure, the words before a comma; all when empty")
    parser.add_argument("--folder", type=Path, default=FOLDER / "growth", help="where the homes lie")
    parser.add_argument("--result", default="growth", help="name of the result in build/bench")
    return parser.parse_args()


if __name__ == "__main__":
    main()
