"""What a first evening waits for: `konomi up` until it is ready, and folders of 512-pixel photographs in and scored.

Question: does a new home answer within 15 seconds, and is a folder imported, and scored, at 25 images a second?
Method: a fresh home and the real command. The start is compared with the time the roles' libraries take to load, one
process a role at once, in the same run: that is what starting waited for before. Import and score are compared with
decoding and embedding the same files in this process, without services; `score` is measured as the command, with its
own start, and without it. Caches of the disk are warm, as they are after `pip install`. F3 asks a rater that is
loading torch for a taste every 20 ms.

Run time: 4 minutes on two quiet cores; peak memory 3 GB. `--small` is a smoke test that writes no result.
"""

import argparse
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from konomi.client import Client, connect_home
from konomi.v1 import rater_pb2 as rater
from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
from konomi_rater.embedding.device import Placement
from konomi_rater.embedding.registry import Embedders
from tests.benchmarks.results import Figure, report

LIBRARIES = {
    "rater": "faiss, sklearn.cluster, scipy.stats, torch, torchvision, open_clip, timm",
    "generator": "torch, diffusers, transformers",
    "trainer": "torch, torchvision, diffusers, transformers, peft, accelerate, open_clip",
}
"""What each role imports before its first image: it did so before it answered at all."""
COMMAND = [sys.executable, "-m", "konomi"]
SIDE, QUALITY = 512, 90
LOADING_SECONDS = 15.0


def main() -> None:
    """Measures and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embedder", default="timm:tf_efficientnet_lite0", help="of the taste that is filled")
    parser.add_argument("--small", action="store_true")
    arguments = parser.parse_args()
    count, starts = (80, 1) if arguments.small else (1000, 3)
    with tempfile.TemporaryDirectory() as place:
        home, pictures = Path(place) / "home", Path(place) / "pictures"
        files = write_photographs(pictures, count)
        figures = first_starts(home, starts)
        alone = embedded_alone(files, arguments.embedder, home / "models")
        with up(home) as (client, _):
            time.sleep(LOADING_SECONDS)
            figures += folders(client, home, pictures, alone, arguments.embedder)
    if arguments.small:
        print(json.dumps([vars(figure) for figure in figures], indent=1))
    else:
        report("start", figures)


def write_photographs(folder: Path, count: int) -> list[Path]:
    """Writes JPEGs with the spectrum of photographs; no two are alike."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    frequencies = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE), np.fft.rfftfreq(SIDE), indexing="ij"))
    slope = 1 / np.maximum(frequencies, 1 / SIDE)
    paths = []
    for number in range(count):
        noise = rng.normal(size=(3, *slope.shape)) + 1j * rng.normal(size=(3, *slope.shape))
        waves = np.fft.irfft2(noise * slope, (SIDE, SIDE))
        pixels = np.clip(127 + 45 * waves / waves.std(axis=(1, 2), keepdims=True), 0, 255).astype(np.uint8)
        out = io.BytesIO()
        Image.fromarray(np.moveaxis(pixels, 0, 2)).save(out, "JPEG", quality=QUALITY)
        paths.append(folder / f"IMG_{number:04}.jpg")
        paths[-1].write_bytes(out.getvalue())
    return paths


@contextmanager
def up(home: Path) -> Iterator[tuple[Client, float]]:
    """Holds `konomi up` and gives its client and the seconds until it was ready."""
    ports = [word for role in ("rater", "generator", "trainer", "page") for word in (f"--port-{role}", "0")]
    began = time.monotonic()
    process = subprocess.Popen(
        [*COMMAND, "up", "--json", "--home", str(home), *ports], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline(), "konomi up said nothing"
    seconds = time.monotonic() - began
    try:
        with connect_home(home) as client:
            yield client, seconds
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def first_starts(home: Path, starts: int) -> list[Figure]:
    """Starts a fresh home, then the same again; each beside what loading the libraries takes."""
    loading, ready, slowest = [], [], []
    for _ in range(starts):
        began = time.monotonic()
        importing = [subprocess.Popen([sys.executable, "-c", f"import {names}"]) for names in LIBRARIES.values()]
        assert not any(process.wait() for process in importing)
        loading.append(time.monotonic() - began)
        with up(home) as (client, seconds):
            ready.append(seconds)
            taste = client.rater.ensure_taste("default").name  # the first time this waits for the libraries itself
            if len(ready) > 1 or starts == 1:
                slowest.append(slowest_call(client, taste))
    first = Figure("F1", "seconds to ready, a fresh home", ready[0], statistics.median(loading), "s", 1)
    again = statistics.median(ready[1:]) if starts > 1 else ready[0]
    return [
        first,
        Figure("F2", "seconds to ready, later starts", again, statistics.median(loading), "s", max(1, starts - 1)),
        Figure("F3", "slowest GetTaste while it loads (baseline 1 s)", max(slowest), 1.0, "s", len(slowest)),
    ]


def slowest_call(client: Client, taste: str) -> float:
    """Returns the longest a small call takes while the roles load their libraries."""
    longest, until = 0.0, time.monotonic() + LOADING_SECONDS
    while time.monotonic() < until:
        began = time.monotonic()
        client.rater.get_taste(name=taste)
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.02)
    return longest


def embedded_alone(files: list[Path], embedder: str, models: Path) -> float:
    """Returns images a second of decoding and embedding alone, one file after the other in batches of 32."""
    opened = Embedders(models, Placement("cpu", os.cpu_count() or 1, 32)).open(embedder)
    decoder = Decoder(DecodeSettings())
    try:
        opened.embed([opened.fitted(decoder.decode(files[0].read_bytes(), least=opened.fit.least))], keep=False)
        began = time.monotonic()
        for start in range(0, len(files), 32):
            batch = [decoder.decode(f.read_bytes(), least=opened.fit.least) for f in files[start : start + 32]]
            opened.embed([opened.fitted(decoded) for decoded in batch], keep=False)
        return len(files) / (time.monotonic() - began)
    finally:
        decoder.close()


def folders(client: Client, home: Path, pictures: Path, alone: float, embedder: str) -> list[Figure]:
    """Imports and scores the folder by the commands, and scores it once more without a command's start."""
    taste, files = "first", sorted(pictures.iterdir())
    client.rater.create_taste(taste_id=taste, taste=rater.Taste(embedder=embedder))

    def rate(act: Callable[[], object]) -> float:
        began = time.monotonic()
        act()
        return len(files) / (time.monotonic() - began)

    def command(name: str, of: str) -> Callable[[], object]:
        line = [*COMMAND, name, str(pictures), "--taste", of, "--home", str(home), "--json"]
        return lambda: subprocess.run(line, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    imported = rate(command("import", taste))
    grade_some(client, taste)
    known = rate(command("score", taste))
    strange = f"{taste}-strange"
    client.rater.create_taste(taste_id=strange, taste=rater.Taste(embedder=embedder))
    digests = [client.artifacts.put(path.read_bytes(), "image/jpeg").digest for path in files[:40]]
    images = [rater.Image(digest=digest, source=rater.SOURCE_IMPORTED) for digest in digests]
    list(client.rater.add_images([rater.AddImagesRequest(taste=f"tastes/{strange}", image=i) for i in images]))
    grade_some(client, strange)
    unknown = rate(command("score", strange))
    unseen = [path.read_bytes() + b"\0" for path in files]  # other bytes of the same pictures: nothing is remembered
    warm = rate(lambda: client.rater.score(unseen, strange))
    n, of = len(files), f"images a second, {embedder}, {SIDE} px"
    return [
        Figure("F4", f"konomi import: {of}", imported, alone, "1/s", n),
        Figure("F5", f"konomi score of images it does not know: {of}", unknown, alone, "1/s", n),
        Figure("F6", f"konomi score of images it knows: {of}", known, alone, "1/s", n),
        Figure("F7", f"score in a process that runs: {of}", warm, alone, "1/s", n),
    ]


def grade_some(client: Client, taste: str) -> None:
    """Grades 40 images by their place and fits a rater."""
    name = f"tastes/{taste}"
    images = client.rater.list_images(taste=name, page_size=40).images
    labels = [
        rater.Label(image_digest=image.digest, grade=rater.Grade.ValueType(1 + place % 5))
        for place, image in enumerate(images)
    ]
    client.rater.record_labels(taste=name, labels=labels)
    list(client.rater.fit_rater(taste=name))


if __name__ == "__main__":
    main()
