"""The laboratory of bench_concepts: rendered portraits, pairs of concepts, training by the trainer, samples read back.

A concept is a combination of attributes that no caption names: its four images are held-out renders which have it and
differ in everything else, under the caption "ink portrait, <h> hair".
"""

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_starter import installation
from konomi_starter.data import renderer
from konomi_starter.training import attribute_reader, embedding, evaluation
from konomi_trainer import configuration
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.configuration import Configuration
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.jobs.trainer import Listener, Trainer
from konomi_trainer.methods import concept_file, token_rows
from konomi_trainer.methods.concept_file import ConceptModel
from konomi_trainer.methods.custom_diffusion import METHOD
from konomi_trainer.settings import TrainerSettings

SEED = 20261122
HAIR, FACE = {"token": "<h>", "class_word": "hair"}, {"token": "<f>", "class_word": "face"}
SHIRT = {"token": "<s>", "class_word": "shirt"}
WORDS = {"hair": HAIR, "face": FACE, "shirt": SHIRT}
IMAGES = 4


@dataclass(frozen=True)
class Pair:
    """Two concepts to put into one picture, or three: style of the portraits, attributes under each class word.

    A concept that is not asked for has no attributes.
    """

    style: str
    hair: Mapping[str, str]
    face: Mapping[str, str] = field(default_factory=dict)
    shirt: Mapping[str, str] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Mapping[str, str]]:
        """The attributes of each concept, by its class word."""
        every = {"hair": self.hair, "face": self.face, "shirt": self.shirt}
        return {word: attributes for word, attributes in every.items() if attributes}

    @property
    def wanted(self) -> dict[str, str]:
        """All attributes of all concepts."""
        return {name: value for attributes in self.parts.values() for name, value in attributes.items()}

    @property
    def name(self) -> str:
        """What the table calls it."""
        return f"{self.style}: {' '.join(self.hair.values())} hair + {self.worn}"

    @property
    def worn(self) -> str:
        """The second concept in words."""
        said = {"sunglasses": "sunglasses", "glasses": "glasses", "beard": "beard", "none": ""}
        others = [attributes for word, attributes in self.parts.items() if word != "hair"]
        return " + ".join(
            " and ".join(said.get(v, f"{v} {k}") for k, v in attributes.items() if v != "none") for attributes in others
        )


def hair(length: str, colour: str) -> dict[str, str]:
    """Returns the attributes of a hair concept."""
    return {"hair_length": length, "hair_colour": colour}


PAIRS = (
    Pair("ink", hair("long", "green"), {"glasses": "sunglasses", "beard": "beard"}),
    Pair("ink", hair("short", "pink"), {"glasses": "sunglasses", "beard": "none"}),
    Pair("comic", hair("long", "silver"), {"glasses": "sunglasses"}),
    Pair("flat", hair("short", "purple"), {"glasses": "glasses", "beard": "beard"}),
    Pair("toon", hair("long", "blue"), {"beard": "beard", "shirt": "red"}),
)
SPLIT = (
    Pair("toon", hair("long", "blue"), {"beard": "beard"}),
    Pair("toon", hair("long", "blue"), shirt={"shirt": "red"}),
    Pair("toon", hair("long", "blue"), {"beard": "beard"}, {"shirt": "red"}),
)
"""The fifth pair with a word of its own for each place: what is worn on the face alone, on the body alone, and both."""
TUNING = Pair("ink", hair("long", "red"), {"glasses": "glasses", "beard": "beard"})
"""The pair the method's numbers were chosen on; never among the reported ones."""


class Lab:
    """Portraits, models and a trainer over one working folder; what is there already is not made again."""

    def __init__(self, work: Path, portraits: Path) -> None:
        """Takes the working folder and the renders, `portraits`.rgb and .json; these are rendered where missing."""
        self.work = work
        installation.install(work)
        self.portraits = renderer.render(4000, portraits, seed=99)
        self.store = ArtifactStore(StoreSettings(home=work))
        settings = TrainerSettings(home=work, threads=1, device="cpu")
        self.bases = BaseCatalogue(work, settings)
        self.trainer = Trainer(self.store, self.bases.load, _pixels, work)
        models = work / "models" / "starter"
        self.folder, self.eyes = models / "diffusion", attribute_reader.load(models / "reader" / "model.safetensors")
        self._embedder = embedding.load(models / "embedder")

    def put(self, pixels: np.ndarray) -> str:
        """Stores an image as PNG and returns its digest."""
        stream = io.BytesIO()
        Image.fromarray(np.asarray(pixels)).save(stream, "PNG")
        return str(self.store.put(stream.getvalue(), "image/png").digest)

    def concept_images(self, pair: Pair, which: str) -> list[int]:
        """Returns four renders that have one concept of a pair, lack the others and differ in the rest."""
        own = pair.parts[which]
        others = [attributes for word, attributes in pair.parts.items() if word != which]
        other = [name for attributes in others for name in attributes]
        records = self.portraits.records[:1000]
        fit = [
            i
            for i, r in enumerate(records)
            if r["style"] == pair.style and has(r, own) and not any(has(r, attributes) for attributes in others)
        ]
        found: list[int] = []
        for varied, grounded in ((True, True), (False, True), (False, False)):  # first those that differ in all else
            for index in fit:
                rest = [tuple(records[i][name] for name in other) for i in found]
                grounds = [records[i]["background"] for i in found]
                fresh = not varied or tuple(records[index][name] for name in other) not in rest
                fresh = fresh and index not in found and not (grounded and records[index]["background"] in grounds)
                if len(found) < IMAGES and fresh:
                    found.append(index)
        if len(found) == IMAGES:
            return found
        raise SystemExit(f"expected {IMAGES} renders of {pair.name}, {which}; found {len(found)}: render more")

    def items(self, pair: Pair, which: str) -> list[ManifestItem]:
        """Returns the manifest items of a concept."""
        caption = prompt(pair.style, [WORDS[which]])
        pixels = self.portraits.pixels
        return [ManifestItem(self.put(pixels[i]), caption, 1.0, "selected") for i in self.concept_images(pair, which)]

    def train(
        self, items: Sequence[ManifestItem], concepts: Sequence[Mapping[str, str]], seed: int = SEED, **numbers: Any
    ) -> tuple[ConceptModel, dict[str, float]]:
        """Returns the model of a run and its figures; the same run is done once.

        Figures: "seconds" from the frozen manifest to the adapter's bytes, "steps", "images_seen" in training.
        """
        unique = {item.digest: item for item in items}
        manifest = self.store.put(render(tuple(unique.values())), "application/json").digest
        config = self.configuration(concepts, seed, **numbers)
        done = self.work / "runs" / f"{manifest[:16]}-{config.digest()[:16]}"
        if not done.with_suffix(".json").exists():
            began = time.monotonic()
            silent = Listener(lambda phase: None, lambda progress: None, lambda: False)
            fitted = self.trainer.fit(done.name, manifest, config, silent)
            figures = {**fitted.metrics, "seconds": time.monotonic() - began}
            figures["images_seen"] = config.steps * config.batch_size
            done.parent.mkdir(parents=True, exist_ok=True)
            done.with_suffix(".safetensors").write_bytes(fitted.files.adapter)
            done.with_suffix(".json").write_text(json.dumps(figures, sort_keys=True))
        figures = json.loads(done.with_suffix(".json").read_text())
        return concept_file.from_bytes(done.with_suffix(".safetensors").read_bytes()), figures

    def configuration(self, concepts: Sequence[Mapping[str, str]], seed: int = SEED, **numbers: Any) -> Configuration:
        """Returns the trainer's configuration of a run on the starter."""
        given = {**numbers, "concepts": tuple({"initial_word": "", **c} for c in concepts)}
        return configuration.complete(
            METHOD.name, "starter", self.bases.digest("starter"), seed, given, METHOD.defaults
        )

    def pipeline(self, model: ConceptModel | None) -> Any:
        """Returns the base pipeline with a model on it, at scale 1."""
        pipe = evaluation.load_pipeline(self.folder)
        if model is not None:
            bound = token_rows.bind([(pipe.tokenizer, pipe.text_encoder)], model.concepts)
            with torch.no_grad():
                for token, rows in model.rows.items():
                    bound[token][0].copy_(rows[0])
                for name, delta in model.dense().items():
                    pipe.unet.get_submodule(name).weight.add_(delta)
        return pipe

    def draw(self, model: ConceptModel | None, prompts: list[str], seed: int) -> np.ndarray:
        """Returns (N, 64, 64, 3) uint8."""
        return evaluation.sample(self.pipeline(model), prompts, seed)

    def share(self, images: np.ndarray, wanted: Mapping[str, str]) -> float:
        """Returns the share of images in which the reader finds all of the attributes."""
        return float(np.mean([has(record, wanted) for record in self.eyes.read(images)]))

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Returns (N, D) float32 unit vectors of the bundled open_clip model, which is frozen."""
        return embedding.embed(self._embedder, images)


def prompt(style: str, concepts: Sequence[Mapping[str, str]], named: bool = True) -> str:
    """Returns a prompt with the concepts' words, with or without their tokens."""
    said = [f"{c['token']} {c['class_word']}" if named else c["class_word"] for c in concepts]
    return ", ".join([f"{style} portrait", *said])


def has(record: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Says whether a record has all of the attributes."""
    return all(record[name] == value for name, value in wanted.items())


def kernel_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Returns KID (Binkowski et al. 2018): unbiased squared MMD with the kernel (x·y + 1)³, times 1000.

    Args:
        x: (N, D) unit vectors.
        y: (M, D) unit vectors.
    """
    xx, yy, xy = ((a.astype(np.float64) @ b.T + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(1000 * (within - 2 * xy.mean()))


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
