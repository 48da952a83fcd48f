"""Where a night begins and what it asks the rater for: by the version it keeps, for its unit, from the pool it drew."""

from types import SimpleNamespace

import pytest

from konomi.night.draws import UnitContext
from konomi.night.engine.steps import NightSteps
from konomi.night.gateway.messages import TasteState
from konomi.night.gateway.services import NightServices
from konomi.night.records.fit import Model
from konomi.night.records.request import NightRequest
from konomi.night.records.state import RaterReport, Selection, Served
from konomi.night.systems.concepts.steps import ConceptSteps
from konomi.night.systems.propagate.steps import GrowthSteps, GrowthView, Member
from konomi.night.systems.registry import night_settings

PINNED, ACTIVE = "tastes/default/raterVersions/1", "tastes/default/raterVersions/2"


class Taste(NightServices):
    """A taste with so many images and some models, whose rater was fitted anew meanwhile; it keeps what it is asked."""

    drawing = 0
    """How many draw at the same time, by the generator."""

    def __init__(self, pool: int = 0, models: tuple[Model, ...] = (), usable: tuple[str, ...] = ()) -> None:
        store = SimpleNamespace(put=lambda data, media_type: SimpleNamespace(digest="d" * 64))
        generator = SimpleNamespace(list_base_models=lambda: SimpleNamespace(places=self.drawing))
        client = SimpleNamespace(artifacts=store, generator=generator)
        super().__init__(SimpleNamespace(client=client), "tastes/default")
        self.pool, self.known, self.usable, self.asked, self.gone = pool, models, usable, [], []

    def count(self, grades=(), sources=()):
        return self.pool

    def select(self, asked, seed):
        self.asked.append((asked, seed))
        return Selection(n=12, base_share=0.25)

    def rater(self):
        return RaterReport(version=ACTIVE)

    def state(self):
        return TasteState(40, 40, ACTIVE, "starter")

    def models(self):
        return list(self.known)

    def models_on(self, base_model):
        return set(self.usable)

    def withdrawn(self):
        return self.gone


def steps(taste: Taste, system: str = "converge", **changes) -> NightSteps:
    settings = night_settings()(near_copy_cosine=1.0, **changes).model_dump()
    return NightSteps(taste, NightRequest("n", "", "tastes/default", system, 1, ["a"], ["a"], settings, {}), print)


def test_images_made_for_the_share_of_the_base_ask_for_no_larger_choice():
    taste = Taste(pool=400)
    night, context = steps(taste), UnitContext(2, 1, "converge", 0.0, {})
    night.select(context, [])
    taste.pool += 60
    night.select(context, [], 60)
    night.select(context, [])
    (first, seed), (again, same), (larger, _) = taste.asked
    assert (again, same) == (first, seed) and larger["count"] > first["count"]
    assert first["purpose"] == "n/unit-2", "the rater counts what was chosen last for it"


def test_what_is_chosen_by_grades_asks_for_all_of_them():
    taste = Taste(pool=20)
    night, context = steps(taste, "golden"), UnitContext(1, 1, "golden", 0.0, {})
    night.select(context, [])
    night.select(context, [], 4)
    assert taste.asked[0] == taste.asked[1], "images of the base model are none of those graded UR"


@pytest.mark.parametrize(
    ("usable", "gone", "start", "before"),
    [
        (("m1", "m2"), [], "m2", None),
        (("m1",), [], None, Served(unit=2, model="m2")),
        ((), [], None, Served(unit=2, model="m2")),
        ((), ["m2"], None, None),
        (("m1", "m2"), ["m2"], None, None),
    ],
)
def test_a_plan_names_what_is_in_use_where_the_night_cannot_begin_from_it(usable, gone, start, before):
    taste = Taste(models=(Model(model="m2", unit=2, current=True), Model(model="m1", unit=1)), usable=usable)
    taste.gone = gone
    plan = steps(taste).plan()
    assert (plan.start and plan.start.model, plan.before, plan.first) == (start, before, 3)
    assert plan.places == 1, "an older generator does not say how many draw"


def test_a_plan_keeps_how_many_drew_when_the_night_began():
    taste = Taste()
    taste.drawing = 8
    assert steps(taste).plan().places == 8


def test_a_frozen_set_names_the_rater_the_night_keeps():
    taste = Taste()
    chained = steps(taste, seed_images=["a" * 64])
    seen = GrowthView(set="s" * 64, members=(Member(digest="a" * 64, prompt="p", depth=0),), removed=(), bare="")
    for version, named in (("", ACTIVE), (PINNED, PINNED)):  # a night of an earlier version kept none
        chained.keep_rater(version)
        assert ConceptSteps(chained).freeze().rater_version == named
        assert GrowthSteps(chained).freeze(seen).rater_version == named
