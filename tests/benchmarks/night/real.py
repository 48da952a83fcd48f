"""Real nights for the proof: the starter models, the real services, the real workflow; only the person is simulated.

One home and one crew for all persons, one taste a trial. The truth is read from images by the attribute reader: of
every unit's evaluation images (the curve), and of fresh ones made by the base model and by a unit at equal prompts and
seeds, which neither the rater nor a guard ever saw (the blind pairs).
"""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from konomi import files
from konomi.home import Home
from konomi.host.session import Session, open_session
from konomi.night.draws import Draw, image_seed
from konomi.night.engine import preparation
from konomi.night.engine.steps import NightSteps
from konomi.night.engine.workflow import NightWorkflow
from konomi.night.gateway import manifests, messages
from konomi.night.gateway.services import NightServices
from konomi.night.guards import GuardSettings
from konomi.night.records import store
from konomi.night.records.fit import Model
from konomi.night.records.request import NightRequest
from konomi.night.records.state import Selection
from konomi.night.records.store import NightStore
from konomi.night.settings import NightSettings
from konomi.night.systems.registry import night_settings
from konomi.v1 import rater_pb2
from konomi_starter.data.captions import open_prompts
from konomi_starter.training import attribute_reader, embedding, realism
from tests.benchmarks.night.persons import SSR, UR, NightPerson, table_of
from tests.benchmarks.night.policies import Policy
from tests.benchmarks.night.trials import NIGHT
from tests.benchmarks.rater.pool import MODELS

PROMPTS, POOL, ROUND = 24, 448, 25
GUIDANCE = 3.0
TOP = 0.05
"""Share a naive policy keeps."""
SERVED_SCALE, SCALES = 0.8, (0.5, 1.1)
"""Strength of a unit's adapter in a night, and others whose wins and diversity are the curve of today's way."""


@dataclass
class Bed:
    """The services with what all trials share: prompts, eyes, the base model's images, attributes already read."""

    session: Session
    nights: NightStore
    prompts: list[str]
    eyes: Any = field(default_factory=lambda: attribute_reader.load(MODELS / "reader" / "model.safetensors"))
    encoder: Any = field(default_factory=lambda: embedding.load(MODELS / "embedder"))
    seen: dict[str, tuple[dict[str, str], np.ndarray]] = field(default_factory=dict)
    made: dict[str, list[str]] = field(default_factory=dict)

    def base(self, purpose: str, count: int) -> tuple[list[Draw], list[str]]:
        """Returns draws of a purpose and the base model's images of them, made once."""
        order = self.prompts
        draws = [Draw(order[i % len(order)], image_seed(0, purpose, i), "base") for i in range(count)]
        key = f"{purpose}/{count}"
        if key not in self.made:
            self.made[key] = self.make(NightServices(self.session, ""), draws, None)
        return draws, self.made[key]

    def make(
        self, gateway: NightServices, draws: list[Draw], model: Model | None, scale: float = SERVED_SCALE
    ) -> list[str]:
        """Makes images as the night does, with a unit's adapter at a scale, which may be above what a night allows."""
        settings = night_settings()(guidance_scale=GUIDANCE).model_copy(update={"adapter_scale": scale})
        return gateway.generate(draws, model, settings, _quiet)

    def look(self, digests: Sequence[str]) -> tuple[np.ndarray, float]:
        """Returns the attributes (N, C) of images and the share of them that looks like a portrait."""
        fresh = [digest for digest in dict.fromkeys(digests) if digest not in self.seen]
        if fresh:
            pixels = np.stack([self._pixels(digest) for digest in fresh])
            rows = embedding.embed(self.encoder, pixels)
            self.seen |= dict(zip(fresh, zip(self.eyes.read(pixels), rows, strict=True), strict=True))
        found = [self.seen[digest] for digest in digests]
        broken = realism.broken_share(np.stack([row for _, row in found]), MODELS / "reader" / "realism.safetensors")
        return table_of([record for record, _ in found]), 1.0 - broken

    def _pixels(self, digest: str) -> np.ndarray:
        data = self.session.client.artifacts.get(digest)
        return np.asarray(Image.open(io.BytesIO(data), formats=("PNG",)).convert("RGB"))


class NaiveServices(NightServices):
    """Selects as a naive loop does: the best by the rater's mean, no gate, no quota, no base images.

    With `replace` only of what the last unit made, else of everything so far.
    """

    replace = False
    unit = "base"

    def generate(
        self, draws: Sequence[Draw], model: Model | None, settings: NightSettings, beat: Any, **more: Any
    ) -> list[str]:
        """Makes images and notes whose they are."""
        self.unit = model.model if model else "base"
        return super().generate(draws, model, settings, beat, **more)

    def select(self, asked: dict[str, Any], seed: int) -> Selection:
        """Chooses the top share by mean utility and freezes the manifest."""
        images = self._images()
        scores = [score.utility for score in self.score([digest for digest, _ in images])]
        count = max(8, math.ceil(TOP * len(images)))
        best = [images[at] for at in np.argsort(scores)[::-1][:count]]
        kept = count / len(images)
        digests = [digest for digest, _ in best]
        return Selection(
            manifest=manifests.freeze(self.client, [manifests.Item(digest, prompt) for digest, prompt in best]),
            n=count,
            base_share=0.0,
            considered=len(images),
            kept_share=kept,
            nats=-math.log(kept),
            best_of_n_nats=0.0,
            vendi=self.diversity(digests).vendi,
            largest_cell_share=0.0,
            rater_version=self.state().rater_version,
            selected=tuple(digests[:24]),
            rejected={},
        )

    def _images(self) -> list[tuple[str, str]]:
        return _images_of(self, rater_pb2.ImageFilter(units=[self.unit] if self.replace else []))


class WeightedServices(NightServices):
    """Trains on all of konomi's own images, each weighted by exp(z / temperature) within its prompt."""

    temperature = 0.6

    def select(self, asked: Mapping[str, Any], seed: int) -> Selection:
        """Weighs every image by the rater's mean utility and freezes the manifest."""
        images = _images_of(self, rater_pb2.ImageFilter(sources=[rater_pb2.SOURCE_SELF]))
        utility = np.array([score.utility for score in self.score([digest for digest, _ in images])])
        prompts = np.unique([prompt for _, prompt in images], return_inverse=True)[1]
        weights = np.empty(len(images))
        for prompt in range(prompts.max() + 1):
            rows = prompts == prompt
            z = (utility[rows] - utility[rows].mean()) / max(float(utility[rows].std()), 1e-9)
            weights[rows] = np.exp(z / self.temperature)
            weights[rows] /= weights[rows].mean()
        pairs = zip(images, weights.tolist(), strict=True)
        items = [manifests.Item(digest, prompt, max(weight, 1e-6)) for (digest, prompt), weight in pairs]
        nats = float((weights * np.log(weights.clip(1e-12))).mean())
        best = [images[at][0] for at in np.argsort(weights)[::-1][:256]]
        return Selection(
            manifest=manifests.freeze(self.client, items),
            n=len(items),
            base_share=0.0,
            considered=len(images),
            kept_share=math.exp(-nats),
            nats=nats,
            best_of_n_nats=0.0,
            vendi=self.diversity(best).vendi,
            largest_cell_share=0.0,
            rater_version=self.state().rater_version,
            selected=tuple(best[:24]),
            rejected={},
        )


def _images_of(gateway: NightServices, filter_: rater_pb2.ImageFilter) -> list[tuple[str, str]]:
    """Returns digest and prompt of a taste's images."""
    found, token = list[tuple[str, str]](), ""
    while True:
        page = gateway.client.rater.list_images(taste=gateway.taste, filter=filter_, page_size=1000, page_token=token)
        found += [(image.digest, image.prompt) for image in page.images]
        token = page.next_page_token
        if not token:
            return found


@contextmanager
def bed() -> Iterator[Bed]:
    """Holds the services up in build/bench/night/home."""
    home = Home(NIGHT / "home")
    nights = NightStore(home.root)
    with nights.lock(), open_session(home) as session:
        yield Bed(session, nights, open_prompts(PROMPTS, 0))


def trial(bed: Bed, person: NightPerson, policy: Policy, asked: dict[str, Any]) -> dict[str, Any]:
    """Grades, sleeps, and tells the truth of every unit.

    Args:
        bed: the services.
        person: whose taste.
        policy: settings of night and guards.
        asked: "seed", "labels", "units", "images", "evaluation", "fresh".
    """
    gateway = begun(bed, person, policy.name, asked)
    state = sleep(bed, gateway.taste, policy, asked)
    found = _truth(bed, person, state, gateway, asked)
    if asked.get("curve"):
        found["scales"] = _scales(bed, person, state, gateway, asked)
    return found


def begun(bed: Bed, person: NightPerson, purpose: str, asked: dict[str, Any]) -> NightServices:
    """Returns the services of a taste of its own, with the base model's pool in it and the person's grades.

    Args:
        bed: the services.
        person: who grades.
        purpose: what the taste is for; another purpose is another taste.
        asked: "seed", "labels".
    """
    name = files.derived_id("bench", person.number, purpose, files.canonical(asked).decode())
    taste = f"tastes/b{name[:12]}"
    gateway = NightServices(bed.session, taste)
    if taste not in {one.name for one in bed.session.client.rater.list_tastes(page_size=1000).tastes}:
        bed.session.client.rater.create_taste(taste_id=taste.removeprefix("tastes/"), request_id=name)
    draws, pool = bed.base("pool", POOL)
    images = [messages.image(digest, draw) for digest, draw in zip(pool, draws, strict=True)]
    gateway.add(images, "base")
    have = gateway.state().labels
    while have < asked["labels"]:
        have = grade(bed, gateway, person, asked["seed"], min(ROUND, asked["labels"] - have))
    return gateway


def grade(
    bed: Bed, gateway: NightServices, person: NightPerson, seed: int, count: int, units: Sequence[str] = ()
) -> int:
    """Lets the person grade what the rater asks, fits it, and returns how many grades there are now.

    Args:
        bed: the services.
        gateway: of the taste.
        person: who grades.
        seed: of the questions and of the person's noise.
        count: how many at the most.
        units: ids of the models whose images are asked about; any where empty.
    """
    rater, have = bed.session.client.rater, gateway.state().labels
    found = rater.suggest_images(
        taste=gateway.taste,
        count=count,
        seed=image_seed(seed, "suggest", have),
        no_repeats=True,
        filter=rater_pb2.ImageFilter(units=units),
    ).suggestions
    if not found:
        return have
    digests = [one.image.digest for one in found]
    said = person.say(bed.look(digests)[0], have, np.random.default_rng((12, person.number, seed, have)))
    labels = [
        rater_pb2.Label(image_digest=one.image.digest, grade=int(grade), reason=one.reason)
        for one, grade in zip(found, said, strict=True)
    ]
    rater.record_labels(taste=gateway.taste, labels=labels, request_id=files.derived_id(gateway.taste, *digests))
    have += len(labels)
    for _ in rater.fit_rater(taste=gateway.taste, seed=seed, request_id=files.derived_id(gateway.taste, "fit", have)):
        continue
    return have


def sleep(bed: Bed, taste: str, policy: Policy, asked: dict[str, Any], day: int = 0) -> dict[str, Any]:
    """Runs a night of a taste, or goes on with it, and returns its state.

    Args:
        bed: the services.
        taste: whose night.
        policy: settings of night and guards.
        asked: "seed", "units", "images", "evaluation".
        day: number of the night where the taste has several.
    """
    settings = night_settings()(
        units=asked["units"],
        images=asked["images"],
        evaluation_images=asked["evaluation"],
        guidance_scale=GUIDANCE,
        reserve_gib=0.25,
        **policy.night,
    )
    guards = GuardSettings(units_per_night=10, **policy.guards)
    parts = (taste, preparation.plain(settings), preparation.plain(guards))
    night = files.derived_id(*parts, *([day] if day else []))
    seed = asked["seed"] + day
    request = preparation.new_request("converge", taste, seed, settings, guards, bed.prompts, night)
    if not (bed.nights.folder / night / "request.json").exists():
        files.write_json(bed.nights.folder / night / "request.json", vars(request))
        bed.nights.write(night, {"night": night, "state": "new", "system": "converge", "steps": [], "units": []})
    state = bed.nights.read(night)
    if state["state"] in store.ENDED:
        return state
    reader = (lambda digests: bed.look(digests)[1]) if policy.reader else None
    steps = NightSteps(_studio(bed, taste, policy, request), request, _quiet, intact=reader)
    return NightWorkflow(bed.nights, steps, _never).run(bed.session).plain()


def _studio(bed: Bed, taste: str, policy: Policy, request: NightRequest) -> NightServices:
    if policy.weighted:
        weighted = WeightedServices(bed.session, taste, request.id)
        weighted.temperature = policy.weighted
        return weighted
    if not policy.naive:
        return NightServices(bed.session, taste, request.id)
    gateway = NaiveServices(bed.session, taste, request.id)
    gateway.replace = policy.naive == "replace"
    return gateway


def _truth(
    bed: Bed, person: NightPerson, state: dict[str, Any], gateway: NightServices, asked: dict[str, Any]
) -> dict[str, Any]:
    units, served = [], state["served"]["unit"]
    first = min((one["unit"] for one in state["units"] if one["unit"]), default=1)
    base, _ = bed.look(state["units"][0]["evaluation"])
    draws, fresh_base = bed.base("fresh", asked["fresh"])
    for one in state["units"]:
        if "evaluation" not in one:
            continue
        table, real = bed.look(one["evaluation"])
        entry = {"unit": one["unit"], "promoted": bool(one.get("promoted")), "realism": real}
        entry |= figures(person, table, base) | {"vendi": one["scores"]["vendi"]["value"]}
        entry |= {"rater": one["scores"]["utility"]["value"], "seconds": one["seconds"]}
        if one["unit"] in (served, first, first + 2, first + 4) and one["unit"]:
            model = Model(model=one["model"], adapter=one["adapter"])
            after, _ = bed.look(bed.make(gateway, draws, model))
            entry["blind"] = figures(person, after, bed.look(fresh_base)[0])
        units.append(entry)
    reason = state["reason"]["name"] if state["reason"] else ""
    return {"units_made": units, "served": served, "state": state["state"], "reason": reason, "nats": state["nats"]}


def _scales(
    bed: Bed, person: NightPerson, state: dict[str, Any], gateway: NightServices, asked: dict[str, Any]
) -> list[dict[str, float]]:
    """Returns scale, Vendi as a share of the base model's and truth of the served unit's fresh images; none of base."""
    draws, before = bed.base("fresh", asked["fresh"])
    served = next(one for one in state["units"] if one["unit"] == state["served"]["unit"])
    if not served["unit"]:
        return []
    base, _ = bed.look(before)
    least, found = gateway.diversity(before).vendi, []
    model = Model(model=served["model"], adapter=served["adapter"])
    for scale in (SERVED_SCALE, *SCALES) if asked["curve"] == "whole" else (SERVED_SCALE,):
        made = bed.make(gateway, draws, model, scale)
        table, real = bed.look(made)
        vendi = gateway.diversity(made).vendi / least
        found.append({"scale": scale, "vendi": vendi, "realism": real, **figures(person, table, base)})
    return found


def figures(person: NightPerson, table: np.ndarray, base: np.ndarray) -> dict[str, float]:
    """Returns the truth of images (N, C) and of as many of the base model at the same prompts and seeds."""
    after, before = person.utility(table), person.utility(base)
    grades = person.grades(after)
    return {
        "gain": float((after.mean() - before.mean()) / person.spread),
        "ssr": float((grades >= SSR).mean()),
        "ur": float((grades == UR).mean()),
        "ssr_base": float((person.grades(before) >= SSR).mean()),
        "ur_base": float((person.grades(before) == UR).mean()),
        "win": float((after > before).mean() + 0.5 * (after == before).mean()),
    }


def _quiet(name: str, done: int, total: int, made: str = "") -> None:
    return None


def _never() -> bool:
    return False
