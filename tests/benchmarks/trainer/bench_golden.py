"""A golden fit's checkpoints: where does it win most, how much stays different, and which does the night keep?

Method: per person one taste, 100 labels suggested by the rater; the golden set of those (UR, and a quarter of the base
model's images) trains 320 steps, its checkpoints published. Each draws 128 fresh images beside the base model's of the
same prompts and seeds (truth, Vendi) and 48 others, by which the rater is asked as a night asks it. "Kept" is what
`checkpoints.chosen` takes of the night's four, at 40, 80, 120 and 160 steps; "end" is step 160, what was kept before.

    make bench-golden ARGS="--persons 0,8,14,17"     about 3 minutes a person; the pool of 4,000 once
"""

import argparse
from typing import Any

import numpy as np

from konomi import files
from konomi.night import metrics
from konomi.night.draws import Turn
from konomi.night.records.fit import Model
from konomi.night.systems import checkpoints, golden
from konomi.night.systems.base import hyper_parameters
from konomi.night.systems.golden import GoldenSettings
from konomi.night.systems.registry import night_settings
from konomi.v1 import trainer_pb2
from tests.benchmarks.night import real as night_real
from tests.benchmarks.night.nights import IMAGES
from tests.benchmarks.night.persons import NightPerson, persons, table_of
from tests.benchmarks.rater import pool as rater_pool
from tests.benchmarks.results import merge

STEPS, EVERY = 320, 20
SHOWN = (20, 40, 80, 120, 160, 240, 320)
NIGHTS_OWN = (40, 80, 120, 160)
LABELS, FRESH, PROBE, FLOOR = 100, 128, 48, 0.65


def published(bed: night_real.Bed, gateway: Any, person: NightPerson) -> tuple[int, dict[int, str]]:
    """Trains on a person's golden set and returns its size and the adapter of every checkpoint, by step."""
    settings = night_settings()(guidance_scale=night_real.GUIDANCE)
    turn = Turn(0, 1, 1, bed.prompts, GoldenSettings(), 6.0, pool=gateway.count(("UR",)))
    chosen = gateway.select(golden.selection(turn), 0)
    trainer = bed.session.client.trainer
    run = trainer.create_training_run(
        taste=gateway.taste,
        method=trainer_pb2.TRAINING_METHOD_LORA,
        night=gateway.night,
        hyper_parameters=trainer_pb2.HyperParameters(
            **hyper_parameters(settings) | {"steps": STEPS, "checkpoint_steps": EVERY}
        ),
        manifest_digest=chosen.manifest,
        base_model=settings.base_model,
        seed=5,
        request_id=files.derived_id(gateway.night, "fit"),
        display_name="golden",
        reports=trainer_pb2.CheckpointReports(adapters=True),
    )
    for _ in trainer.watch_training_run(name=run.name):
        continue
    return chosen.n, dict(gateway.checkpoints(run.name))


def curve(bed: night_real.Bed, person: NightPerson) -> list[dict[str, float]]:
    """Returns what every checkpoint does, earliest first: truth, diversity, and what the rater says of its probes."""
    gateway = night_real.begun(bed, person, "golden", {"seed": 0, "labels": LABELS})
    gateway.night = files.derived_id("golden", person.number)
    size, adapters = published(bed, gateway, person)
    (draws, fresh), (probes, before) = bed.base("fresh", FRESH), bed.base("probe", PROBE)
    base, vendi = bed.look(fresh)[0], gateway.diversity(fresh).vendi
    bounds, spread = [score.lower_bound for score in gateway.score(before)], gateway.diversity(before).vendi
    found = []
    for step in SHOWN:
        model = Model(model=f"golden-{person.number}-{step}", adapter=adapters[step])
        made, probed = bed.make(gateway, draws, model), bed.make(gateway, probes, model)
        table, real = bed.look(made)
        wins = metrics.paired_wins([score.lower_bound for score in gateway.score(probed)], bounds)
        found.append(
            {
                "step": step,
                "n": size,
                "intact": real,
                "vendi": gateway.diversity(made).vendi / vendi,
                "probe_vendi": gateway.diversity(probed).vendi / spread,
                "probe_wins": wins["value"],
                **night_real.figures(person, table, base),
            }
        )
    return found


def kept(found: list[dict[str, float]]) -> dict[str, float]:
    """Returns the checkpoint a night keeps of its four."""
    own = {int(one["step"]): one for one in found if one["step"] in NIGHTS_OWN}
    probes = [
        checkpoints.Probe(step=step, wins={"value": one["probe_wins"]}, vendi=one["probe_vendi"])
        for step, one in own.items()
    ]
    return own[checkpoints.chosen(probes, FLOOR).step]


def main() -> None:
    """Runs the persons and merges their figures into build/bench/golden.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--persons", default="0,8,14,17", help="numbers of persons, separated by commas")
    wanted = [int(number) for number in parser.parse_args().persons.split(",")]
    everybody = {person.number: person for person in persons(table_of(rater_pool.load(IMAGES).records))}
    rows: list[dict[str, Any]] = []
    with night_real.bed() as bed:
        for number in wanted:
            found = curve(bed, everybody[number])
            for one in found:
                print(number, *(f"{name} {value:.3f}" for name, value in one.items()), flush=True)
            end, own = next(one for one in found if one["step"] == NIGHTS_OWN[-1]), kept(found)
            print(f"{number} keeps step {own['step']:.0f}", flush=True)
            rows += [
                {"id": "golden", "what": f"{name} of the checkpoint kept, person {number}", "value": own[name],
                 "baseline": end[name], "unit": "share", "n": FRESH}
                for name in ("win", "ssr", "ur", "vendi")
            ]  # fmt: skip
    halted = [float(np.mean([row["value"] < FLOOR for row in rows if row["what"].startswith("vendi")]))]
    print(f"below the diversity floor as kept: {halted[0]:.0%}")
    merge("golden", rows)


if __name__ == "__main__":
    main()
