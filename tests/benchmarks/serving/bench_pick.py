"""`konomi pick` on bursts: one of each scene, how often it is the one the person likes best, and files a second.

Method: 40 scenes, portraits the starter drew, five near-copies each, as a camera's burst has them: the frame moves by
up to 3 %, exposure, warmth and sharpness vary. A hidden taste likes warm, bright, sharp and colourful pictures, each
with a random weight of the seed; a rater is fitted on 100 graded single pictures of others (with a fifth of noise).
`konomi pick --one-per-cluster` runs as a person types it, on the embedder that needs no network. A file is new until a
pick has scored it. Baseline of "best": a frame of each burst at random.
"""

import io
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from konomi.home import Home
from konomi.v1 import rater_pb2 as pb
from konomi_starter.data.captions import open_prompts
from konomi_starter.training import evaluation
from tests.benchmarks.rater.pool import MODELS, draw
from tests.benchmarks.results import FOLDER, merge
from tests.benchmarks.serving.rig import TASTE, Server

SCENES, FRAMES, GRADED, SIDE = 40, 5, 100, 256
SEEDS = (3, 4, 5)
"""0 to 2 were looked at when the cosines were chosen."""
EMBEDDER = "timm:tf_efficientnet_lite0"
NOISE = 0.2
FILES = int(os.environ.get("BENCH_PICK_FILES", "2000"))


def portraits(count: int, seed: int) -> list[Image.Image]:
    """Returns a picture of another person each."""
    rng = np.random.default_rng((19, seed))
    words = open_prompts(400, seed)
    prompts = [words[int(i)] for i in rng.integers(0, len(words), count)]
    pipe, seeds = evaluation.load_pipeline(MODELS / "diffusion"), rng.integers(0, 2**31, count)
    parts = [draw(pipe, prompts[at : at + 35], seeds[at : at + 35], 4.0) for at in range(0, count, 35)]
    return [Image.fromarray(pixels) for pixels in np.concatenate(parts)]


def frame(scene: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Returns one picture of a scene."""
    margin = 0.03 * scene.width
    left, top = rng.uniform(0, 2 * margin, 2)
    inner = scene.width - 2 * margin
    box = (left, top, left + inner, top + inner)
    part = scene.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box)
    part = part.filter(ImageFilter.GaussianBlur(abs(rng.normal(0, 2.0))))
    warmth = rng.normal(0, 0.06)
    gain = rng.uniform(0.75, 1.25) * np.array([1 + warmth, 1, 1 - warmth])
    return Image.fromarray((np.asarray(part, np.float32) * gain).clip(0, 255).astype(np.uint8))


def looks(image: Image.Image) -> np.ndarray:
    """Returns what the hidden taste goes by: warmth, brightness, sharpness, colourfulness."""
    pixels = np.asarray(image, np.float32) / 255
    red, green, blue = pixels.mean((0, 1))
    grey = pixels.mean(2)
    sharp = np.log(np.abs(np.diff(grey, axis=1)).mean() + 1e-3)
    return np.array([red - blue, (red + green + blue) / 3, sharp, pixels.std(2).mean()])


def write(folder: Path, name: str, image: Image.Image) -> bytes:
    """Writes a picture as a JPEG and returns its bytes."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(out.getvalue())
    return out.getvalue()


def grade(server: Server, taste: str, images: list[bytes], grades: np.ndarray) -> None:
    """Makes a taste whose rater is fitted on these grades."""
    with server.client() as client:
        name = f"tastes/{taste}"
        client.rater.create_taste(taste_id=taste, taste=pb.Taste(embedder=EMBEDDER))
        digests = [client.artifacts.put(image, "image/jpeg").digest for image in images]
        facts = [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED) for digest in digests]
        requests = [pb.AddImagesRequest(taste=name, image=image) for image in facts]
        assert not any(answer.HasField("error") for answer in client.rater.add_images(iter(requests)))
        labels = [pb.Label(image_digest=digest, grade=int(g)) for digest, g in zip(digests, grades, strict=True)]
        client.rater.record_labels(taste=name, labels=labels, request_id=str(uuid.uuid4()))
        list(client.rater.fit_rater(taste=name, request_id=str(uuid.uuid4())))


def picked(home: Path, folder: Path, taste: str, count: int) -> tuple[dict, float]:
    """Returns what `konomi pick` says of a folder, and the seconds it took from the shell."""
    words = [sys.executable, "-m", "konomi", "pick", str(folder), "--count", str(count), "--one-per-cluster"]
    began = time.monotonic()
    done = subprocess.run(
        [*words, "--taste", taste, "--json"],
        env=os.environ | {"KONOMI_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    seconds = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), seconds


def bursts(server: Server, seed: int) -> dict[str, float]:
    """Returns the share of scenes picked once, and of those where the pick is the person's best, with chance."""
    rng = np.random.default_rng((20, seed))
    weights = rng.normal(0, 1, 4)
    people = portraits(GRADED + SCENES, seed)
    known = [frame(one, rng) for one in people[:GRADED]]
    frames = [[frame(scene, rng) for _ in range(FRAMES)] for scene in people[GRADED:]]
    table = np.array([looks(image) for image in known])
    mean, spread = table.mean(0), table.std(0)
    utility = (table - mean) / spread @ weights
    noisy = utility + NOISE * utility.std() * rng.standard_normal(GRADED)
    grades = 1 + np.searchsorted(np.quantile(noisy, (0.3, 0.6, 0.82, 0.94)), noisy)
    taste, base = f"{TASTE}-{seed}", server.home / "pictures" / str(seed)
    grade(server, taste, [write(base / "graded", f"{i}.jpg", image) for i, image in enumerate(known)], grades)
    for number, burst in enumerate(frames):
        for at, image in enumerate(burst):
            write(base / "shoot", f"{number:02}-{at}.jpg", image)
    true = (np.array([[looks(image) for image in burst] for burst in frames]) - mean) / spread @ weights
    said, _ = picked(server.home, base / "shoot", taste, SCENES)
    taken = [tuple(map(int, Path(one["path"]).stem.split("-"))) for one in said["picked"]]
    firsts = dict(reversed(taken))
    best = [true[scene, at] >= true[scene].max() - 1e-9 for scene, at in firsts.items()]
    everything, _ = picked(server.home, base / "shoot", taste, SCENES * FRAMES)
    return {
        "scenes": len(firsts) / SCENES,
        "clusters": len(everything["picked"]),
        "best": float(np.mean(best)),
        "lost": float(np.mean([true[s].max() - true[s, at] for s, at in firsts.items()]) / true.std()),
        "random": float(np.mean(true.max(1) - true.mean(1)) / true.std()),
    }


def speed(server: Server, count: int) -> dict[str, float]:
    """Returns files a second of a pick that scores each, and of the same pick again."""
    rng = np.random.default_rng(21)
    folder = server.home / "pictures" / "many"
    people = portraits(70, 99)
    for number in range(count):
        write(folder, f"{number:05}.jpg", frame(people[number % len(people)], rng))
    rates = [count / picked(server.home, folder, f"{TASTE}-{SEEDS[0]}", 10)[1] for _ in range(2)]
    return {"new": rates[0], "known": rates[1]}


def main() -> None:
    """Runs it all in a home of its own."""
    root = FOLDER / "pick" / str(int(time.time()))
    root.mkdir(parents=True)
    server = Server(root, 2)
    home = Home(root)
    with home.held():
        home.announce({"rater": server.address})
        try:
            rows = [bursts(server, seed) for seed in SEEDS]
            rates = speed(server, FILES)
        finally:
            server.stop()
    for seed, row in zip(SEEDS, rows, strict=True):
        print(seed, row)
    figures = [
        ("scenes of 40 picked once, with --count 40", "scenes", None, "share"),
        ("clusters found, of 40 scenes", "clusters", SCENES, "clusters"),
        ("the pick of a burst is the person's best", "best", 1 / FRAMES, "share"),
        ("utility lost to the best frame, in standard deviations; baseline: at random", "lost", None, "sd"),
    ]
    mean = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    merged = [
        {"id": "pick", "what": what, "value": mean[key], "baseline": base, "unit": unit, "n": SCENES * len(SEEDS)}
        for what, key, base, unit in figures
    ]
    merged[-1]["baseline"] = mean["random"]
    merged += [
        {
            "id": "pick",
            "what": f"files a second, {key}",
            "value": rates[key],
            "baseline": goal,
            "unit": "1/s",
            "n": FILES,
        }
        for key, goal in (("new", 25.0), ("known", 2000.0))
    ]
    merge("pick", merged)


if __name__ == "__main__":
    main()
