"""What a night has yet to do: replayed from recorded nights, it neither falls to nothing early nor grows at the end."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from konomi.files import write_json
from konomi.night import budgets, remaining
from konomi.night.records.request import NightRequest
from konomi.night.records.state import NightState, StateName, UnitRecord
from konomi.night.records.store import NightStore
from konomi.night.remaining import UnderWay, Work, seconds_left, share_done, work_left
from konomi.night.systems.registry import night_settings

RECORDED = json.loads((Path(__file__).parents[1] / "engine" / "measured_nights.json").read_text())
"""What every step of four real nights took, with the bundled models on two cores (2026-11-22)."""


def request(settings: dict, system: str = "converge") -> NightRequest:
    return NightRequest("n", "n", "tastes/default", system, 0, ["a"], ["a"], settings, {})


def keep(nights: NightStore, name: str, told: dict, state: NightState) -> None:
    fields = {"id": name, "asked": "", "taste": "tastes/default", "system": "converge", "seed": 0, "prompts": []}
    given = fields | {"evaluation_prompts": [], "settings": told["settings"], "guards": {}}
    write_json(nights.folder / name / "request.json", given)
    nights.write(name, state)


def states(steps: list) -> list[NightState]:
    """Returns the record of a night before its first step and after each, as the loop publishes them."""
    state, seen = NightState(state=StateName.RUNNING), [NightState(state=StateName.RUNNING)]
    for name, seconds, images in steps:
        unit = name.partition("/")[0].removeprefix("unit-")
        known = {record.unit for record in state.units}
        if unit.isdecimal() and int(unit) not in known:
            number = int(unit)
            system = {"system": "converge", "parent": 0, "stage": 0} if number else {"decision": "start"}
            state = state.with_unit(UnitRecord(unit=number, **system))
            seen[-1] = state  # a unit is opened before its first step
        state = budgets.note(state, name, {"seconds": seconds, "value": {}}, images)
        if name.endswith("/judge"):
            state = state.with_unit(state.unit(int(unit)).changed(decision="promote"))
        seen.append(state)
    return seen


def left_after_each(nights: NightStore, told: dict) -> list[float]:
    asked = request(told["settings"])
    said = [seconds_left(nights, asked, state) for state in states(told["steps"])]
    assert None not in said
    return said


@pytest.mark.parametrize("night", range(1, len(RECORDED)))
def test_a_recorded_night_is_foretold_at_every_step_by_the_one_before(tmp_path, night):
    nights, told = NightStore(tmp_path), RECORDED[night]
    keep(nights, "before", RECORDED[night - 1], states(RECORDED[night - 1]["steps"])[-1])
    said = left_after_each(nights, told)
    took = [seconds for _, seconds, _ in told["steps"]]
    truly = [sum(took[place:]) for place in range(len(took) + 1)]
    for place, (foretold, true) in enumerate(zip(said, truly, strict=True)):
        assert foretold == pytest.approx(true, rel=0.25, abs=4.0), told["steps"][place - 1]
    last = next(place for place, (name, _, _) in enumerate(told["steps"]) if name == "unit-3/evaluate-000")
    assert all(later <= earlier for earlier, later in pairwise(said[last:])), "it does not grow at the end"
    assert said[-3] > 0, "it is not over while something is left to do"


def drafted(units: int, redraws: int, base: int) -> list:
    """Steps of a night that draws drafts at 0.1 s, and in full at 1 s what it redraws and the base model's images."""
    steps = [["plan", 0.1, 0], ["unit-0/evaluate-000", 16.0, 16], ["unit-0/score", 1.0, 0]]
    for unit in range(1, units + 1):
        steps += [[f"unit-{unit}/draft-{n:03d}", 4.0, 40] for n in range(2)]
        steps += [[f"unit-{unit}/rate", 1.0, 0]]
        steps += [[f"unit-{unit}/generate-{n:03d}", float(part), part] for n, part in enumerate((redraws - 9, 9))]
        steps += [[f"unit-{unit}/select", 1.0, 0]]
        steps += [[f"unit-{unit}/generate-base-000", float(base), base], [f"unit-{unit}/select-again", 1.0, 0]]
        steps += [[f"unit-{unit}/train", 20.0, 0], [f"unit-{unit}/evaluate-000", 16.0, 16]]
        steps += [[f"unit-{unit}/score", 1.0, 0], [f"unit-{unit}/judge", 0.5, 0]]
    return steps


def drafts_settings(**more) -> dict:
    return {"units": 3, "images": 80, "evaluation_images": 16, "steps": 10, "draft": "on", **more}


def test_drafts_redraws_and_base_images_count_in_full(tmp_path):
    settings = drafts_settings()
    wanted = budgets.redrawn(80, night_settings()(**settings))
    told = {"settings": settings, "steps": drafted(3, wanted, 12)}
    nights = NightStore(tmp_path)
    keep(nights, "before", told, states(told["steps"])[-1])
    rates = budgets.measured(nights)
    assert (rates["draft"], rates["generate"], rates["base"]) == pytest.approx((0.1, 1.0, 12.0))
    said = left_after_each(nights, told)
    took = [seconds for _, seconds, _ in told["steps"]]
    for place, foretold in enumerate(said):
        assert foretold == pytest.approx(sum(took[place:]), rel=0.1, abs=2.0), told["steps"][place - 1]
    assert all(later <= earlier + 1e-6 for earlier, later in pairwise(said)), "it never grows"


def test_more_redraws_than_the_least_are_waited_for_and_fewer_are_not(tmp_path):
    """The last night redrew as few as can be and needed no base images; this one redraws and needs more."""
    settings = drafts_settings()
    wanted = budgets.redrawn(80, night_settings()(**settings))
    nights = NightStore(tmp_path)
    before = {"settings": settings, "steps": [step for step in drafted(2, wanted, 0) if "base" not in step[0]]}
    keep(nights, "before", before, states(before["steps"])[-1])
    told = {"settings": settings, "steps": drafted(3, wanted + 20, 12)}
    said = left_after_each(nights, told)
    assert all(seconds > 0 for seconds in said[:-1]), "never nothing while a step is left"
    first = [name for name, _, _ in told["steps"]].index("unit-2/draft-000")
    grows = [(earlier, later) for earlier, later in pairwise(said[first:]) if later > earlier + 1e-6]
    assert not grows, "what the first unit needed the next are expected to need"


def test_the_step_under_way_counts(tmp_path):
    settings = night_settings()(**drafts_settings(draft="off", units=1))
    state = states([["plan", 0.1, 0], ["unit-0/evaluate-000", 16.0, 16], ["unit-0/score", 1.0, 0]])[-1]
    assert work_left(settings, "converge", state) == Work(0.0, 80.0, 0.0, 16.0, 10.0, 1.0)
    state = state.with_unit(UnitRecord(unit=1, system="converge", parent=0, stage=0))
    half = work_left(settings, "converge", state, UnderWay("unit-1/generate-000", 30))
    assert (half.generate, half.evaluate, half.train) == (50.0, 16.0, 10.0)
    fitting = work_left(settings, "converge", state, UnderWay("unit-1/train", 4))
    assert (fitting.generate, fitting.evaluate, fitting.train) == (0.0, 16.0, 6.0)
    looking = work_left(settings, "converge", state, UnderWay("unit-1/evaluate-000", 6))
    assert (looking.generate, looking.evaluate, looking.train) == (0.0, 10.0, 0.0)
    base = work_left(settings, "converge", state, UnderWay("unit-1/generate-base-000", 5), base=8.0)
    assert (base.generate, base.base, base.train) == (0.0, 3.0, 10.0)


def test_a_stage_that_ended_early_is_not_waited_for():
    settings = night_settings()(units=4, images=80, evaluation_images=16, steps=10)
    state = NightState(state=StateName.RUNNING)
    state = state.with_unit(UnitRecord(unit=1, system="longtail", parent=0, stage=0, decision="keep"))
    state = state.with_unit(UnitRecord(unit=2, system="converge", parent=0, stage=1))
    left = work_left(settings, "longtail:3+converge:1", state)
    assert (left.generate, left.evaluate, left.rest) == (settings.images, 16.0, 1.0)


def test_the_share_goes_from_nothing_to_all_and_never_back():
    told = {"settings": drafts_settings(), "steps": drafted(3, 24, 12)}
    asked = request(told["settings"])
    shares = [share_done(asked, state) for state in states(told["steps"])]
    assert shares[0] == 0.0 and all(0 <= share <= 0.99 for share in shares)
    settled = shares[[name for name, _, _ in told["steps"]].index("unit-2/draft-000") :]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(settled))
    ended = states(told["steps"])[-1].changed(state=StateName.FINISHED)
    assert share_done(asked, ended) == 1.0


def test_a_step_that_begins_has_done_nothing_and_one_that_ended_counts_once():
    """The page keeps the furthest share: what is said too much for a moment would stay."""
    told = {"settings": drafts_settings(units=1), "steps": drafted(1, 24, 12)}
    asked, seen = request(told["settings"]), states(told["steps"])
    for (name, _, images), before, after in zip(told["steps"], seen, seen[1:], strict=False):
        assert share_done(asked, before, UnderWay(name, 0)) <= share_done(asked, after) + 1e-9, name
        stale = UnderWay(name, told["settings"]["steps"] if name.endswith("/train") else images)
        assert share_done(asked, after, stale) == share_done(asked, after), name
    fitting = next(state for step, state in zip(told["steps"], seen, strict=False) if step[0] == "unit-1/train")
    shares = [share_done(asked, fitting, UnderWay("unit-1/train", done)) for done in range(11)]
    assert all(earlier < later for earlier, later in pairwise(shares))


@pytest.mark.parametrize(
    ("system", "setting"), [("converge", "steps"), ("propagate", "propagate_steps"), ("concepts", "concept_steps")]
)
def test_a_fit_counts_the_steps_of_its_own_system(system, setting):
    settings = drafts_settings(steps=160, propagate_steps=40, concept_steps=250, draft="off")
    asked, name = request(settings, f"{system}:2"), "unit-1/train"
    begun = NightState(state=StateName.RUNNING).with_unit(UnitRecord(unit=1, system=system, parent=0, stage=0))
    begun = budgets.note(begun, "unit-1/generate-000", {"seconds": 9.0, "value": {}}, 16)
    fitted = budgets.note(begun, name, {"seconds": 8.0, "value": {}}, 0)
    whole = share_done(asked, begun, UnderWay(name, settings[setting]))
    assert share_done(asked, fitted) == whole > share_done(asked, begun, UnderWay(name, settings[setting] // 2))
    kind = night_settings()
    assert budgets.rates_so_far(fitted, kind(**settings))["train"] == 8.0 / settings[setting]


def test_without_a_measured_night_the_share_says_it_and_at_first_nothing_does(tmp_path):
    nights, asked = NightStore(tmp_path), request(drafts_settings())
    seen = states(drafted(3, 24, 12))
    assert seconds_left(nights, asked, seen[0]) is None
    share = share_done(asked, seen[5])
    assert seconds_left(nights, asked, seen[5]) == pytest.approx(seen[5].seconds * (1 - share) / share)
    assert seconds_left(nights, asked, seen[-1].changed(state=StateName.FINISHED)) == 0.0
    assert remaining.KNOWN_SHARE < 1


def test_of_a_system_of_another_version_nothing_is_foretold(tmp_path):
    state = states(drafted(1, 24, 12))[4]
    for system in ("weave", "weave:2+converge:1", "converge:x"):
        asked = request(drafts_settings(), system)
        assert share_done(asked, state) == 0.0 and seconds_left(NightStore(tmp_path), asked, state) is None
        assert share_done(asked, state.changed(state=StateName.FINISHED)) == 1.0
