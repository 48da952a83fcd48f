"""What the serving benchmarks measure with: seeded photographs, a seeded ViT-B/32, a rater and raw open_clip.

Both run in processes of their own; as a script this file is the raw one, the baseline.
"""

import io
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from tests.benchmarks.results import FOLDER

MODEL = "ViT-B-32"
WEIGHTS = "vit-b-32-seed-0.safetensors"
EMBEDDER = f"open_clip:{MODEL}/{WEIGHTS}"
TASTE = "bench"
MODULE = "tests.benchmarks.serving.rig"
"""This file, as the child process of `Raw` runs it."""
LABELS = 60


def photograph(seed: int, size: int = 1024, quality: int = 92) -> bytes:
    """Returns a JPEG from a crop of one of scikit-learn's two photographs: enlarged, turned, toned, with grain."""
    rng = np.random.default_rng(seed)
    whole = Image.fromarray(load_sample_image(("china.jpg", "flower.jpg")[seed % 2]))
    side = int(rng.integers(120, 420))
    left, top = rng.integers(0, whole.width - side), rng.integers(0, whole.height - side)
    part = whole.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.rot90(np.asarray(part, np.float32), rng.integers(4))
    pixels = 255 * (pixels / 255) ** rng.uniform(0.6, 1.6) * rng.uniform(0.8, 1.1, 3) + rng.normal(0, 3, pixels.shape)
    out = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=quality)
    return out.getvalue()


def write_photographs(folder: Path, count: int, seed: int) -> list[bytes]:
    """Returns `count` photographs, kept in the folder between runs."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number in range(count):
        path = folder / f"{seed}-{number}.jpg"
        if not path.exists():
            path.write_bytes(photograph(seed * 100_000 + number))
        found.append(path.read_bytes())
    return found


def write_model(models: Path) -> Path:
    """Writes the seeded ViT-B/32 into a home's models folder; the weights decide no timing."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    path = models / WEIGHTS
    if not path.exists():
        models.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        model = open_clip.create_model(MODEL, pretrained=None)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return path


class Server:
    """A rater in its own process, with a fitted taste."""

    def __init__(self, home: Path, threads: int, **environment: str) -> None:
        """Starts it; `environment` holds settings as KONOMI_ variables."""
        settings = {"KONOMI_HOME": str(home), "KONOMI_EMBEDDER_THREADS": str(threads), "KONOMI_SCORE_CACHE": "0"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "konomi_rater", "--home", str(home)],
            env=os.environ | settings | environment,
            stdout=subprocess.PIPE,
            stderr=(home / "rater.log").open("w"),
            text=True,
        )
        assert self._process.stdout is not None
        self.address = json.loads(self._process.stdout.readline())["address"]
        self.home = home

    def client(self) -> Any:
        """Returns a client of it."""
        from konomi import connect

        return connect(self.address, home=self.home)

    @property
    def pid(self) -> int:
        """The process the server is."""
        return self._process.pid

    def cpu_seconds(self) -> float:
        """Returns the CPU time of the server and of its decoding children, dead or alive."""
        return sum(_cpu(pid) for pid in (self._process.pid, *_children(self._process.pid)))

    def rss_bytes(self) -> int:
        """Returns the resident memory of the server itself."""
        text = Path(f"/proc/{self._process.pid}/statm").read_text()
        return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def alive(self) -> bool:
        """Says whether it still runs."""
        return self._process.poll() is None

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(60)


def fit_taste(server: Server, images: Sequence[bytes], embedder: str = EMBEDDER) -> None:
    """Creates the taste with some graded images and fits its rater, unless the home has it."""
    from konomi.errors import AlreadyExists
    from konomi.v1 import rater_pb2 as pb

    with server.client() as client:
        try:
            client.rater.create_taste(taste_id=TASTE, taste=pb.Taste(embedder=embedder))
        except AlreadyExists:
            return
        digests = [client.artifacts.put(image, "image/jpeg").digest for image in images]
        facts = [
            pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, prompt=f"photo {i}") for i, digest in enumerate(digests)
        ]
        requests = [pb.AddImagesRequest(taste=f"tastes/{TASTE}", image=image) for image in facts]
        assert not any(answer.HasField("error") for answer in client.rater.add_images(iter(requests)))
        labels = [pb.Label(image_digest=digest, grade=1 + i % 5) for i, digest in enumerate(digests)]
        client.rater.record_labels(taste=f"tastes/{TASTE}", labels=labels, request_id=str(uuid.uuid4()))
        list(client.rater.fit_rater(taste=f"tastes/{TASTE}", request_id=str(uuid.uuid4())))


def peer_python(name: str) -> Path:
    """Returns the interpreter a peer is installed in: build/peers/NAME, made as the peer's script says."""
    return FOLDER.parent / "peers" / name.removeprefix("peer_").replace("_", "-") / "bin" / "python"


def score(client: Any, images: Sequence[bytes]) -> list[float]:
    """Scores a batch over gRPC."""
    from konomi.v1 import rater_pb2 as pb

    inputs = [pb.ImageInput(content=image) for image in images]
    results = client.rater.score_images(taste=f"tastes/{TASTE}", images=inputs).results
    assert not any(result.HasField("error") for result in results), results[0]
    return [result.score.utility for result in results]


class Raw:
    """The baseline in its own process: open_clip's own transform and model, batch by batch; or a peer in its place.

    It runs where the rater's embedder runs if nobody says otherwise, in the same precision.
    """

    def __init__(self, weights: Path, folder: Path, threads: int, peer: Path | None = None) -> None:
        """Starts it and waits until the model is loaded; a peer is another script, run by `peer_python` of its name."""
        script = [str(peer_python(peer.stem)), str(peer)] if peer else [sys.executable, "-m", MODULE]
        command = [*script, str(weights), str(folder), str(threads)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ready = self._read()
        self.where = f"{ready.get('device', 'cpu')} {ready.get('precision', 'fp32')}"

    def embed(self, names: Sequence[str], batch: int) -> dict[str, float]:
        """Embeds files; returns seconds, cpu, and of them those of the transform."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([list(names), batch]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def stop(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


def _serve_raw(weights: str, folder: str, threads: str) -> None:
    import open_clip
    import torch

    from konomi_rater.embedding.device import Placement, precision, settled

    placement = settled(Placement("auto", int(threads), 0, "auto"))
    kind = precision(placement)
    dtype = replace(placement, precision=kind).dtype
    torch.set_num_threads(int(threads))
    model, _, transform = open_clip.create_model_and_transforms(MODEL, pretrained=weights)
    model.eval().to(placement.device, dtype)
    print(json.dumps({"device": placement.device, "precision": kind}), flush=True)
    for line in sys.stdin:
        names, batch = json.loads(line)
        images = [(Path(folder) / name).read_bytes() for name in names]
        wall, cpu, preparing = time.monotonic(), time.process_time(), 0.0
        for start in range(0, len(images), batch):
            began = time.process_time()
            pixels = torch.stack([transform(Image.open(io.BytesIO(image))) for image in images[start : start + batch]])
            preparing += time.process_time() - began
            with torch.inference_mode():
                vectors = model.encode_image(pixels.to(placement.device, dtype)).float()
                torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()
        done = {"seconds": time.monotonic() - wall, "cpu": time.process_time() - cpu, "preparing": preparing}
        print(json.dumps(done), flush=True)


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(fields[i]) for i in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return found


if __name__ == "__main__":
    _serve_raw(*sys.argv[1:4])
