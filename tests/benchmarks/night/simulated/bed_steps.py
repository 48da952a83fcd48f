"""The steps of a night on the fast bed: recipe, plan of the system, selection and guards are konomi's own."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from konomi.night import metrics
from konomi.night.draws import UnitContext, evaluation_draws, image_seed
from konomi.night.engine.steps import GROUPS, NightSteps
from konomi.night.records.fit import Model
from konomi.night.records.request import NightRequest
from konomi.night.records.state import Judgement, Selection, UnitRecord
from konomi.night.systems import converge
from konomi_rater.measures.cells import divide
from konomi_rater.measures.coverage import covered, near_copies
from konomi_rater.measures.diversity import vendi
from konomi_rater.measures.novelty import Reference, reference_of
from konomi_rater.selection.selection import POLICIES, Candidates, SelectionLimits, caps, draw_base, select
from tests.benchmarks.night.policies import Policy
from tests.benchmarks.night.simulated.world import Rater, World

CELLS = 12
TOP = 0.05
"""Share a naive loop keeps."""


@dataclass
class Made:
    """Everything made so far, as rows: embeddings, who made them, and whether the base model did."""

    rows: np.ndarray
    grades: np.ndarray
    unit: np.ndarray
    base: np.ndarray


class BedSteps(NightSteps):
    """What a night does, without services; what is not overridden is the product's."""

    def __init__(self, world: World, rater: Rater, request: NightRequest, policy: Policy) -> None:
        super().__init__(None, request, lambda name, done, total, made="": None)  # type: ignore[arg-type]
        self.world, self.rater, self.policy = world, rater, policy
        count = len(rater.seen)
        self.made = Made(rater.seen, rater.grades, np.zeros(count, int), np.ones(count, bool))
        self.models: dict[str, np.ndarray] = {}
        self.shown: dict[str, np.ndarray] = {}
        self.trained: dict[str, np.ndarray] = {}
        self.chosen: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.reference: Reference = reference_of(np.arange(count), rater.seen)
        self.cells = divide(rater.seen, CELLS, image_seed(request.seed, "cells", 0))

    def keep_rater(self, version: str) -> None:
        """Scores with the one rater there is."""

    def plan(self) -> dict[str, Any]:
        """Begins with the base model."""
        return {"start": None, "first": 1, "rater_version": "bed", "rater": {"nats": 0.0}, "withdrawn": []}

    def generate(self, context: UnitContext, served: Model | None, first: int, last: int) -> dict[str, Any]:
        """Draws a part of a unit's pool."""
        turn = self.turn(context, served_is_base=served is None)
        chunk = converge.draws(turn)[first:last]
        for origin in ("served", "base"):
            seeds = [draw.seed for draw in chunk if draw.origin == origin]
            if seeds:
                base = origin == "base" or served is None
                rows = self.world.draw(None if base else self.models[served.model], seeds)
                self._remember(rows, context.unit, base)
        return {"digests": [str(draw.seed) for draw in chunk], "refused": 0, "images": len(chunk)}

    def _remember(self, rows: np.ndarray, unit: int, base: bool) -> None:
        made, count = self.made, len(rows)
        self.made = Made(
            np.concatenate([made.rows, rows]),
            np.concatenate([made.grades, np.zeros(count, int)]),
            np.concatenate([made.unit, np.full(count, unit)]),
            np.concatenate([made.base, np.full(count, base)]),
        )

    def select(self, context: UnitContext, earlier: Sequence[Selection]) -> dict[str, Any]:
        """Chooses a training set with the rater's own selection, or as a naive loop does."""
        unit, made = context.unit, self.made
        pool = np.flatnonzero(made.unit == unit) if self.policy.data == "replace" else np.arange(len(made.rows))
        utility, std = self.rater.predict(made.rows[pool])
        if self.policy.naive:
            count = max(8, math.ceil(TOP * len(pool)))
            picked, base = pool[np.argsort(-utility, kind="stable")[:count]], np.zeros(0, int)
        else:
            picked, base = self._guarded(context, pool, utility, std)
        self.chosen[unit] = (picked, base)
        kept = len(picked) / max(1, len(pool))
        filled = np.bincount(self.cells.of(made.rows[picked]), minlength=CELLS) if len(picked) else np.zeros(CELLS)
        return {
            "manifest": str(unit),
            "n": len(picked),
            "base_share": len(base) / max(1, len(picked) + len(base)),
            "considered": len(pool),
            "kept_share": kept,
            "nats": -math.log(kept) if len(picked) else 0.0,
            "best_of_n_nats": 0.0,
            "vendi": vendi(made.rows[picked]),
            "largest_cell_share": float(filled.max() / max(1, len(picked))),
            "rater_version": "bed",
            "selected": [],
            "rejected": {},
            "end": None,
            "rater": {},
        }

    def _guarded(
        self, context: UnitContext, pool: np.ndarray, utility: np.ndarray, std: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        wanted = converge.selection(self.turn(context, pool=len(pool)))
        rows, share = self.made.rows[pool], wanted["typicality_percentile"]
        own = np.where(pool < len(self.rater.seen), pool, -1)
        typical = self.reference.index.distance(rows, own) <= self.reference.cut(share)
        copies = np.zeros(len(pool), bool)
        trained = [row for model in self.trained.values() for row in model]
        if self.settings.near_copy_cosine < 1 and trained:
            sources = np.unique(trained)
            copies = near_copies(rows, pool, self.made.rows[sources], sources, self.settings.near_copy_cosine)
        choice = select(
            POLICIES["converge"],
            Candidates(
                embeddings=rows,
                lower_bounds=utility - wanted["kappa"] * std,
                grades=self.made.grades[pool],
                sources=np.ones(len(pool), int),
                typical=typical,
                unknown=self.rater.stored.unknown(rows) & (share < 100),
                cells=self.cells.of(rows),
                prompts=np.zeros(len(pool), int),
                copies=copies,
                certified=np.zeros(len(pool), bool),
            ),
            SelectionLimits(
                wanted["count"],
                wanted["duplicate_cosine"],
                cell_caps=caps(self.cells.shares, wanted["count"], wanted["quota"]),
                prompt_caps=np.array([wanted["count"]]),
            ),
        )
        picked = pool[choice.selected]
        eligible = np.setdiff1d(np.flatnonzero(self.made.base), picked)
        seed = image_seed(self.request.seed, f"select-{context.unit}", 0)
        return picked, draw_base(eligible, len(picked), wanted["base_share"], np.random.default_rng(seed))

    def train(self, context: UnitContext, parent: Model | None, chosen: Selection) -> dict[str, Any]:
        """Fits a kernel density estimate; without a fresh fit half of it is still what the parent learned."""
        picked, base = self.chosen[context.unit]
        rows = np.concatenate([self.made.rows[picked], self.made.rows[base]])
        name = f"unit-{context.unit}"
        if not self.policy.fresh_fit and parent is not None:
            more = np.random.default_rng(context.unit).permutation(self.models[parent.model])[: len(rows)]
            rows = np.concatenate([rows, more])
        self.models[name], self.trained[name] = rows, np.concatenate([picked, base])
        return {"model": name, "adapter": name, "unit": context.unit, "current": False, "loss": 0.0, "failed": ""}

    def evaluate(self, model: Model | None, first: int, last: int) -> dict[str, Any]:
        """Draws evaluation images: the same seeds for every unit."""
        fixed = evaluation_draws(self.request.seed, self.request.evaluation_prompts, self.settings)[first:last]
        name = model.model if model else "base"
        rows = self.world.draw(self.models[name] if model else None, [draw.seed for draw in fixed])
        digests = [f"{name}/{draw.seed}" for draw in fixed]
        self.shown |= dict(zip(digests, rows, strict=True))
        return {"digests": digests, "images": len(digests)}

    def score(self, digests: Sequence[str], reference: Sequence[str] = (), manifest: str = "") -> dict[str, Any]:
        """Scores a unit's evaluation images as the product does."""
        rows = np.stack([self.shown[digest] for digest in digests])
        utility, std = self.rater.predict(rows)
        inside = self.reference.index.distance(rows, np.full(len(rows), -1)) <= self.reference.cut(95)
        size = len(rows) // GROUPS
        groups = [vendi(rows[start : start + size]) for start in range(0, size * GROUPS, size)]
        bounds = utility - std
        return {
            "n": len(rows),
            "finite": bool(np.isfinite(utility).all()),
            "rater_version": "bed",
            "utility": metrics.mean(utility.tolist()),
            "spread": float(utility.std()),
            "lower_bound": metrics.mean(bounds.tolist()),
            "doubt": float(std.mean()),
            "unknown": float(self.rater.stored.unknown(rows).mean()),
            "typical_share": float(inside.mean()),
            "vendi": metrics.from_groups(vendi(rows), groups, len(rows)),
            "vendi_quarter": float(np.mean(groups)),
            "measures": self._measures(rows, reference, manifest),
            "bounds": bounds.tolist(),
        }

    def _measures(self, rows: np.ndarray, reference: Sequence[str], manifest: str) -> dict[str, Any]:
        if not reference:
            return {}
        before = np.stack([self.shown[digest] for digest in reference])
        liked = np.unique(self.cells.of(self.rater.seen[self.rater.grades >= 4]))
        sources = self.made.rows[self.trained[f"unit-{manifest}"]]
        copies, chance = (float(((part @ sources.T).max(axis=1) > 0.95).mean()) for part in (rows, before))
        return {
            "liked_cells": len(liked),
            "likes_covered": covered(liked, self.cells.of(rows)),
            "likes_covered_reference": covered(liked, self.cells.of(before)),
            "near_copies": copies,
            "near_copies_reference": chance,
        }

    def serve(self, verdict: Judgement, candidate: UnitRecord, undone: int) -> dict[str, Any]:
        """Serves nothing: nobody asks."""
        return {"served": verdict.served}
