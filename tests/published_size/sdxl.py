"""SDXL in its published size with random weights in bfloat16: written once as a folder, then one image, one step.

Run as `python -m tests.published_size.sdxl build|draw|train HOME`; prints one line of JSON: seconds, and the most
memory the process held in each phase, bytes.
"""

import hashlib
import json
import shutil
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.clip_vocabulary import END, clip_vocabulary
from konomi_generator.backends.diffusers.backend import DiffusersBackend
from konomi_generator.sampling import GeneratedImage, ImageRequest, Sampling
from konomi_generator.settings import GeneratorSettings
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.configuration import complete
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.jobs.publishing import Reports
from konomi_trainer.jobs.trainer import Listener, Trainer
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.settings import TrainerSettings
from tests.benchmarks.trainer import published_layouts as published

ID, SIDE, STEPS = "published-xl", 256, 2
LOOK_SECONDS = 0.02


class OwnMemory:
    """The most memory of this process in each phase, over what it had before; looks every 20 ms.

    Mapped files count: weights that have their type in the file are read where they lie.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.phase, self._before, self._over = "loading", _resident(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "OwnMemory":
        self._thread.start()
        return self

    def __exit__(self, *_ended: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            phase = self.phase
            self.peaks[phase] = max(self.peaks.get(phase, 0), _resident() - self._before)


def _resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def build(home: Path) -> dict[str, object]:
    """Writes the model as a diffusers folder, part by part."""
    folder, configs = home / "models" / ID, published.CONFIGS / "sdxl"
    shutil.copytree(configs, folder)
    vocabulary, merges = clip_vocabulary()
    for name, pad in (("tokenizer", END), ("tokenizer_2", "!")):
        words = CLIPTokenizer(vocab=dict(vocabulary), merges=list(merges), model_max_length=77, pad_token=pad)
        words.save_pretrained(folder / name)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    makers = {
        "unet": lambda: published.unet("sdxl"),
        "vae": lambda: published.vae("sdxl"),
        "text_encoder": lambda: published.text_encoder("sdxl", 1),
        "text_encoder_2": lambda: published.text_encoder("sdxl", 2),
    }
    for name, make in makers.items():
        make().save_pretrained(folder / name, safe_serialization=True)
    return {"bytes": sum(path.stat().st_size for path in folder.rglob("*.safetensors"))}


def draw(home: Path) -> dict[str, object]:
    """Draws one picture through the generator's back end."""
    images: list[GeneratedImage] = []
    sampling = Sampling(STEPS, 5.0, SIDE, SIDE)
    with OwnMemory() as memory:
        backend = DiffusersBackend(GeneratorSettings(home=home, device="cpu", precision="bf16"))
        model = BaseModels(home).get(ID)
        backend.prepare(model, [], sampling)
        memory.phase, began = "drawing", time.monotonic()
        backend.run(
            model, [ImageRequest(0, "a cat", 1)], sampling, lambda: False, lambda _, image: images.append(image)
        )
        seconds = time.monotonic() - began
    assert images[0].pixels.shape == (SIDE, SIDE, 3)
    return {"seconds": seconds, "peaks": memory.peaks}


def train(home: Path) -> dict[str, object]:
    """Trains one step of a LoRA with activations made twice."""
    image = hashlib.sha256(b"image").hexdigest()
    manifest = render((ManifestItem(image, "a cat", 1.0, "selected"),))
    store = {image: b"image", hashlib.sha256(manifest).hexdigest(): manifest}
    settings = TrainerSettings(home=home, device="cpu", gradient_checkpointing=True, compile_blocks=False)
    bases = BaseCatalogue(home, settings)
    numbers = {"steps": 1, "batch_size": 1, "checkpoint_steps": 1, "resolution": SIDE, "precision": "bf16"}
    with OwnMemory() as memory:
        configuration = complete("lora", ID, bases.digest(ID), 1, numbers, METHODS["lora"].defaults)

        def phase(name: str) -> None:
            memory.phase = name

        class Store:
            """Bytes by digest."""

            def get(self, digest: str) -> bytes:
                """Returns them."""
                return store[digest]

        pixels = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
        trainer = Trainer(Store(), bases.load, lambda _: pixels, home)
        began = time.monotonic()
        listener = Listener(phase, lambda _: None, lambda: False)
        fitted = trainer.fit("run", hashlib.sha256(manifest).hexdigest(), configuration, listener, Reports())
        seconds = time.monotonic() - began
    assert len(fitted.files.adapter) > 1_000_000
    return {"seconds": seconds, "peaks": memory.peaks}


if __name__ == "__main__":
    print(json.dumps({"build": build, "draw": draw, "train": train}[sys.argv[1]](Path(sys.argv[2]))))
