"""Scale: drawing and embedding on two actors over one, a lost node, labels on PostgreSQL, replicas: make bench-scale.

Every ratio is taken in turns within one run, as often as `--repeats` says, and filed with its spread: on a machine that
does other things too the ratios of single turns differ by tens of per cent. Actors and replicas are pinned to a core
each. `--only P12,P16` measures some; the simulation (P17) goes by whatever of P12, P12e and P19 the file has.
"""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.benchmarks.results import FOLDER, merge
from tests.benchmarks.scale.pipeline import Layout, ServiceTimes, first_bend, simulate
from tests.benchmarks.scale.sizing_table import CASES, GPU_SECONDS, filed, layout, measured, on_cards
from tests.benchmarks.scale.sizing_table import rows as sizes
from tests.benchmarks.serving import bench_engines, rig
from tests.postgresql import Rows, binaries, serving

ADDRESS = "127.0.0.2"
"""Of this machine alone."""
IMAGES, BATCH, STEPS = 96, 4, 4
LONG_IMAGES, LONG_STEPS = 16, 110
"""Those that take the starter about a second each; sixteen are four whole batches."""
SCORED, AT_ONCE = 32, 8
SPARE = 1.25
"""Cores that embed over those that would just do."""
SLOW_SECONDS = 3.0
"""An image of an SDXL-class base model on a card: an assumption."""
driver_seconds: list[float] = []
"""Processor time of this process in each request; of those on Ray it is what the driver costs."""


def main() -> None:
    """Measures what is asked for and files it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", default="P12,P12e,P15,P16,P19,P17")
    options.add_argument("--repeats", type=int, default=5)
    given = options.parse_args()
    sections: dict[str, Callable[[int], list[dict[str, Any]]]] = {
        "P12": drawing,
        "P12e": embedded,
        "P13": overhead,
        "P15": labels,
        "P16": scoring,
        "P17": lambda _: simulated(),
        "P19": rows_written,
    }
    for name in given.only.split(","):
        merge("scale", sections[name](given.repeats))


def row(name: str, what: str, ratios: list[float], unit: str = "ratio", goal: str = "") -> dict[str, Any]:
    """Returns a figure of several turns: their median, least and most."""
    spread = f"{min(ratios):.3g}–{max(ratios):.3g}" + (f"; goal {goal}" if goal else "")
    return {
        "id": name,
        "what": what,
        "value": statistics.median(ratios),
        "unit": unit,
        "n": len(ratios),
        "verdict": spread,
    }


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Lets what is started meanwhile have these cores alone; this process gets its own back."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core % (max(before) + 1) for core in cores})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class DrawingPlace:
    """Two actors on a node of one core each, and the same generator without Ray."""

    two: Any
    generator: Any
    cluster: Any
    nodes: list[Any]
    seeds: Iterator[int]


@contextmanager
def drawing_place() -> Iterator[DrawingPlace]:
    """Starts the cluster and the actors, their models loaded, and ends them."""
    from ray.cluster_utils import Cluster

    from konomi_chassis.cluster.settings import ScaleSettings
    from konomi_generator.assembly import assemble
    from konomi_generator.executors.opening import open_executor
    from konomi_generator.settings import GeneratorSettings

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        subprocess.run([sys.executable, "-m", "konomi_starter", "install", "--home", name], check=True)
        own = GeneratorSettings(home=home, threads=1, image_batch=BATCH, device="cpu")
        store, decoder = ArtifactStore(StoreSettings(home=home)), Decoder()
        generator, _ = assemble(own, store, decoder)
        quick = {
            "health_check_initial_delay_ms": 0,
            "health_check_period_ms": 1000,
            "health_check_failure_threshold": 3,
        }
        head = {"num_cpus": 0, "node_ip_address": ADDRESS, "include_dashboard": False, "_system_config": quick}
        cluster = Cluster(initialize_head=True, head_node_args={**head, "object_store_memory": 100 << 20})
        nodes = []
        try:
            for core in (0, 1):
                with pinned(core):
                    nodes.append(cluster.add_node(num_cpus=1, node_ip_address=ADDRESS, wait=True))
            settings = ScaleSettings(
                home=home, executor="ray", address=cluster.address, actors=2, batch_images=BATCH, patience_seconds=300
            )
            two = open_executor(settings, generator, own)
            place = DrawingPlace(two, generator, cluster, nodes, iter(range(0, 10**9, IMAGES)))
            drawn(two, next(place.seeds), 2)  # models are loaded, libraries warm
            with pinned(0):
                drawn(generator, next(place.seeds), 1)
            yield place
            two.close()
        finally:
            generator.close()
            decoder.close()
            cluster.shutdown()


def drawing(repeats: int) -> list[dict[str, Any]]:
    """P12, P13, P14: images a second on one and two actors, on one without Ray, and with a node lost half-way."""
    with drawing_place() as place:
        found = _turns(place, repeats)
        found["lost"], found["redone"], found["unbroken"] = _lost(place, found["two"])
    return _drawing_rows(found)


def overhead(repeats: int) -> list[dict[str, Any]]:
    """P13: on images of .03 s, and on images of about a second as an owner's are; in time, and in processor time.

    Processor time says the same on a busy machine: the actor's and the driver's over that of one process.
    """
    rows = []
    with drawing_place() as place:
        (actor, *_) = place.two._actors
        process = ray_answer(actor.handle.ready.remote())
        for name, what, images, steps in (
            ("P13", "what Ray adds to one actor's time, images of .03 s", IMAGES, STEPS),
            ("P13s", "what Ray adds to one actor's time, images of about a second", LONG_IMAGES, LONG_STEPS),
        ):
            ratios, busy, apart = [], [], []
            for _ in range(repeats):
                before = _processor_seconds(process)
                on_ray = drawn(place.two, next(place.seeds), 1, images=images, steps=steps)
                worked = _processor_seconds(process) - before + driver_seconds[-1]
                with pinned(0):
                    alone = drawn(place.generator, next(place.seeds), 1, images=images, steps=steps)
                ratios.append(on_ray / alone - 1)
                busy.append(worked / driver_seconds[-1] - 1)
                apart.append(1000 * (worked - driver_seconds[-1]) * BATCH / images)
            rows += [
                row(name, what, ratios, "share", "<= .03"),
                row(f"{name}c", f"{what}: in processor time", busy, "share", "<= .03"),
                row(f"{name}b", f"{what}: processor time a batch of {BATCH}", apart, "ms"),
            ]
    return rows


def _processor_seconds(process: int) -> float:
    """Returns what a process has had of the processors by now."""
    after_name = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")


def ray_answer(ref: Any) -> Any:
    """Returns what an actor answers."""
    import ray

    return ray.get(ref)


def embedded(repeats: int) -> list[dict[str, Any]]:
    """P12e: the same of embedding."""
    from tests.benchmarks.scale.embedding_on_actors import embedding

    return embedding(repeats)


def rows_written(repeats: int) -> list[dict[str, Any]]:
    """P19: what the rater costs an image where others embed it."""
    from tests.benchmarks.scale import rows_of_images

    return rows_of_images.rows_written(repeats)


def drawn(
    executor: Any,
    seed: int,
    actors: int,
    during: Callable[[int], None] = lambda done: None,
    *,
    images: int = IMAGES,
    steps: int = STEPS,
) -> float:
    """Draws the images of a request on the first so many actors; returns the seconds."""
    from konomi_generator.requests import Image, Request

    spread = getattr(executor, "_actors", None)
    if spread is not None:
        executor._actors = spread[:actors]
    try:
        began, busy, done = time.perf_counter(), time.process_time(), 0
        request = Request([Image("a cat on a chair", seed + n) for n in range(images)], steps=steps)
        for _ in executor.generate(request, lambda: False):
            done += 1
            during(done)
        assert done == images
        driver_seconds.append(time.process_time() - busy)
        seconds = time.perf_counter() - began
        print(f"{actors if spread is not None else 'no'} actors: {seconds:.2f} s", file=sys.stderr, flush=True)
        return seconds
    finally:
        if spread is not None:
            executor._actors = spread


def _turns(place: DrawingPlace, repeats: int) -> dict[str, Any]:
    """Returns the seconds of each turn: two actors, one, and none, one after the other."""
    found: dict[str, Any] = {"two": [], "one": [], "local": [], "driver": []}
    for _ in range(repeats):
        found["two"].append(drawn(place.two, next(place.seeds), 2))
        found["driver"].append(1000 * driver_seconds[-1] * BATCH / IMAGES)
        found["one"].append(drawn(place.two, next(place.seeds), 1))
        with pinned(0):
            found["local"].append(drawn(place.generator, next(place.seeds), 1))
    return found


def _lost(place: DrawingPlace, unbroken: list[float]) -> tuple[float, float, float]:
    """Kills a node half-way; returns the seconds, the share that was redone, and those of an unbroken one."""
    gone = []

    def kill(done: int) -> None:
        if done >= IMAGES // 2 and not gone:
            gone.append(time.perf_counter())
            place.cluster.remove_node(place.nodes.pop(), allow_graceful=False)

    before = place.two.redone
    seconds = drawn(place.two, next(place.seeds), 2, kill)
    return seconds, (place.two.redone - before) * BATCH / IMAGES, statistics.median(unbroken)


def _drawing_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    scaled = [one / two for one, two in zip(found["one"], found["two"], strict=True)]
    overhead = [one / local - 1 for one, local in zip(found["one"], found["local"], strict=True)]
    rates = {name: [IMAGES / seconds for seconds in found[name]] for name in ("one", "two", "local")}
    return [
        row("P12", "images a second on 2 actors over 1, drawing alone", scaled, goal=">= 1.8"),
        row("P12a", "images a second, 1 actor", rates["one"], "1/s"),
        row("P12b", "images a second, 2 actors", rates["two"], "1/s"),
        row("P12c", "images a second, no Ray", rates["local"], "1/s"),
        row("P12d", "processor time of the driver, a batch", found["driver"], "ms"),
        row("P13", "what Ray adds to one actor's time", overhead, "share", goal="<= .03"),
        row("P14", "a node killed half-way: seconds of all images", [found["lost"]], "s")
        | {"baseline": found["unbroken"]},
        row("P14a", "share of the images redone", [found["redone"]], "share"),
    ]


def labels(repeats: int) -> list[dict[str, Any]]:
    """P15: labels acknowledged a second on PostgreSQL, by hundreds, and of SQLite in the same turn."""
    folder, count = binaries(), 2000
    if folder is None:
        raise SystemExit("needs PostgreSQL's server (apt: postgresql)")
    disk = Path(tempfile.gettempdir())
    rates, ratios = [], []
    with tempfile.TemporaryDirectory(dir=disk) as name, serving(folder, disk) as server:
        for turn in range(repeats):
            sqlite = bench_engines.measure(Rows(None), Path(name) / f"sqlite{turn}", count)
            there = bench_engines.measure(Rows(server), Path(name) / f"postgresql{turn}", count)
            rates.append(there.rate)
            ratios.append(there.rate / sqlite.rate)
    return [
        row("P15", "labels acknowledged a second on PostgreSQL, by hundreds", rates, "1/s"),
        row("P15a", "the same over SQLite", ratios),
    ]


def scoring(repeats: int) -> list[dict[str, Any]]:
    """P16: images scored a second by two replicas over one, and what one image costs a rater."""
    images = rig.write_photographs(FOLDER.parent / "serving" / "scale", SCORED, 7)
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        subprocess.run([sys.executable, "-m", "konomi_starter", "install", "--home", name], check=True)
        writer = rig.Server(home, 1)
        try:
            rig.fit_taste(writer, images, "starter")
        finally:
            writer.stop()
        replicas = []
        try:
            for core in (0, 1):
                with pinned(core):
                    replicas.append(rig.Server(home, 1, KONOMI_READ_ONLY="1"))
            fresh = iter(range(10**6))
            for replica in replicas:
                _scored([replica], images, next(fresh))
            pairs = [
                (_scored(replicas[:1], images, next(fresh)), _scored(replicas, images, next(fresh)))
                for _ in range(repeats)
            ]
        finally:
            for replica in replicas:
                replica.stop()
    return [
        row("P16", "images scored a second by 2 replicas over 1", [two / one for one, two in pairs], goal=">= 1.7"),
        row("P16a", "images scored a second by 1 replica", [one for one, _ in pairs], "1/s"),
        row("P16b", "images scored a second by 2 replicas", [two for _, two in pairs], "1/s"),
    ]


def _scored(replicas: list[rig.Server], images: list[bytes], turn: int) -> float:
    """Scores all images once on each replica, two batches at a time; returns images a second of all."""
    stamped = [
        image + turn.to_bytes(4, "little") for image in images
    ]  # behind a JPEG's end: new bytes, known to nobody

    def work(replica: rig.Server, part: list[bytes]) -> None:
        with replica.client() as client:
            for start in range(0, len(part), AT_ONCE):
                rig.score(client, part[start : start + AT_ONCE])

    threads = [
        threading.Thread(target=work, args=(replica, stamped[half::2])) for replica in replicas for half in range(2)
    ]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(images) * len(replicas) / (time.perf_counter() - began)


def simulated() -> list[dict[str, Any]]:
    """P17: the simulation held against the measured actors, then where 64 cards, 10 M images, 1,000 tastes bend."""
    path = FOLDER / "scale.json"
    figures = filed(path)
    times = measured(figures)
    rows = []
    for count, name in ((1, "P12a"), (2, "P12b")):
        made = simulate(times, Layout(count, BATCH), IMAGES, known=False).images_per_second
        what = f"simulated over measured images a second, {count} actor{'s' * (count > 1)}"
        rows.append(
            {
                "id": f"P17{'ab'[count - 1]}",
                "what": what,
                "value": made,
                "baseline": figures[name],
                "unit": "1/s",
                "n": 1,
            }
        )
    for seconds in (GPU_SECONDS, SLOW_SECONDS):
        cards = on_cards(times, seconds)
        layouts = [layout(count, math.ceil(SPARE * count * times.embed / seconds)) for count in (1, 8, 16, 64)]
        for place, made in zip(layouts, first_bend(cards, layouts), strict=True):
            what = f"simulated, {place.actors} cards at {seconds} s an image over as many that never wait: "
            what += f"{place.embedders} cores embed; busiest is {made.bends}"
            share = made.images_per_second * seconds / place.actors
            name = f"P17-{place.actors}" + ("s" if seconds == SLOW_SECONDS else "")
            rows.append({"id": name, "what": what, "value": share, "unit": "share", "n": 1, "verdict": "goal >= .9"})
    rows += _ways(times)
    for (size, images, tastes), case in zip(sizes(on_cards(times)), CASES, strict=True):
        who = f"{case[1]} cores embed" if case[1] else "the rater embeds"
        what = f"simulated, hours of {images:,} images of {tastes:,} tastes on {case[0]} cards, {who}: "
        what += f"busiest is {size.bends}"
        rows.append({"id": f"P18-{case[0]}-{case[1]}-{tastes}", "what": what, "value": size.hours, "unit": "h", "n": 1})
    return rows


def _ways(times: ServiceTimes) -> list[dict[str, Any]]:
    """Returns what steps that grow, embedding elsewhere, and knowing meanwhile do for 64 cards: over 64 times one."""
    rows = []
    for seconds in (GPU_SECONDS, 0.5, SLOW_SECONDS):
        cards = on_cards(times, seconds)
        enough = math.ceil(SPARE * 64 * times.embed / seconds)
        ways = {
            "steps of 64, the rater embeds": Layout(64, 8, 0, 64, meanwhile=False),
            "steps of 64, actors embed": Layout(64, 8, enough, 64, meanwhile=False),
            "steps that grow": Layout(64, 8, enough, 64 * 64, meanwhile=False),
            "steps that grow, known meanwhile": Layout(64, 8, enough, 64 * 64),
        }
        (one,) = first_bend(cards, [layout(1, 1)])
        for number, (way, made) in enumerate(zip(ways, first_bend(cards, list(ways.values())), strict=True)):
            what = f"simulated, 64 cards at {seconds} s an image over 64 times one: {way}"
            value = made.images_per_second / one.images_per_second / 64
            rows.append({"id": f"P17w-{seconds:g}-{number}", "what": what, "value": value, "unit": "share", "n": 1})
    return rows


if __name__ == "__main__":
    main()
