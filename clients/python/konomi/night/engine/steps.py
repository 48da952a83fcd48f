"""The steps of a night: each takes and returns plain JSON and may be run again without harm."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from konomi import errors, files
from konomi.night import guards
from konomi.night import metrics as intervals
from konomi.night.draws import Draw, Turn, evaluation_draws, image_seed, plain
from konomi.night.gateway import measures as unit_measures
from konomi.night.gateway.services import SCORE_BATCH, Beat, Studio
from konomi.night.records import request as lineage
from konomi.night.settings import NightSettings
from konomi.night.systems import registry

GROUPS = 4
"""Disjoint groups whose spread gives the interval of the Vendi score."""


class NightSteps:
    """What a night does, one method a step; the recipe decides which comes next."""

    def __init__(
        self,
        studio: Studio,
        request: lineage.NightRequest,
        beat: Beat,
        audits: Callable[[str], list[dict[str, Any]]] = lambda version: [],
    ) -> None:
        """Takes the services, what was asked for, what shows progress, and the audits of a rater version's choices."""
        self.studio = studio
        self.audits = audits
        self.request = request
        self.settings = NightSettings(**request.settings)
        self.guards = guards.GuardSettings(**request.guards)
        self.beat = beat

    def plan(self) -> dict[str, Any]:
        """Looks at the taste and says where the night begins.

        Raises:
            FailedPrecondition: the taste has no rater, or there is no prompt.
        """
        state = self.studio.state()
        if not state["rater_version"]:
            message = (
                f"{self.request.taste} has no rater yet ({state['labels']} images graded): "
                "grade some with `konomi label`, then `konomi rater fit`."
            )
            raise errors.FailedPrecondition(message, reason="NO_RATER")
        models, withdrawn = self.studio.models(), self.studio.withdrawn()
        start = next((model for model in models if model["current"] and model["model"] not in withdrawn), None)
        first = 1 + max((model["unit"] for model in models), default=0)
        if start and not start["unit"]:  # a model with a name of its own, for example taught concepts, counts as one
            start, first = start | {"unit": first}, first + 1
        return {
            "start": start,
            "first": first,
            "withdrawn": withdrawn,
            "rater_version": state["rater_version"],
            "rater": self.studio.rater(),
            "audits": self.audits(state["rater_version"]),
        }

    def observe(self) -> dict[str, Any]:
        """Looks at the best image of every region known, for a system that draws from these."""
        return self.studio.elites(self.settings.longtail_cells, image_seed(self.request.seed, "cells", 0))

    def generate(self, drawn: dict[str, Any], served: dict[str, Any] | None, first: int, last: int) -> dict[str, Any]:
        """Makes images `first` to `last` - 1 of a unit's pool and makes them known to the taste.

        Args:
            drawn: "unit", its "position" in the night, the "system" it belongs to, what was "seen", the nats "spent".
            served: "model", "adapter" and "tokens" of the unit that makes them, None for the base model.
            first: first image.
            last: one past the last.
        """
        turn = self.turn(drawn, served_is_base=served is None)
        chunk = registry.find(drawn["system"]).draws(turn)[first:last]
        made, refused = [], 0
        for origin, model in (("served", served), ("base", None)):
            for rare in (False, True):
                draws = [draw for draw in chunk if (draw.origin, draw.rare) == (origin, rare)]
                digests = self.studio.generate(draws, model, self.settings.model_dump(), self.beat)
                tokens = model.get("tokens", []) if model else []
                images = [_image(digest, draw, tokens) for digest, draw in zip(digests, draws, strict=True)]
                refused += self.studio.add(images, model["model"] if model else "base") if images else 0
                made += digests
        return {"digests": made, "refused": refused, "images": len(made)}

    def select(self, drawn: dict[str, Any], earlier: list[dict[str, Any]]) -> dict[str, Any]:
        """Scores the whole pool anew, selects the training set and freezes its manifest.

        Args:
            drawn: as `generate` takes it.
            earlier: what this method returned for this system's units before.

        Returns:
            What the studio says of the set, "rater": what the rater says of itself, "end": why the system ends here.
        """
        system = registry.find(drawn["system"])
        vouched = self.studio.certified(self.settings.certificates) if system.grades else 0
        turn = self.turn(drawn, pool=self.studio.count(system.grades) + vouched)
        seed = image_seed(self.request.seed, f"select-{turn.unit}", 0)
        asked = system.selection(turn)
        if system.rater_chooses and self.settings.near_copy_cosine < 1:
            sources = unit_measures.earlier_sources(self.studio.client, self.request.taste)
            asked |= {"near_copy_cosine": self.settings.near_copy_cosine, "training_sources": sources}
        chosen = self.studio.select(asked, seed)
        end = system.verdict(turn, chosen, earlier)
        nats = chosen["nats"] if system.rater_chooses else 0.0
        figures = {name: value for name, value in turn.seen.items() if isinstance(value, float)}
        return chosen | figures | {"nats": nats, "end": asdict(end) if end else None, "rater": self.studio.rater()}

    def train(self, drawn: dict[str, Any], parent: dict[str, Any] | None, chosen: dict[str, Any]) -> dict[str, Any]:
        """Fits an adapter from the base model on the frozen manifest."""
        hyper = registry.find(drawn["system"]).hyper_parameters(self.settings)
        return self.studio.train(self.training(drawn["unit"], parent, chosen), hyper, self.beat)

    def training(self, unit: int, parent: dict[str, Any] | None, chosen: dict[str, Any]) -> dict[str, Any]:
        """Returns what a training run of a unit is asked for, less its method and numbers."""
        return {
            "manifest_digest": chosen["manifest"],
            "base_model": self.settings.base_model,
            "seed": image_seed(self.request.seed, f"train-{unit}", 0),
            "request_id": files.derived_id(self.request.id, unit, "train"),
            "display_name": f"unit-{unit}",
            "parents": [parent["model"]] if parent else [],
            "rater_version": chosen["rater_version"],
        }

    def turn(self, drawn: dict[str, Any], **known: Any) -> Turn:
        """Returns the turn of the loop as a system sees it."""
        return Turn(
            seed=self.request.seed,
            unit=drawn["unit"],
            position=drawn["position"],
            prompts=self.request.prompts,
            settings=self.settings,
            budget_nats=self.guards.pressure_nats,
            spent_nats=drawn["spent"],
            seen=drawn["seen"],
            **known,
        )

    def evaluate(self, model: dict[str, Any] | None, first: int, last: int) -> dict[str, Any]:
        """Makes evaluation images `first` to `last` - 1: the same prompts and seeds for every unit."""
        fixed = evaluation_draws(self.request.seed, self.request.evaluation_prompts, self.settings)
        digests = self.studio.generate(fixed[first:last], model, self.settings.model_dump(), self.beat)
        return {"digests": digests, "images": len(digests)}

    def score(self, digests: Sequence[str], reference: Sequence[str] = (), manifest: str = "") -> dict[str, Any]:
        """Scores a unit's evaluation images: figures with intervals, and the lower bounds for paired comparisons.

        Args:
            digests: the images.
            reference: those of unit 0; none for unit 0 itself.
            manifest: what the unit was trained on; none for the base model.
        """
        scores = self.studio.score(digests)
        looked = digests[:SCORE_BATCH]
        whole = self.studio.diversity(looked)
        size = max(2, len(looked) // GROUPS)
        parts = [looked[start : start + size] for start in range(0, size * GROUPS, size)]
        groups = [self.studio.diversity(part)["vendi"] for part in parts if len(part) == size]
        finite = all(math.isfinite(score["utility"]) and math.isfinite(score["std"]) for score in scores)
        client, taste = self.studio.client, self.request.taste
        sources = unit_measures.sources_of(client, manifest)
        measures = unit_measures.measure(client, taste, digests, reference, sources) if finite else {}
        return {
            "n": len(scores),
            "finite": finite,
            "rater_version": scores[0]["rater_version"],
            "utility": intervals.mean([score["utility"] for score in scores]) if finite else intervals.mean([]),
            "spread": statistics.pstdev([score["utility"] for score in scores]) if finite else 0.0,
            "lower_bound": intervals.mean([score["lower_bound"] for score in scores]) if finite else intervals.mean([]),
            "doubt": statistics.fmean(score["std"] for score in scores) if finite else 0.0,
            "p_ssr": intervals.mean([score["p_ssr"] for score in scores]) if finite else intervals.mean([]),
            "p_ur": intervals.mean([score["p_ur"] for score in scores]) if finite else intervals.mean([]),
            "unknown": sum(bool(score["unknown"]) for score in scores) / len(scores),
            "typical_share": whole["typical_share"],
            "vendi": intervals.from_groups(whole["vendi"], groups, len(looked)),
            "vendi_quarter": statistics.fmean(groups),
            "novelty": intervals.mean([score["novelty"] for score in scores] if finite else []),
            "measures": measures,
            "bounds": [round(score["lower_bound"], 6) if finite else 0.0 for score in scores],
        }

    def judge(
        self,
        history: Sequence[dict[str, Any]],
        served: int,
        candidate: dict[str, Any],
        parent: dict[str, Any],
        spared: Sequence[str] = (),
    ) -> dict[str, Any]:
        """Compares the candidate with its parent pair by pair and lets the guards decide.

        Args:
            history: numbers of unit 0 and of every unit judged before, as `numbers` of earlier verdicts.
            served: number of the unit served now.
            candidate: "unit", "digests" and "scores" of the candidate.
            parent: the same of the unit served now.
            spared: guards this unit's system leaves out.
        """
        numbers = compare(candidate, parent, history[0] if history else None)
        known = [guards.UnitNumbers(**earlier) for earlier in (*history, numbers)]
        limits = self.guards.model_copy(update={"off": (*self.guards.off, *spared)})
        verdict = guards.judge(known, served, self.settings.promote_win_rate, limits)
        numbers["promoted"] = verdict.decision == "promote"
        wins = intervals.paired_wins(candidate["scores"]["bounds"], parent["scores"]["bounds"])
        return {"numbers": numbers, "wins": wins, **asdict(verdict), "warnings": [asdict(w) for w in verdict.warnings]}

    def serve(self, verdict: dict[str, Any], candidate: dict[str, Any], undone: int) -> dict[str, Any]:
        """Promotes the candidate, or takes back as many promotions as the verdict undoes."""
        if verdict["decision"] == "promote":
            metrics = {name: float(verdict["numbers"][name]) for name in ("vendi", "win_rate", "exceedance", "doubt")}
            unit = candidate["unit"]
            self.studio.promote(candidate["model"], metrics, files.derived_id(self.request.id, unit, "promote"))
        for turn in range(undone):
            self.studio.rollback(files.derived_id(self.request.id, candidate["unit"], "rollback", turn))
        return {"served": verdict["served"]}


def _image(digest: str, draw: Draw, tokens: Sequence[str]) -> dict[str, Any]:
    """Returns what the rater is told of a made image; words its maker does not know were not said to it."""
    more: dict[str, Any] = {"parents": [draw.init]} if draw.init else {}
    if draw.depth:
        more["parameters"] = {"depth": float(draw.depth)}
    return {"digest": digest, "prompt": plain(draw.prompt, tokens), "seed": draw.seed, **more}


def vendi_at(scores: dict[str, Any], n: float) -> float:
    """Returns the Vendi score a unit's images would have if there were n of them.

    The Vendi score grows with the number of images, so only equal numbers can be compared; between a quarter of the
    evaluation images and all of them it is taken as linear in log n.
    """
    whole, quarter = scores["vendi"]["value"], scores["vendi_quarter"]
    place = 1 + math.log(max(n, 1) / scores["vendi"].get("n", scores["n"])) / math.log(GROUPS)
    return float(min(max(1.0, quarter + place * (whole - quarter)), max(n, 1)))


def compare(candidate: dict[str, Any], parent: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the fields of UnitNumbers of a candidate; `base` carries those of unit 0, None for unit 0 itself."""
    scores = candidate["scores"]
    wins = intervals.paired_wins(scores["bounds"], parent["scores"]["bounds"])
    changed = [a != b for a, b in zip(candidate["digests"], parent["digests"], strict=True)]
    exceedance, looked = max(0.0, 1.0 - scores["typical_share"]), int(scores["vendi"].get("n", scores["n"]))
    numbers = {
        "unit": candidate["unit"],
        "vendi": scores["vendi"]["value"],
        "exceedance": exceedance,
        "exceedance_low": intervals.share(exceedance * looked, looked)["low"],
        "doubt": scores["doubt"],
        "gap": 0.0,
        "win_rate": wins["value"],
        "win_rate_low": wins["low"],
        "changed": sum(changed) / len(changed),
        "finite": scores["finite"],
        "rater_version": scores["rater_version"],
        "promoted": base is None,
    }
    if base is not None:
        numbers["gap"] = (scores["doubt"] - base["doubt"]) / max(candidate["base_spread"], 1e-9)
        numbers |= unit_measures.guarded(scores.get("measures", {}))
    return numbers
