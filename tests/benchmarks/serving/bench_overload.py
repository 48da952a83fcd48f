"""L1, L2, L8: what labels and health cost while others flood, stall or bring no token; what is served at 10 times peak.

`make bench-overload`. One rater on the bundled starter; labels and probes of health go on at a steady pace in this
process, everything else comes from processes of its own. All ratios are of one run: labels beside a flood against
labels at rest, goodput at ten times the peak against the peak. The rater has the first half of the cores and all who
call it the other, at the peak as in the flood: callers are work of other machines, and a sender of hundreds of 4k
images a second would else take the cores the images are to be decoded on. `--image-side` and `--seconds` make it
smaller.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from konomi.errors import KonomiError
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.auth.authentication import issue_token
from tests.benchmarks.results import Figure, report
from tests.benchmarks.serving import rig
from tests.benchmarks.serving.bench_hostile import STARTER
from tests.chassis import raw_http2 as raw
from tests.chassis.conftest import Caller

PACE = 0.05
"""Seconds from one label, and one probe, to the next."""
RATER = "/konomi.v1.RaterService/"
LABEL_GOAL = 0.100


class Beside:
    """Labels and probes at a steady pace; how long each took, and how many failed."""

    def __init__(self, server: rig.Server, digest: str, labeller: str) -> None:
        self._labels, self._probes = Caller(server.address, labeller), Caller(server.address)
        self._digest, self._stop = digest, threading.Event()
        self.labels: list[float] = []
        self.probes: list[float] = []
        self.failed = 0
        self._threads = [
            threading.Thread(target=self._pace, args=(work, taken))
            for work, taken in ((self._label, self.labels), (self._probe, self.probes))
        ]

    @contextmanager
    def going_on(self) -> Iterator["Beside"]:
        """Goes on for the time of the block."""
        for thread in self._threads:
            thread.start()
        yield self
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _pace(self, work: Any, taken: list[float]) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            due += PACE
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            try:
                work()
                taken.append(time.monotonic() - began)
            except KonomiError:
                self.failed += 1

    def _label(self) -> None:
        label = pb.Label(image_digest=self._digest, grade=pb.GRADE_SR)
        request = pb.RecordLabelsRequest(taste=f"tastes/{rig.TASTE}", labels=[label], request_id=str(uuid.uuid4()))
        self._labels.call(RATER + "RecordLabels", request)

    def _probe(self) -> None:
        self._probes.call("/grpc.health.v1.Health/Check", b"")


class Bench:
    """One server and what is done to it.

    Args:
        server: the rater.
        image: the file the floods send.
        seconds: of every flood.
    """

    def __init__(self, server: rig.Server, digest: str, image: Path, seconds: float) -> None:
        self._server, self._digest, self._image, self._seconds = server, digest, image, seconds
        self._tool = issue_token(server.home, "flood", "tool", rig.TASTE)
        self._labeller = issue_token(server.home, "ann", "labeller", rig.TASTE)
        self.figures: list[Figure] = []
        self.at_rest = 0.0

    def run(self) -> None:
        """Measures everything."""
        with self._beside() as beside:
            time.sleep(self._seconds)
        self.at_rest = _p99(beside.labels)
        self._figure("L8", "labels at rest, p99", self.at_rest, LABEL_GOAL, "s", len(beside.labels))
        peak = self._flood("8 callers of 4k images", 0, 8)
        self._flood("200 callers of 4k images", 0, 200, peak)
        self._flood("200 callers that come back every half second", -1, 200, peak)
        self._flood("an open loop at 10 times the peak", max(1.0, 10 * peak), 0, peak)
        label, score = RATER + "RecordLabels", RATER + "ScoreImages"
        unknown = ("authorization", "Bearer konomi_invented")
        known = ("authorization", f"Bearer {self._tool}")
        part = raw.message(bytes(8 << 20))[:60_000]
        for count in (200, 1000, 5000):
            self._stall(f"{count} calls without a token that send no message", label, count)
        self._stall("1,000 calls with an invented token", score, 1000, unknown)
        self._stall("1,000 probes of health that send no message", "/grpc.health.v1.Health/Check", 1000)
        self._stall("1,000 calls of a tool that send no message", score, 1000, known)
        self._stall("200 calls of a tool that stop within 8 MiB", score, 200, known, body=part, each=1)
        self._stall("200 calls without a token that stop within 8 MiB", score, 200, body=part, each=1)

    def _flood(self, what: str, rate: float, callers: int, peak: float = 0.0) -> float:
        command = [sys.executable, "-m", "tests.benchmarks.serving.flood", self._server.address, self._tool]
        command += [str(self._image), str(rate), str(callers), str(self._seconds)]
        with self._beside() as beside:
            done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, preexec_fn=lambda: os.nice(5))
        sent: dict[str, Any] = json.loads(done.stdout)
        print(what, sent, f"failed beside it: {beside.failed}", flush=True)
        self._beside_figures(what, beside)
        goodput = float(sent["goodput"])
        self._figure("L1", f"{what}: goodput against the peak", goodput, peak, "img/s", int(goodput * self._seconds))
        if sent["refused"]:
            self._figure("L1", f"{what}: refusals, p99", sent["refused_p99"], 0.050, "s", sent["refused"])
        return goodput

    def _stall(self, what: str, rpc: str, count: int, *metadata: tuple[str, str], **more: Any) -> None:
        before = self._server.rss_bytes()
        with self._beside() as beside:
            script = [self._server.address, str(count), rpc, json.dumps(metadata), more.get("body", b"").hex()]
            command = [sys.executable, "-m", "tests.benchmarks.serving.bench_overload", "--stall", *script]
            stalling = subprocess.Popen([*command, str(more.get("each", 100))], stdin=subprocess.PIPE)
            time.sleep(max(5.0, self._seconds / 2))
            grown = (self._server.rss_bytes() - before) / 2**20
            assert stalling.stdin is not None
            stalling.stdin.close()
            stalling.wait()
        self._beside_figures(what, beside)
        self._figure("L7", f"{what}: memory gained", grown, 128, "MiB", count)
        time.sleep(1)

    @contextmanager
    def _beside(self) -> Iterator[Beside]:
        with Beside(self._server, self._digest, self._labeller).going_on() as beside:
            yield beside

    def _beside_figures(self, what: str, beside: Beside) -> None:
        self._figure("L8", f"{what}: labels beside it, p99", _p99(beside.labels), LABEL_GOAL, "s", len(beside.labels))
        self._figure("L8", f"{what}: probes beside it, p99", _p99(beside.probes), 1.0, "s", len(beside.probes))
        self._figure("L8", f"{what}: labels and probes that failed", beside.failed, 0, "calls", len(beside.labels))

    def _figure(self, name: str, what: str, value: float, baseline: float, unit: str, n: int) -> None:
        self.figures.append(Figure(name, what, value, baseline, unit, n))


def main() -> None:
    """Runs the benchmark and reports; the load of the machine stands beside it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of every flood")
    parser.add_argument(
        "--image-side", type=int, default=2880, help="of the square image; 2880 has as many pixels as 4k"
    )
    arguments = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        (home / "models").mkdir(parents=True)
        (home / "models" / "starter").symlink_to(STARTER)
        image = Path(scratch) / "image.jpg"
        image.write_bytes(rig.photograph(1, arguments.image_side))
        cores = sorted(os.sched_getaffinity(0))
        half = max(1, len(cores) // 2)
        os.sched_setaffinity(0, cores[:half])  # which the server inherits
        server = rig.Server(home, 1)
        os.sched_setaffinity(0, cores[half:] or cores)
        try:
            photographs = [rig.photograph(seed, 256) for seed in range(40)]
            rig.fit_taste(server, photographs, "starter")
            with server.client() as client:
                digest = client.artifacts.put(photographs[0], "image/jpeg").digest
            bench = Bench(server, digest, image, arguments.seconds)
            bench.run()
        finally:
            server.stop()
    report("overload", bench.figures)
    print(f"load of the machine after: {os.getloadavg()[0]:.1f}")


def stall(address: str, count: str, rpc: str, metadata: str, body: str, each: str) -> None:
    """Opens calls that stall, in a process of their own, until standard input ends."""
    pairs = [(name, value) for name, value in json.loads(metadata)]
    connections = raw.open_many(address, int(count), rpc, *pairs, body=bytes.fromhex(body), each=int(each))
    sys.stdin.read()
    for connection in connections:
        connection.close()


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * len(seconds))] if seconds else float("inf")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--stall"]:
        stall(*sys.argv[2:8])
    else:
        main()
