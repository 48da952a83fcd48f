"""`konomi compare --adapters` on checkpoints of one run: does the taste order them as the person truly would?

Method: a demo's beginning (the bundled starter, a simulated person who grades 64 of 256 images, a rater); a LoRA is
trained on the 64 images the rater likes best, and again with fewer steps and the same seed, which is the same run's
earlier checkpoint: 8 in all. The comparison draws up to 64 images of each at equal prompts and seeds, and the base
model's. The truth of
a checkpoint is the mean of the person's hidden utility over 128 other draws of it. Kendall's tau of the two orders, the
base model among them. Everything is drawn once; what stopping early leaves out is then left out of the same images, and
must name the same first one. The same is done for four of them that lie farther apart.
"""

import math
import os
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from konomi.cli.demo import _before_the_night
from konomi.evaluation import adapters, base_models
from konomi.evaluation.adapters import Contestant
from konomi.evaluation.demo import Demo, DemoSettings
from konomi.evaluation.simulated_person import SimulatedPerson, starter
from konomi.home import Home
from konomi.host.session import open_session
from konomi.night.draws import image_seed
from konomi.night.gateway import manifests
from konomi.night.gateway.services import TrainingRun
from konomi.night.records.store import NightStore
from konomi.night.systems.registry import night_settings
from tests.benchmarks.results import FOLDER, merge

STEPS = (8, 16, 24, 40, 60, 80, 110, 150)
CHOSEN, IMAGES, TRUTH = 48, 64, 128
FEW = ("base", "steps-40", "steps-80", "steps-150")
"""Of all, those that a person is likelier to hold against each other: some way apart."""
SEEDS = tuple(map(int, os.environ.get("BENCH_COMPARE_SEEDS", "401").split(",")))


class _View:
    """Says nothing."""

    def beat(self, *told: Any, **more: Any) -> None:
        """Takes a beat."""


def checkpoints(demo: Demo) -> list[Contestant]:
    """Trains on what the rater likes best of the pool and returns the base model and the checkpoints."""
    draws = demo.draws("pool", demo.settings.pool)
    pool = demo.make(draws, None)
    scores = demo.gateway.score(pool)
    best = sorted(range(len(pool)), key=lambda at: -scores[at].lower_bound)[:CHOSEN]
    items = [manifests.Item(pool[at], draws[at].prompt) for at in best]
    manifest = manifests.freeze(demo.session.client, items)
    found = [Contestant(adapters.BASE)]
    for steps in STEPS:
        run = TrainingRun(manifest, "starter", demo.seed, str(uuid.uuid4()), f"steps-{steps}", (), "")
        fit = demo.gateway.train(run, {"steps": steps}, demo.view.beat, "lora")
        assert not fit.failed, fit.failed
        found.append(Contestant(f"steps-{steps}", fit.adapter))
        print(f"trained {steps} steps", file=sys.stderr, flush=True)
    return found


def true_levels(demo: Demo, found: list[Contestant]) -> list[float]:
    """Returns the mean true utility of each on fresh draws, which are equal for all."""
    order = demo.prompts
    draws = [(order[i % len(order)], image_seed(demo.seed, "truth of checkpoints", i)) for i in range(TRUTH)]
    levels = []
    for one in found:
        made = base_models.make(demo.session.client, "starter", draws, lambda done: None, one.digest)
        levels.append(float(np.mean(demo.person.truth(made).utilities)))
    return levels


def once(root: Path, seed: int) -> dict[str, Any]:
    """Returns the figures of one person."""
    root.mkdir(parents=True)
    home, view = Home(root), _View()
    settings = DemoSettings(home=root, pool=256, reference=64)
    night = night_settings()(home=root, guidance_scale=settings.guidance_scale, reserve_gib=settings.reserve_gib)
    nights = NightStore(root)
    with (
        nights.lock(),
        open_session(home) as session,
        SimulatedPerson(root, session.client.addresses["rater"], None, seed) as person,
    ):
        prompts = starter("prompts", "--count", str(settings.prompts), "--seed", str(seed))
        demo = Demo(session, person, prompts, seed, settings, night, view)  # type: ignore[arg-type]
        _before_the_night(demo, nights, 64)
        found = checkpoints(demo)
        truth = dict(zip((one.name for one in found), true_levels(demo, found), strict=True))
        usual, adapters.DOUBT = adapters.DOUBT, 1e-12  # never sure, so that nothing stops
        adapters.compare(demo.gateway, "starter", found, prompts, IMAGES, seed)
        adapters.DOUBT = usual
    row: dict[str, Any] = {"seed": seed, "truth": truth}
    few = [one for one in found if one.name in FEW]
    modes: list[tuple[str, list[Contestant], adapters.Until]]
    modes = [("", found, "order"), (" of few", few, "order"), (" best", found, "best"), (" best of few", few, "best")]
    for of, chosen, until in modes:
        stopped = stopped_early(chosen, until)
        row[f"drawn{of}"] = sum(len(one.bounds) for one in stopped) / sum(len(one.bounds) for one in chosen)
        for name, result in ((f"stopped{of}", stopped), (f"whole{of}", chosen)):
            levels = {one.name: level for one, level in adapters.ranked(result)}
            row[name] = levels
            row[f"tau {name}"] = float(kendalltau(list(levels.values()), [truth[one] for one in levels])[0])
            row[f"first {name}"] = next(iter(levels))
    return row


def stopped_early(found: list[Contestant], until: adapters.Until) -> list[Contestant]:
    """Returns what the same comparison would have drawn, by the rule that it stops by."""
    rounds = math.ceil(IMAGES / adapters.ROUND)
    kept = [Contestant(one.name, one.digest, bounds=one.bounds[: adapters.ROUND]) for one in found]
    whole = {one.name: one.bounds for one in found}
    for start in range(adapters.ROUND, IMAGES, adapters.ROUND):
        for one in adapters.undecided(kept, rounds, until):
            if len(one.bounds) == start:
                one.bounds = whole[one.name][: start + adapters.ROUND]
    return kept


def _figure(what: str, values: Sequence[float], goal: float) -> dict[str, Any]:
    mean = float(np.mean(values))
    return {"id": "compare", "what": what, "value": mean, "baseline": goal, "unit": "", "n": len(values)}


def main() -> None:
    """Runs it for every person, each in a home of its own."""
    base = FOLDER / "compare" / str(int(time.time()))
    rows = [once(base / str(seed), seed) for seed in SEEDS]
    for row in rows:
        print(row, flush=True)
    taken = [
        ("Kendall's tau with true utility, up to 64 images each", "tau stopped", 0.7),
        ("Kendall's tau with true utility, 64 images each", "tau whole", 0.7),
        ("share of the images that were drawn", "drawn", 1.0),
        ("four some way apart: Kendall's tau", "tau stopped of few", 0.7),
        ("four some way apart: share of the images that were drawn", "drawn of few", 1.0),
        ("until the best is sure: Kendall's tau", "tau stopped best", 0.7),
        ("until the best is sure: share of the images that were drawn", "drawn best", 1.0),
        ("until the best is sure, four some way apart: share that were drawn", "drawn best of few", 1.0),
    ]
    figures = [_figure(what, [row[key] for row in rows], goal) for what, key, goal in taken]
    modes = {"": "", " of few": "four some way apart: ", " best": "until the best is sure: "}
    modes[" best of few"] = "until the best is sure, four some way apart: "
    for of, words in modes.items():
        same = [row[f"first stopped{of}"] == row[f"first whole{of}"] for row in rows]
        figures.append(_figure(f"{words}first place the same", same, 1.0))
    merge("compare", figures)


if __name__ == "__main__":
    main()
