"""The demo's work: reference images, a graded seed batch, a night, and then the truth."""

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from konomi import errors, files
from konomi.evaluation.simulated_person import SimulatedPerson
from konomi.host.session import Session
from konomi.i18n.catalogue import text
from konomi.night import metrics
from konomi.night.draws import Draw, image_seed
from konomi.night.engine import preparation, runner
from konomi.night.engine.progress import View
from konomi.night.engine.steps import GROUPS
from konomi.night.gateway import messages
from konomi.night.gateway.services import NightServices
from konomi.night.records.fit import Model
from konomi.night.records.request import NightRequest
from konomi.night.records.state import ENDED, NightState, UnitRecord
from konomi.night.records.store import NightStore
from konomi.night.report.truth import TrueUnit
from konomi.night.settings import NightSettings
from konomi.settings import KonomiSettings
from konomi.v1 import rater_pb2


class DemoSettings(KonomiSettings):
    """Settings of `konomi demo`; those of its night are the night's own."""

    model_config = SettingsConfigDict(
        env_prefix="KONOMI_DEMO_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )
    toml_table: ClassVar[str] = "demo"

    prompts: int = Field(24, ge=1)
    """Open prompts the whole demo draws from."""
    reference: int = Field(256, ge=20, le=256)
    """Fixed prompts and seeds every unit's true rates rest on; the base model's images fix the person's tiers."""
    pool: int = Field(448, ge=8)
    """Images of the base model the person may be shown."""
    guidance_scale: float = Field(3.0, ge=1, le=30)
    """Classifier-free guidance of every image of the demo: open prompts need less of it than detailed ones."""
    rounds: int = Field(4, ge=1)
    """Rounds of labelling; the rater is fitted after each."""
    reserve_gib: float = Field(0.25, ge=0)
    """Disk space that must stay free while the demo runs, in GiB."""


GOOD, BEST = 4, 5
"""Grades SSR and UR."""

TOO_FEW_LABELS = "TOO_FEW_LABELS"
"""Reason of a rater that cannot be fitted yet."""


@dataclass(frozen=True)
class RaterQuality:
    """How good the rater is on fresh images of the base model, against the truth.

    Attributes:
        rank: rank agreement (Spearman).
        ssr_auc: how well it tells SSR or better from the rest.
        ur_precision: average precision in finding UR.
        ur_share: share of UR, which chance alone would reach.
    """

    rank: metrics.Estimate
    ssr_auc: metrics.Estimate
    ur_precision: metrics.Estimate
    ur_share: float


class Demo:
    """One demo on running services; every phase may be run again without harm.

    Args:
        session: the services.
        person: the simulated person.
        prompts: open prompts.
        seed: seed everything is derived from.
        settings: settings of the demo.
        night: settings of its night.
        view: where progress is shown.
    """

    def __init__(
        self,
        session: Session,
        person: SimulatedPerson,
        prompts: list[str],
        seed: int,
        settings: DemoSettings,
        night: NightSettings,
        view: View,
    ) -> None:
        self.session, self.person, self.prompts, self.seed = session, person, prompts, seed
        self.settings, self.night, self.view = settings, night, view
        self.taste = "tastes/default"
        self.phases: list[tuple[str, float]] = []

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Shows a phase and notes how long it took."""
        self.session.tend()
        self.view.beat(name, 0, 0)
        started = time.monotonic()
        yield
        self.phases.append((name, time.monotonic() - started))

    @property
    def gateway(self) -> NightServices:
        """The services as the demo's taste uses them."""
        return NightServices(self.session, self.taste)

    def draws(self, purpose: str, count: int) -> list[Draw]:
        """Returns prompts and seeds of a purpose; no two purposes share a seed."""
        order = self.prompts
        return [Draw(order[i % len(order)], image_seed(self.seed, purpose, i), "base") for i in range(count)]

    def make(self, draws: list[Draw], model: Model | None) -> list[str]:
        """Makes images with the settings of the night."""
        return self.gateway.generate(draws, model, self.night, self.view.beat)

    def choose_taste(self, nights: NightStore) -> None:
        """Takes the taste of this very demo where it ran before, else "default", else a new one of its own."""
        key = files.derived_id("taste", files.canonical(self.person.introduction).decode(), self.seed)
        path = nights.folder / "demos.json"
        tastes = files.read_json(path)
        rater = self.session.client.rater
        if key not in tastes:
            taken = {taste.name for taste in rater.list_tastes(page_size=1000).tastes}
            tastes[key] = "default" if "tastes/default" not in taken else f"demo-{key[:8]}"
            files.write_json(path, tastes)
        self.taste = f"tastes/{tastes[key]}"
        try:
            rater.get_taste(name=self.taste)
        except errors.NotFound:
            rater.create_taste(taste_id=tastes[key], request_id=key)

    def reference(self) -> list[str]:
        """Makes the base model's images of the fixed prompts; they fix the person's tiers and are never trained on."""
        digests = self.make(self.draws("reference", self.settings.reference), None)
        self.person.tiers(digests)
        return digests

    def pool(self) -> None:
        """Makes the seed batch and makes it known to the taste."""
        draws = self.draws("pool", self.settings.pool)
        digests = self.make(draws, None)
        images = [messages.image(digest, draw) for digest, draw in zip(digests, draws, strict=True)]
        self.gateway.add(images, "base")

    def label(self, wanted: int) -> int:
        """Lets the person grade what the rater suggests, round by round; returns how many labels there are.

        The first rounds of a small batch are too few for a fit, and a whole small batch may be of one grade: the person
        grades on until the rater can be fitted.
        """
        state = self.gateway.state()
        have, size = int(state.labels), max(1, math.ceil(wanted / self.settings.rounds))
        fitted = bool(state.rater_version) or (have >= wanted and self._fit(have))
        while have < wanted or not fitted:
            self.session.tend()
            graded = self._round(min(size, wanted - have) if have < wanted else size, have)
            if graded == 0:
                message = text(
                    "The pool has no ungraded images left after {have} labels; ask for fewer labels.", have=have
                )
                raise errors.FailedPrecondition(message, reason="POOL_EMPTY")
            have += graded
            self.view.beat("label", have, max(have, wanted))
            fitted = self._fit(have)
        return have

    def _round(self, count: int, turn: int) -> int:
        reply = self.session.client.rater.suggest_images(
            taste=self.taste, count=count, seed=image_seed(self.seed, "suggest", turn), no_repeats=True
        )
        digests = [suggestion.image.digest for suggestion in reply.suggestions]
        if not digests:
            return 0
        grades = self.person.grade(digests, self.seed)
        labels = [
            rater_pb2.Label(
                image_digest=suggestion.image.digest, grade=rater_pb2.Grade.ValueType(grade), reason=suggestion.reason
            )
            for suggestion, grade in zip(reply.suggestions, grades, strict=True)
        ]
        request_id = files.derived_id(self.taste, self.seed, *digests)
        self.session.client.rater.record_labels(taste=self.taste, labels=labels, request_id=request_id)
        return len(labels)

    def _fit(self, have: int) -> bool:
        """Fits the rater; says whether there were labels enough."""
        request_id = files.derived_id(self.taste, self.seed, "fit", have)
        try:
            for _ in self.session.client.rater.fit_rater(taste=self.taste, seed=self.seed, request_id=request_id):
                continue
        except errors.FailedPrecondition as error:
            if error.reason != TOO_FEW_LABELS:
                raise
            return False
        return True

    def request(self, nights: NightStore, system: str, guards: Any) -> NightRequest:
        """Returns the demo's night: the one it began before, or a new one."""
        plain = preparation.plain(self.night)
        key = files.canonical([self.person.introduction, plain, self.prompts, self.seed, system]).decode()
        asked = preparation.new_request(
            system, self.taste, self.seed, self.night, guards, self.prompts, files.derived_id("demo", key)
        )
        if (nights.folder / asked.id / "request.json").exists():
            return nights.request(asked.id)
        return nights.begin(asked.asked, lambda: preparation.complete_request(asked, self.session, nights))

    def sleep(self, nights: NightStore, request: NightRequest, stopped: Callable[[], bool]) -> NightState:
        """Runs the night, unattended."""
        state = nights.state(request.id)
        if state.state in ENDED:
            return state
        state = runner.run(nights, request, self.session, stopped, self.view)
        if state.state not in ENDED:
            raise errors.Cancelled(
                text("The demo was asked to stop; the same command with the same --home goes on from here.")
            )
        return state

    def truth(self, state: NightState, reference: list[str]) -> list[TrueUnit]:
        """Returns what the person truly thinks of fresh images of every unit, at the fixed prompts and seeds."""
        units = []
        for record in state.units:
            if not record.adapter and record.unit != 0:
                continue
            model = Model(model=record.model, adapter=record.adapter) if record.unit else None
            draws = self.draws("reference", self.settings.reference)
            digests = self.make(draws, model) if model else reference
            units.append(self._measure(record, digests))
        return units

    def _measure(self, record: UnitRecord, digests: list[str]) -> TrueUnit:
        truth = self.person.truth(digests)
        grades, n = truth.grades, len(digests)
        size = n // GROUPS
        groups = [self.gateway.diversity(digests[at : at + size]).vendi for at in range(0, size * GROUPS, size)]
        return TrueUnit(
            number=record.unit,
            digests=digests,
            grades=grades,
            utilities=truth.utilities,
            whole=truth.realism,
            utility=metrics.mean(truth.utilities),
            ssr=metrics.share(sum(grade >= GOOD for grade in grades), n),
            ur=metrics.share(sum(grade == BEST for grade in grades), n),
            vendi=metrics.from_groups(self.gateway.diversity(digests).vendi, groups, n),
            seconds=record.seconds,
            promoted=record.promoted,
        )

    def quality(self, base: TrueUnit) -> RaterQuality:
        """Returns how good the rater is on the base model's fresh images, against the truth."""
        scores = [score.utility for score in self.gateway.score(base.digests)]
        best = [grade == BEST for grade in base.grades]
        return RaterQuality(
            rank=metrics.spearman(scores, base.utilities),
            ssr_auc=metrics.auc(scores, [grade >= GOOD for grade in base.grades]),
            ur_precision=metrics.average_precision(scores, best),
            ur_share=sum(best) / len(best),
        )


def spread_of(base: TrueUnit) -> float:
    """Returns the standard deviation of the true utility on the base model's images."""
    return float(statistics.pstdev(base.utilities))
