"""Whether a base model can draw a taste, before a night is spent on it: a few images, held against what was graded.

A base model is typical of itself whatever it draws, so its images are compared with the graded ones alone. A taste all
of whose graded images this base model made needs no trial.
"""

import hashlib
import json
from pathlib import Path

from konomi.night import metrics
from konomi.night.draws import Draw, image_seed, shuffled
from konomi.night.gateway.drawing import Beat
from konomi.night.gateway.measures import graded_of
from konomi.night.gateway.services import NightServices
from konomi.night.guards import LIKE
from konomi.night.records import trial as records
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.records.trial import Trial
from konomi.night.records.trial import figures as figures
from konomi.night.records.trial import warning as warning
from konomi.night.settings import NightSettings
from konomi.night.systems.registry import night_settings

IMAGES = 16
GRADES = ("N", "R", "SR", "SSR", "UR")
ELSEWHERE = ("consented", "scraped", "imported")
"""Sources of images no base model of this home made."""
FOLDER = Path("cache") / "trials"


def needed(gateway: NightServices, request: NightRequest, nights: NightStore) -> bool:
    """Says whether a base model has to show first what it draws of a taste.

    It has where images made elsewhere are graded, or where the taste's own were made by another base model.
    """
    if gateway.count(GRADES, ELSEWHERE):
        return True
    earlier = [nights.request(night).settings.get("base_model") for night in nights.ended(request.taste)]
    maker = earlier[-1] if earlier else night_settings().model_fields["base_model"].default
    return settings_of(request).base_model != maker and bool(gateway.count(GRADES))


def look(gateway: NightServices, request: NightRequest, home: Path, beat: Beat) -> Trial:
    """Returns the trial of a night, made now or kept since the same was asked.

    Args:
        gateway: the services.
        request: of the night, its prompts known.
        home: the home, whose cache keeps it.
        beat: called after every image.
    """
    trial = kept(gateway, request, home)
    if trial is None:
        trial = _made(gateway, settings_of(request), draws(request), beat)
        records.keep(_file(gateway, request, home), trial)
    return trial


def kept(gateway: NightServices, request: NightRequest, home: Path) -> Trial | None:
    """Returns the trial `look` would return without drawing anything; None where it would draw."""
    return records.read(_file(gateway, request, home))


def settings_of(request: NightRequest) -> NightSettings:
    """Returns the settings of a request."""
    settings = night_settings()
    return settings(**settings.completed(request.settings))


def draws(request: NightRequest) -> list[Draw]:
    """Returns what a trial draws: the night's prompts in turn, with seeds no pool has."""
    order = shuffled(request.prompts, f"{request.seed}/trial")
    return [Draw(order[i % len(order)], image_seed(request.seed, "trial", i), "base") for i in range(IMAGES)]


def _made(gateway: NightServices, settings: NightSettings, drawn: list[Draw], beat: Beat) -> Trial:
    digests = gateway.generate(drawn, None, settings, beat)
    trial = Trial(base=settings.base_model, digests=tuple(digests), prompts=tuple(draw.prompt for draw in drawn))
    graded, count = graded_of(gateway.client, gateway.taste, digests), len(set(digests))
    if graded is None:
        return trial
    typical, near = (metrics.share(share * count, count) for share in (graded.typical, graded.near_liked))
    return trial.changed(
        graded_n=graded.graded_n,
        liked_n=graded.liked_n,
        typical=typical,
        near_liked=near,
        liked_distance=graded.liked_distance,
        usual_distance=graded.usual_distance,
        far=min(typical["high"], near["high"]) < LIKE,
    )


def _file(gateway: NightServices, request: NightRequest, home: Path) -> Path:
    return home / FOLDER / f"{_key(gateway, settings_of(request), draws(request))}.json"


def _key(gateway: NightServices, settings: NightSettings, drawn: list[Draw]) -> str:
    """Returns the name of a trial: another base model, other prompts or more grades make another one."""
    state = gateway.state()
    asked = [gateway.taste, settings.base_model, settings.sampling_steps, settings.guidance_scale]
    images = [(draw.prompt, draw.seed) for draw in drawn]
    return hashlib.sha256(json.dumps([*asked, state.labels, state.rater_version, images]).encode()).hexdigest()[:32]
