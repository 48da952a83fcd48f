"""Nights on pictures made elsewhere, whose base model draws nothing like them: how many halt by their own numbers.

Method: 150 pictures (crops of two photographs, shapes, lines, gradients) are embedded by the bundled embedder, 50 of
them graded at random, a rater is fitted on these alone; then a default night of three units on the fast bed, whose base
model draws starter portraits. "Before" is the selection as it was: nothing fills a set up, the base images are rounded.
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_sample_images

from konomi.night import metrics
from konomi.night.draws import UnitContext, base_draws, image_seed
from konomi.night.engine import preparation
from konomi.night.engine.loop import NightLoop
from konomi.night.guards import LIKE, GuardSettings
from konomi.night.records.state import Images, Selection
from konomi.night.systems import converge
from konomi.night.systems.registry import night_settings
from konomi_rater.measures.graded import graded_measures
from konomi_rater.measures.novelty import reference_of
from konomi_rater.preference.fitting import Fitted, fit
from konomi_rater.preference.training import Training
from konomi_rater.selection.selection import (
    POLICIES,
    Candidates,
    SelectionLimits,
    caps,
    draw_base,
    fill_up,
    select,
)
from konomi_rater.storage.files.head_file import from_bytes, to_bytes
from tests.benchmarks.night.policies import DEFAULT
from tests.benchmarks.night.simulated import bed
from tests.benchmarks.night.simulated.bed_steps import BedSteps, Made
from tests.benchmarks.night.simulated.world import Rater, World
from tests.benchmarks.rater.pool import MODELS

PICTURES, GRADED, SIDE = 150, 50, 64
KINDS = ("temple", "flower", "both", "grey", "shapes", "lines", "gradient")
OWN_NUMBERS = ("base_share", "nothing_selected", "pressure")
"""Alarms of a night that stumbles over its own numbers."""


@cache
def photographs() -> list[np.ndarray]:
    """Returns the two photographs scikit-learn brings along."""
    return list(load_sample_images().images)


def picture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Returns one picture, (64, 64, 3) uint8."""
    if kind in ("temple", "flower", "both", "grey"):
        photo = photographs()[{"temple": 0, "flower": 1}.get(kind, int(rng.integers(2)))]
        side = int(rng.integers(90, 400))
        top, left = (int(rng.integers(0, length - side)) for length in photo.shape[:2])
        image = Image.fromarray(photo[top : top + side, left : left + side]).resize((SIDE, SIDE))
        pixels = np.clip(np.asarray(image, float) * rng.uniform(0.6, 1.3, 3), 0, 255)
        return (pixels.mean(axis=2, keepdims=True).repeat(3, axis=2) if kind == "grey" else pixels).astype(np.uint8)
    if kind == "gradient":
        first, last = rng.integers(0, 255, (2, 3))
        ramp = np.linspace(0, 1, SIDE)[:, None, None]
        return np.broadcast_to(first * (1 - ramp) + last * ramp, (SIDE, SIDE, 3)).astype(np.uint8)
    image = Image.new("RGB", (SIDE, SIDE), tuple(int(v) for v in rng.integers(0, 255, 3)))
    pen = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(3, 30))):
        x, y = np.sort(rng.integers(0, SIDE, (2, 2)), axis=1).tolist()
        colour = tuple(int(v) for v in rng.integers(0, 255, 3))
        if kind == "lines":
            pen.line((x[0], y[0], x[1], y[1]), fill=colour, width=2)
        else:
            pen.ellipse((x[0], y[0], x[1] + 1, y[1] + 1), fill=colour)
    return np.asarray(image)


@cache
def own_rater(seed: int) -> Rater:
    """Returns a rater fitted on own pictures alone; `seen` are all of them, (150, D)."""
    from konomi_starter.training import embedding

    rng = np.random.default_rng((31, seed))
    pixels = np.stack([picture(KINDS[seed % len(KINDS)], rng) for _ in range(PICTURES)])
    seen = embedding.embed(embedding.load(MODELS / "embedder"), pixels)
    grades = np.zeros(PICTURES, int)
    grades[:GRADED] = rng.integers(1, 6, GRADED)
    rows = np.arange(GRADED)
    training = Training(seen[rows], grades[rows], [str(row) for row in rows], np.ones(GRADED, bool), seen)
    *_, made = fit(training, seed)
    assert isinstance(made, Fitted)
    return Rater(from_bytes(to_bytes(made.head, made.embeddings, made.grades, "starter")), seen, grades)


class OwnSteps(BedSteps):
    """A night whose known images are own pictures; `before` chooses as earlier versions did."""

    def __init__(self, world: World, rater: Rater, request: Any, *, before: bool) -> None:
        super().__init__(world, rater, request, replace(DEFAULT))
        width = rater.seen.shape[1]
        none = np.zeros(0, int)
        self.made = Made(np.zeros((0, width), np.float32), none, none, none.astype(bool))
        self.before = before

    def lacking(self, chosen: Selection) -> int:
        """Returns what the set lacks of base images; earlier versions did not count it."""
        return 0 if self.before else super().lacking(chosen)

    def generate_base(self, context: UnitContext, first: int, last: int) -> Images:
        """Draws more of the base model's own, as the product does for its share."""
        seeds = [draw.seed for draw in base_draws(self.request.seed, context.unit, self.request.prompts, first, last)]
        self._remember(self.world.draw(None, seeds), context.unit, True)
        return Images(digests=tuple(map(str, seeds)), images=len(seeds))

    def _guarded(
        self, context: UnitContext, pool: np.ndarray, utility: np.ndarray, std: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        own, rows = self.rater.seen, self.made.rows
        self.reference = reference_of(np.arange(len(rows) + len(own)), np.concatenate([rows, own]))
        asked = converge.selection(self.turn(context, pool=len(rows) + len(own) * self.before))
        none = np.zeros(len(rows), bool)
        choice = select(
            POLICIES["converge"],
            Candidates(
                embeddings=rows,
                lower_bounds=utility - std,
                grades=np.zeros(len(rows), int),
                sources=np.ones(len(rows), int),
                typical=self.reference.index.distance(rows, np.arange(len(rows))) <= self.reference.cut(95),
                unknown=self.rater.stored.unknown(rows),
                cells=self.cells.of(rows),
                prompts=np.zeros(len(rows), int),
                copies=none,
                certified=none,
            ),
            SelectionLimits(asked["count"], 0.97, caps(self.cells.shares, asked["count"], 2.0), np.array([10_000])),
        )
        picked, share = np.array(choice.selected, int), asked["base_share"]
        self.filling = np.zeros((0, rows.shape[1]), np.float32)
        if not self.before:
            liked = np.flatnonzero(self.rater.grades >= 4)
            bounds = np.zeros(len(liked))
            room = asked["fill_to"] - len(picked)
            self.filling = own[liked[fill_up(own[liked], self.rater.grades[liked], bounds, max(0, room), 0.97)]]
        eligible = np.setdiff1d(np.flatnonzero(self.made.base), picked)
        rng = np.random.default_rng(image_seed(self.request.seed, f"select-{context.unit}", 0))
        whole = len(picked) + len(self.filling)
        if self.before:
            return picked, rng.permutation(eligible)[: round(share / (1 - share) * whole)]
        return picked, draw_base(eligible, whole, share, rng)

    def select(self, context: UnitContext, earlier: Any) -> dict[str, Any]:
        """Chooses, and counts what filled the set up."""
        chosen = super().select(context, earlier)
        picked, base = self.chosen[context.unit]
        whole = len(picked) + len(self.filling)
        spent = chosen["nats"] * len(picked) / max(1, whole)
        return chosen | {"n": whole, "base_share": len(base) / max(1, whole + len(base)), "nats": spent}

    def train(self, context: UnitContext, parent: Any, chosen: Any) -> dict[str, Any]:
        """Fits on the own pictures too that filled the set up."""
        fitted = super().train(context, parent, chosen)
        self.models[fitted["model"]] = np.concatenate([self.models[fitted["model"]], self.filling])
        return fitted


def night(world: World, known: Rater, seed: int, *, before: bool) -> tuple[str, str]:
    """Sleeps one default night and returns how and why it ended."""
    request = preparation.new_request(
        "converge", "tastes/bed", seed, night_settings()(), GuardSettings(), ["portrait"], f"own-{seed}-{before}"
    )
    steps = OwnSteps(world, known, request, before=before)
    state = NightLoop(request, steps, bed._at_once, lambda state: None).run()
    return str(state.state), state.reason.name if state.reason else ""


def rows(world: World, seeds: int = 20) -> list[dict[str, Any]]:
    """Returns how many nights halted by their own numbers, before and now."""
    figures = []
    for before in (True, False):
        ends = Counter(night(world, own_rater(seed), seed, before=before) for seed in range(seeds))
        halts = sum(count for (state, why), count in ends.items() if state == "halted" and why in OWN_NUMBERS)
        words = "before" if before else "now"
        print(words, dict(ends), flush=True)
        figures.append({"id": "own pictures", "what": f"nights halted by own numbers, {words}", "value": halts})
    return figures


TRIALS, SHOWN, GRADED_AT_RANDOM = 5, 16, 64


def far(rows: np.ndarray, graded: np.ndarray, likes: np.ndarray) -> bool | None:
    """Says whether a trial of these rows would warn; None where it claims nothing."""
    measured = graded_measures(rows.astype(float), graded.astype(float), likes)
    if measured is None:
        return None
    shares = (measured.typical, measured.near_liked)
    return min(metrics.share(share * len(rows), len(rows))["high"] for share in shares) < LIKE


def warnings(world: World, seeds: int = 20) -> list[dict[str, Any]]:
    """Returns how often a trial of 16 starter images warns, for persons who graded such images and for own pictures."""
    false, missed = Counter[bool | None](), Counter[bool | None]()
    table = world.table(world.base)
    for person in world.everybody(seeds):
        grades = person.grades(person.utility(table))
        for trial in range(TRIALS):
            order = np.random.default_rng((32, person.number, trial)).permutation(len(table))
            graded, shown = order[:GRADED_AT_RANDOM], order[GRADED_AT_RANDOM : GRADED_AT_RANDOM + SHOWN]
            false[far(world.base[shown], world.base[graded], grades[graded] >= 4)] += 1
    for seed in range(seeds):
        known = own_rater(seed)
        shown = np.random.default_rng((33, seed)).permutation(len(world.base))[:SHOWN]
        missed[far(world.base[shown], known.seen[:GRADED], known.grades[:GRADED] >= 4)] += 1
    print("persons", dict(false), "own pictures", dict(missed), flush=True)
    return [
        {"id": "trial", "what": f"false warnings of {false.total()} trials of persons", "value": false[True]},
        {"id": "trial", "what": f"missed of {missed.total()} tastes of own pictures", "value": missed[False]},
    ]
