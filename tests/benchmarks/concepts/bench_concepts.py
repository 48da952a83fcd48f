"""M6: two concepts in one picture, taught together or merged; size after compression; what regularisation images do.

Method: on the bundled models, five pairs of concepts of four held-out renders each; a concept is a combination of
attributes no caption names. Both present = the attribute reader finds all attributes of both, on fresh seeds, for a
joint run, the closed-form merge of two runs, the average and the sum of their changes. KID of the class prompts (no V*)
against held-out renders says what teaching did to the class. Resumable: what the working
folder has is not made again.

    make bench-concepts ARGS="--portraits PATH"     renders PATH.rgb and .json with Node where missing
"""

import argparse
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from konomi_starter.data.captions import caption, full_caption
from konomi_trainer.data import dual_encoder, retrieval
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.merging import concepts, low_rank
from konomi_trainer.methods import concept_file
from konomi_trainer.methods.concept_file import ConceptModel
from tests.benchmarks.concepts.flops import step_flops
from tests.benchmarks.concepts.lab import (
    HAIR,
    PAIRS,
    SEED,
    SPLIT,
    TUNING,
    WORDS,
    Lab,
    Pair,
    has,
    kernel_distance,
    prompt,
)
from tests.benchmarks.results import FOLDER, Figure, report

MASS, REGULAR, NEAR = 0.6, 200, 0.85
KINDS = ("base", "joint", "closed form", "average", "sum", "joint, 60 %", "closed form, 60 %")
PRIORS = ("base", "real", "generated", "none")
SHOWN, PROBE = 6, 60
"""Images of a measurement that are shown; images that ask for a concept alone, and for its class word alone."""
NUMBERS: dict[str, Any] = {}
"""Beside the trainer's defaults for the starter: nothing."""
DOLLARS_AN_HOUR = 2.5


class Bench:
    """The parts of the benchmark; each result is kept in results_IMAGES.json of the working folder."""

    def __init__(self, lab: Lab, images: int) -> None:
        """Takes the laboratory and the number of images per measurement."""
        self.lab, self.images = lab, images
        self._path = lab.work / f"results_{images}.json"
        self.kept: dict[str, Any] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """Returns a kept result, or makes and keeps it."""
        if name not in self.kept:
            self.kept[name] = make()
            self._path.write_text(json.dumps(self.kept, indent=1, sort_keys=True))
            print(name, json.dumps(self.kept[name])[:400], flush=True)
        return self.kept[name]

    def real(self, pair: Pair, word: str) -> list[ManifestItem]:
        """Returns up to 200 real images whose captions are near the class prompt, found by FAISS on this machine."""
        lab = self.lab
        records, pixels = lab.portraits.records, lab.portraits.pixels
        taught = pair.parts.values()
        rows = [i for i in range(1000, 3000) if not any(has(records[i], attributes) for attributes in taught)]
        items = [ManifestItem(lab.put(pixels[i]), captioned(records[i], i), 1.0, "prior") for i in rows]
        own = [item.digest for which in pair.parts for item in lab.items(pair, which)]
        query = retrieval.Query([f"{pair.style} portrait, {word}"], own, REGULAR, NEAR)
        encoder = dual_encoder.load(lab.work / "models", "starter")
        return [hit.item for hit in retrieval.retrieve(items, query, encoder, lambda digest: pixels[0]).hits]

    def models(self, pair: Pair) -> dict[str, ConceptModel]:
        """Returns the pair's models by how they came about."""
        lab = self.lab
        words = {which: WORDS[which] for which in pair.parts}
        prior = {which: self.real(pair, which) for which in words}
        alone = {
            which: lab.train([*lab.items(pair, which), *prior[which]], [word], **NUMBERS)[0]
            for which, word in words.items()
        }
        few = [item for which in words for item in prior[which][: REGULAR // len(words)]]
        taught = [item for which in words for item in lab.items(pair, which)]
        together, _ = lab.train([*taught, *few], list(words.values()), **NUMBERS)
        config = lab.configuration(list(words.values()))
        parts = [concepts.MergePart(alone[which], [prompt(pair.style, [word])]) for which, word in words.items()]
        regular = [full_caption(record) for record in lab.portraits.records[3000:3200]]
        merged, figures = concepts.merge_parts(lab.bases.load(config), parts, regular, 0.0, {})
        self.once(f"{pair.name}/merge", lambda: figures)
        small = concepts.merge_parts(lab.bases.load(config), parts, regular, MASS, {})[0]
        dense = [model.dense() for model in alone.values()]
        added = {name: sum(changes[name] for changes in dense) for name in dense[0]}
        return {
            "joint": together, "closed form": merged,
            "average": replace(merged, deltas={name: change / len(dense) for name, change in added.items()}),
            "sum": replace(merged, deltas=added),
            "joint, 60 %": _compressed(together), "closed form, 60 %": small,
        }  # fmt: skip

    def pair(self, pair: Pair) -> None:
        """Measures how often both concepts of a pair are there, for every way to have them."""
        lab, words = self.lab, [WORDS[which] for which in pair.parts]
        plain = [prompt(pair.style, words, named=False)] * self.images

        def rate(model: ConceptModel | None, prompts: list[str], kind: str) -> dict[str, float]:
            images = lab.draw(model, prompts, SEED % 10_000)
            strip = np.concatenate(list(images[:SHOWN]), axis=1)
            Image.fromarray(strip).save(lab.work / f"strip-{(*PAIRS, *SPLIT).index(pair)}-{kind}.png")
            each = {which: lab.share(images, attributes) for which, attributes in pair.parts.items()}
            return {"both": lab.share(images, pair.wanted), **each}

        self.once(f"{pair.name}/base", partial(rate, None, plain, "base"))
        asked = [prompt(pair.style, words)] * self.images
        if f"{pair.name}/bytes" not in self.kept:
            made = self.models(pair)
            for kind, model in made.items():
                self.once(f"{pair.name}/{kind}", partial(rate, model, asked, kind))
            self.once(f"{pair.name}/bytes", lambda: {k: len(concept_file.to_bytes(m)) for k, m in made.items()})

    def regularisation(self, pair: Pair) -> None:
        """Measures what teaching the hair concept did to the class: KID of class prompts, by regularisation images."""
        lab, seed = self.lab, 5000
        records = [r for r in lab.portraits.records[3000:] if r["style"] == pair.style][: self.images]
        rows = [i for i in range(3000, 4000) if lab.portraits.records[i]["style"] == pair.style]
        reference = lab.embed(np.asarray(lab.portraits.pixels[rows]))
        prompts = [full_caption(record) for record in records]
        real = self.real(pair, "hair")
        drawn = lab.draw(None, [item.caption for item in real], 9000) if real else np.zeros((0, 64, 64, 3), np.uint8)
        generated = [
            ManifestItem(lab.put(image), item.caption, 1.0, "prior_generated")
            for image, item in zip(drawn, real, strict=True)
        ]
        own = lab.items(pair, "hair")
        for kind, prior in (("real", real), ("generated", generated), ("none", [])):

            def measure(prior: Sequence[ManifestItem] = tuple(prior)) -> dict[str, float]:
                model, _ = lab.train([*own, *prior], [HAIR], **NUMBERS)
                named = lab.draw(model, [prompt(pair.style, [HAIR])] * PROBE, seed)
                bare = lab.draw(model, [prompt(pair.style, [HAIR], named=False)] * PROBE, seed)
                vectors = lab.embed(lab.draw(model, prompts, seed))
                return {
                    "kid": kernel_distance(vectors, reference), "concept": lab.share(named, pair.hair),
                    "leak": lab.share(bare, pair.hair),
                }  # fmt: skip

            self.once(f"{pair.name}/regularisation/{kind}", measure)
        self.once(
            f"{pair.name}/regularisation/base",
            lambda: {"kid": kernel_distance(lab.embed(lab.draw(None, prompts, seed)), reference)},
        )

    def cost(self) -> dict[str, float]:
        """Returns what one concept from four images costs, in a fresh run at the default numbers."""
        lab = self.lab
        items = [*lab.items(TUNING, "hair"), *self.real(TUNING, "hair")]

        def measure() -> dict[str, float]:
            figures = lab.train(items, [HAIR], seed=SEED + 1, **NUMBERS)[1]
            return {**figures, **step_flops(8)}

        return self.once("cost", measure)  # type: ignore[no-any-return]


def captioned(record: Mapping[str, str], index: int) -> str:
    """Returns the caption a render has in the owner's folder: some say all, some little."""
    return caption(record, random.Random(index), drop=0.05, open_share=0.3)


def _compressed(model: ConceptModel) -> ConceptModel:
    return replace(model, deltas={name: low_rank.factorise(delta, MASS) for name, delta in model.dense().items()})


def figures(kept: Mapping[str, Any], pairs: Sequence[Pair], images: int) -> list[Figure]:
    """Returns the rows of M6."""

    def mean(kind: str, key: str = "both") -> float:
        return float(np.mean([kept[f"{pair.name}/{kind}"][key] for pair in pairs]))

    n = images * len(pairs)
    goals = {"joint": 0.6, "closed form": 0.5}
    rows = [Figure("M6", f"both concepts present, {k}", mean(k), goals.get(k, 0.0), "share", n) for k in KINDS]
    error = max(kept[f"{pair.name}/merge"]["constraint_error"] for pair in pairs)
    rows.append(Figure("M6", "constraint error of the closed form, largest", error, 1e-6, "relative", len(pairs)))
    for kind in ("joint", "closed form"):
        sizes = [kept[f"{pair.name}/bytes"] for pair in pairs]
        times = float(np.mean([size[kind] / size[f"{kind}, 60 %"] for size in sizes]))
        rows.append(Figure("M6", f"smaller by SVD at 60 %, {kind}", times, 4.0, "times", len(pairs)))
    for kind in PRIORS:
        found = [kept[f"{pair.name}/regularisation/{kind}"]["kid"] for pair in pairs]
        rows.append(Figure("M6", f"KID of class prompts, regularisation: {kind}", float(np.mean(found)), 0, "1e-3", n))
    cost = kept["cost"]
    rows.append(Figure("M6", "one concept from 4 images", cost["seconds"], 0, "s", 1))
    rows.append(Figure("M6", "images seen a second", cost["images_seen"] / cost["seconds"], 0, "1/s", 1))
    return rows


def table(kept: Mapping[str, Any], pairs: Sequence[Pair]) -> str:
    """Returns the results pair by pair in Markdown: both concepts present, then KID, concept and leak by prior."""
    lines = [f"| both present | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for pair in pairs:
        cells = [f"{kept[f'{pair.name}/{kind}']['both']:.0%}" for kind in KINDS]
        lines.append(f"| {pair.name} | {' | '.join(cells)} |")
    lines += ["", f"| KID; concept drawn; leak | {' | '.join(PRIORS)} |", "|---" * (len(PRIORS) + 1) + "|"]
    for pair in pairs:
        rows = [kept[f"{pair.name}/regularisation/{kind}"] for kind in PRIORS]
        cells = [f"{r['kid']:.1f}" + (f"; {r['concept']:.0%}; {r['leak']:.0%}" if "leak" in r else "") for r in rows]
        lines.append(f"| {pair.style}: {' '.join(pair.hair.values())} hair | {' | '.join(cells)} |")
    return "\n".join(lines)


def table_of_split(kept: Mapping[str, Any]) -> str:
    """Returns what the fifth pair's split gives: all concepts present, then each of them alone."""
    lines = [f"| all present (each) | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for pair in SPLIT:
        found = [kept[f"{pair.name}/{kind}"] for kind in KINDS]
        cells = [f"{one['both']:.0%} ({', '.join(f'{one[word]:.0%}' for word in pair.parts)})" for one in found]
        lines.append(f"| {pair.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sheet(work: Path, pairs: Sequence[Pair]) -> None:
    """Writes sheet.png: a row of images for each pair, taught together, merged, averaged and summed."""
    names = [f"strip-{PAIRS.index(pair)}-{kind}.png" for pair in pairs for kind in KINDS[1:5]]
    rows = [np.asarray(Image.open(work / name)) for name in names]
    Image.fromarray(np.concatenate(rows)).quantize(128).save(work / "sheet.png", optimize=True)


def main() -> None:
    """Runs what is not there yet and reports."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=FOLDER / "concepts")
    parser.add_argument("--portraits", type=Path, default=FOLDER / "portraits" / "val")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--split", action="store_true", help="the fifth pair alone, with a word for each place")
    parser.add_argument("--small", action="store_true", help="one pair and eight images, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = PAIRS[:1] if options.small else PAIRS
    images = 8 if options.small else options.images
    bench = Bench(Lab(options.work, options.portraits), images)
    if options.split:
        for pair in SPLIT:
            bench.pair(pair)
        print(table_of_split(bench.kept))
        return
    for pair in pairs:
        bench.pair(pair)
    for pair in pairs:
        bench.regularisation(pair)
    bench.cost()
    print(table(bench.kept, pairs))
    sheet(options.work, pairs)
    rows = figures(bench.kept, pairs, images)
    cost = bench.kept["cost"]
    print(
        f"Stable Diffusion 1.5: {cost['sd15_step_flops'] / 1e12:.1f} TFLOP a step of 8, "
        f"{cost['sd15_step_flops'] * 250 / 1e15:.1f} PFLOP for 250 steps"
    )
    if not options.small:
        report("trainer", rows)


if __name__ == "__main__":
    main()
