"""F6: every test image of Pillow's own source distribution through ScoreImages: scored, or refused as its own error.

`make bench-hostile`. The distribution (13.0.0, 1,060 files: fuzzer finds, bombs, truncations, rare formats) is fetched
into build/ through pip at the first run, or taken from `--archive FILE`. A rater on the bundled starter scores all
files three times, 16 at once; its memory is read after each time.
"""

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from pathlib import Path

from konomi.v1 import rater_pb2 as pb
from tests.benchmarks.results import FOLDER, Figure, report
from tests.benchmarks.serving import rig

VERSION = "13.0.0"
ARCHIVE = FOLDER.parent / "hostile" / f"pillow-{VERSION}.tar.gz"
STARTER = Path(__file__).parents[3] / "services" / "starter" / "konomi_starter" / "models"
AT_ONCE = 16
INLINE_BYTES = 8 << 20
MOST_GROWTH = 64 << 20


def main() -> None:
    """Runs the corpus and reports; exits with 1 when an image was neither scored nor refused, or the rater died."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, default=ARCHIVE, help="Pillow's source distribution")
    files = list(_files(parser.parse_args().archive))
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch) / "home"
        (home / "models").mkdir(parents=True)
        (home / "models" / "starter").symlink_to(STARTER)
        server = rig.Server(home, 1)
        try:
            rig.fit_taste(server, [rig.photograph(seed, 256) for seed in range(40)], "starter")
            said, slowest, memory = _run(server, files)
            alive = server.alive()
        finally:
            server.stop()
    for reason, count in sorted(said.items()):
        print(f"{count:6} {reason}")
    lost = len(files) - sum(said.values())
    growth = memory[-1] - memory[0]
    count, answered = len(files), sum(said.values())
    figures = [
        Figure("F6", "test images of Pillow scored or refused as their own error", answered, count, "images", count),
        Figure("F6", "of them scored", said["scored"], count, "images", count),
        Figure("F6", f"slowest call of {AT_ONCE} images", slowest, 60.0, "s", count // AT_ONCE),
        Figure("F6", "memory gained from the first round to the third", growth / 2**20, MOST_GROWTH / 2**20, "MiB", 3),
    ]
    report("hostile", figures)
    raise SystemExit(1 if lost or not alive or growth > MOST_GROWTH else 0)


def _run(server: rig.Server, files: list[bytes]) -> tuple[Counter[str], float, list[int]]:
    """Scores all files three times; returns what was said the last time, the slowest call, the memory after each."""
    memory, slowest, said = [], 0.0, Counter[str]()
    with server.client() as client:
        for _ in range(3):
            said = Counter()
            for start in range(0, len(files), AT_ONCE):
                began = time.monotonic()
                inputs = [_input(client, data) for data in files[start : start + AT_ONCE]]
                for result in client.rater.score_images(
                    taste=f"tastes/{rig.TASTE}", images=inputs, timeout=600
                ).results:
                    said[result.error.reason if result.HasField("error") else "scored"] += 1
                slowest = max(slowest, time.monotonic() - began)
            memory.append(server.rss_bytes())
    return said, slowest, memory


def _input(client: object, data: bytes) -> pb.ImageInput:
    if len(data) > INLINE_BYTES // AT_ONCE:
        return pb.ImageInput(digest=client.artifacts.put(data, "application/octet-stream").digest)  # type: ignore[attr-defined]
    return pb.ImageInput(content=data)


def _files(archive: Path) -> list[bytes]:
    if not archive.exists():
        archive.parent.mkdir(parents=True, exist_ok=True)
        command = ["download", "--quiet", "--no-deps", "--no-binary", "pillow", "--dest", str(archive.parent)]
        subprocess.run([sys.executable, "-m", "pip", *command, f"pillow=={VERSION}"], check=True)
    with tarfile.open(archive) as packed:
        members = [m for m in packed.getmembers() if m.isfile() and "/Tests/images/" in m.name]
        return [packed.extractfile(m).read() for m in sorted(members, key=lambda m: m.name)]  # type: ignore[union-attr]


if __name__ == "__main__":
    main()
