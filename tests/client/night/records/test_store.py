"""The nights of a home, whatever became of their files: their order, what is damaged, and the way on from it."""

import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from konomi import errors
from konomi.cli import commands
from konomi.cli.doctor import checks
from konomi.home import Home
from konomi.night import budgets, verdict
from konomi.night.engine.loop import fresh
from konomi.night.engine.progress import View
from konomi.night.engine.rebuild import SCHEMA, rebuilt
from konomi.night.records.journal import StepJournal
from konomi.night.records.request import NightRequest
from konomi.night.records.sealed import seal_of
from konomi.night.records.state import NightState, Selection, Served, StateName, UnitRecord
from konomi.night.records.store import Heartbeat, NightStore
from konomi.night.report.facts import read_night
from konomi.night.report.status import summary_of
from konomi.night.settings import NightSettings
from konomi.web.nights import NightEndpoints
from tests.client.night.records.test_sealed import put

DAY = 86400.0
DAMAGES = ["cut", "empty", "garbage", "a list", "deep", "folder", "pipe"]


class Clock:
    """Seconds since 1970 that a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def begin(nights: NightStore, name: str, state: StateName = StateName.FINISHED) -> str:
    """Begins a night of a name and brings it to a state; returns its id."""
    settings = {"units": 2, "images": 24, "evaluation_images": 16, "steps": 4}
    request = NightRequest("", name, "tastes/default", "converge", 7, ["a cat"], ["a cat"], settings, {})
    begun = nights.begin(name, lambda: request)
    served = Served(unit=0, model="base")
    nights.write(begun.id, fresh(begun).changed(state=state, served=served))
    nights.deliver(begun.id)
    return begun.id


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nights(tmp_path: Path, clock: Clock) -> NightStore:
    return NightStore(tmp_path, clock)


def unsealed(path: Path) -> None:
    seal_of(path).unlink()


@pytest.mark.parametrize("jump", [-2 * DAY, -3600.0, 2 * DAY])
def test_nights_are_in_the_order_they_began_in_whatever_the_clock_says(nights, clock, jump: float) -> None:
    ids = [begin(nights, "one")]
    for name in ("two", "three", "four"):
        clock.now += jump
        ids.append(begin(nights, name))
    assert nights.all() == ids and nights.latest() == ids[-1]
    assert [nights.began(night) for night in ids] == [1_800_000_000.0 + jump * n for n in range(4)]
    assert read_night(nights, ids[0]).began.year == 2027


def test_touching_copying_and_restoring_a_home_changes_no_order(nights, tmp_path: Path) -> None:
    ids = [begin(nights, name) for name in ("one", "two", "three")]
    for night, age in zip(ids, (5, 900, 0), strict=True):
        for path in (nights.folder / night).iterdir():
            os.utime(path, (1e9 - age, 1e9 - age))
    assert nights.all() == ids
    for number, night in enumerate([ids[2], ids[0], ids[1]]):
        shutil.copytree(nights.folder / night, tmp_path / "copy" / "nights" / night)
        os.utime(tmp_path / "copy" / "nights" / night / "request.json", (1e9 + number, 1e9 + number))
    assert NightStore(tmp_path / "copy").all() == ids


def test_nights_of_before_there_were_numbers_come_first_in_the_order_of_their_files(nights, tmp_path: Path) -> None:
    late = begin(nights, "late")
    for number, name in enumerate(("b", "a")):
        folder = nights.folder / name
        folder.mkdir()
        request = asdict(nights.request(late)) | {"id": name}
        (folder / "request.json").write_text(json.dumps(request))
        (folder / "night.json").write_text(json.dumps({"night": name, "state": "finished", "units": []}))
        os.utime(folder / "request.json", (2e9 + number, 2e9 + number))
    assert nights.all() == ["b", "a", late] and nights.latest() == late


def every_reading(nights: NightStore, home: Path, night: str) -> None:
    """Calls all that reads nights; none may raise anything but a sentence."""
    for work in (
        nights.all,
        nights.damaged,
        nights.unfinished,
        nights.latest,
        lambda: nights.ended("tastes/default"),
        lambda: nights.request(night),
        lambda: summary_of(nights, night),
        lambda: read_night(nights, night),
        lambda: budgets.measured(nights),
        lambda: verdict.audits(nights, "tastes/default", "1"),
        lambda: NightEndpoints(Home(home)).status({}),
        lambda: NightEndpoints(Home(home)).status({"night": night}),
        lambda: NightEndpoints(Home(home)).stop({}),
        lambda: checks.nights(Home(home)),
    ):
        try:
            work()
        except errors.KonomiError as error:
            assert len(str(error.message)) > 20


@pytest.mark.slow
@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("name", ["request.json", "night.json", "verdict.json", "progress.json"])
@pytest.mark.parametrize("copy", [True, False])
def test_no_command_and_no_page_ends_in_a_traceback(nights, tmp_path, capsys, what: str, name: str, copy: bool) -> None:
    good, bad = begin(nights, "good"), begin(nights, "bad")
    path = nights.folder / bad / name
    if not path.exists():
        path.write_text("{}")
    elif not copy:
        unsealed(path)
    put(path, what)
    fresh_store = NightStore(tmp_path)
    every_reading(fresh_store, tmp_path, bad)
    assert good in fresh_store.all(), "the others go on"
    page = NightEndpoints(Home(tmp_path)).status({"night": good})
    assert {line["night"] for line in page["nights"]} == {good, bad} and page["night"]["night"] == good
    lost = name in ("request.json", "night.json") and not copy
    assert checks.nights(Home(tmp_path)).state == ("warn" if lost else "ok")
    for command in (["status"], ["status", "--night", good], ["status", "--json", "--night", bad], ["stop"]):
        code = commands.run(["night", *command, "--home", str(tmp_path)])
        out, err = capsys.readouterr()
        assert code in (0, 1, 3, 4), (command, out, err)
        assert "Traceback" not in err and (code == 0 or len(err) > 20)
    if name == "request.json" and lost:
        commands.run(["night", "status", "--home", str(tmp_path)])
        out, err = capsys.readouterr()
        assert good in out and f"The night {bad} cannot be read: {bad}/request.json is damaged" in err
        assert [line["why"] for line in page["nights"] if line["night"] == bad]


@pytest.mark.parametrize("what", DAMAGES)
@pytest.mark.parametrize("name", ["request.json", "night.json"])
def test_a_record_with_a_copy_is_made_good_and_nothing_is_lost(nights, what: str, name: str) -> None:
    night = begin(nights, "one")
    request, state = nights.request(night), nights.state(night)
    put(nights.folder / night / name, what)
    assert nights.request(night) == request and nights.state(night) == state
    (sentence,) = nights.mend(lambda _: pytest.fail("there is a copy"))
    assert night in sentence and f"{name}.damaged-1" in sentence
    assert NightStore(nights.home).state(night) == state and nights.request(night) == request
    assert nights.mend(lambda _: None) == []


def test_every_flipped_bit_of_a_request_is_noticed(nights) -> None:
    night = begin(nights, "one")
    request, path = nights.request(night), nights.folder / night / "request.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        assert nights.request(night) == request
    seeds = whole.replace(b'"seed": 7', b'"seed": 6')
    assert seeds != whole
    path.write_bytes(seeds)
    assert nights.request(night).seed == 7


@pytest.mark.parametrize("what", DAMAGES)
def test_a_night_whose_request_is_lost_is_set_aside_whole_and_the_others_go_on(nights, what: str) -> None:
    good, bad = begin(nights, "good"), begin(nights, "bad", StateName.RUNNING)
    path = nights.folder / bad / "request.json"
    unsealed(path)
    put(path, what)
    assert nights.unfinished() is None and list(nights.damaged()) == [bad]
    (sentence,) = nights.mend(lambda _: None)
    assert f"{bad}.damaged-1" in sentence and nights.all() == [good] and nights.damaged() == {}
    again = begin(nights, "bad")
    assert nights.all() == [good, again], "what it asked for can be begun anew"


def test_a_request_of_another_version_is_left_where_it_is(nights) -> None:
    good, other = begin(nights, "good"), begin(nights, "other")
    path = nights.folder / other / "request.json"
    unsealed(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"moon": "full"}))
    assert nights.all() == [good] and "another version" in nights.damaged()[other]
    assert nights.mend(lambda _: None) == [] and path.is_file()
    assert sorted(nights.ended("tastes/default")) == sorted([good, other]), "a bundle takes it all the same"


@pytest.mark.parametrize("what", DAMAGES)
def test_a_lost_state_is_told_and_made_again_from_what_the_steps_left(nights, what: str) -> None:
    night = begin(nights, "one", StateName.RUNNING)
    (nights.folder / night / "delivered").unlink()
    journal = StepJournal(nights.folder / night, SCHEMA)
    plan = {"start": None, "first": 1, "rater_version": "raterVersions/3", "rater": {"nats": 0.25}}
    journal.append("plan", {"seconds": 2.0, "value": plan, "stored": 10})
    journal.append("unit-0/evaluate-000", {"seconds": 8.0, "value": {"digests": ["d"] * 16}, "stored": 99})
    path = nights.folder / night / "night.json"
    unsealed(path)
    put(path, what)
    state = nights.state(night)
    assert state.state == StateName.DAMAGED and nights.unfinished() == night
    assert "konomi night resume" in summary_of(nights, night).reason.told("en")
    assert night in summary_of(nights, night).reason.told("ja")
    nights.mend(lambda one: rebuilt(nights, one))
    made = nights.state(night)
    assert (made.state, made.seconds, made.images, made.nats) == (StateName.INTERRUPTED, 10.0, 16, 0.25)
    assert [step.name for step in made.steps] == ["plan", "unit-0/evaluate-000"]
    assert nights.unfinished() == night and (nights.folder / night / "night.json.damaged-1").exists()


def test_a_told_night_of_which_nothing_is_left_is_never_begun_again(nights) -> None:
    night = begin(nights, "one")
    path = nights.folder / night / "night.json"
    unsealed(path)
    path.write_bytes(b"")
    nights.mend(lambda one: rebuilt(nights, one))
    assert nights.state(night).state == StateName.ABANDONED and nights.unfinished() is None


def test_values_of_the_wrong_kind_are_damage_too(nights) -> None:
    night = begin(nights, "one")
    path = nights.folder / night / "night.json"
    unsealed(path)
    path.write_text(json.dumps({"night": night, "units": 5, "steps": "none"}))
    assert nights.state(night).state == StateName.DAMAGED
    assert nights.mend(lambda _: None) == [] and path.is_file(), "it may be another version's"
    nights.mend(lambda one: rebuilt(nights, one))
    assert nights.state(night).state == StateName.ABANDONED


def test_an_answer_that_was_damaged_is_read_from_its_copy(nights) -> None:
    night = begin(nights, "one")
    evaluation = verdict.BlindEvaluation(nights, night)
    evaluation.note_decision("keep", "base", 3.0)
    path = nights.folder / night / "verdict.json"
    path.write_bytes(path.read_bytes().replace(b"keep", b"kelp"))
    assert evaluation.kept.decision == "keep"
    unsealed(path)
    path.write_bytes(b"{")
    with pytest.raises(errors.FailedPrecondition, match=r"verdict\.json is damaged. Move that file away"):
        _ = evaluation.kept
    assert summary_of(nights, night).verdict.decision == "damaged"


@pytest.mark.parametrize("pid", [b"", b"seven", b"\xff\xfe"])
def test_a_damaged_number_of_a_process_is_no_matter(nights, pid: bytes) -> None:
    begin(nights, "one")
    with nights.lock():
        (nights.folder / "pid").write_bytes(pid)
        assert nights.runner() == 0


@pytest.mark.parametrize("jump", [-2 * DAY, 2 * DAY])
def test_a_heartbeat_is_as_old_as_it_is_whatever_the_clock_says(nights, clock, jump: float) -> None:
    night, up = begin(nights, "one", StateName.RUNNING), 5000.0
    view = View(lambda *_: None, lambda beat: nights.beat(night, beat), clock, lambda: up)
    view.beat("plan", 0, 0)
    clock.now += jump
    with nights.lock():
        assert summary_of(nights, night, clock, lambda: up + 7.0).heartbeat_age == 7.0
        (nights.folder / night / "progress.json").write_text(json.dumps({"step": "plan", "time": clock.now - jump}))
        assert summary_of(nights, night, clock, lambda: up).heartbeat_age == max(0.0, jump)


def test_drafts_never_stand_among_images_drawn_in_full() -> None:
    said: list[Heartbeat] = []
    seconds = iter(range(0, 100, 2))
    view = View(lambda *_: None, said.append, lambda: 0.0, lambda: float(next(seconds)))
    for step, made in (("unit-1/draft-000", "ab"), ("unit-1/rate", ""), ("unit-1/generate-000", "c")):
        view.beat(step, 0, 0)
        for done, digest in enumerate(made, start=1):
            view.beat("generate", done, len(made), digest)
    assert [(beat.get("made"), beat.get("drafts")) for beat in said] == [
        (None, None), (["a"], True), (["b", "a"], True),  # drawn
        (["b", "a"], True),  # rated
        (["b", "a"], True), (["c"], False),  # drawn again in full
    ]  # fmt: skip


def test_budgets_count_working_time_which_no_clock_changes(nights, tmp_path) -> None:
    settings = NightSettings(home=tmp_path, budget_hours=1.0)
    state = NightState()
    for _ in range(3):
        state = budgets.note(state, "unit-1/train", {"seconds": 600.0, "value": {}}, 0)
    assert budgets.exhausted(state, settings, 0) is None
    assert budgets.exhausted(state.changed(seconds=3600.0), settings, 0).name == "budget_hours"


def test_a_number_of_another_home_is_not_taken_over(nights, tmp_path: Path) -> None:
    from konomi.taste.bundle import recorded_nights, restore_nights

    ids = [begin(nights, name) for name in ("one", "two", "three")]
    there = Home(tmp_path / "there")
    own = begin(NightStore(there.root), "own")
    restore_nights(there, recorded_nights(Home(tmp_path), ids), "tastes/default")
    assert NightStore(there.root).latest() == own
    assert set(NightStore(there.root).all()) == {*ids, own}
    assert NightStore(there.root).began(ids[0]) == 1_800_000_000.0


def test_the_newest_night_of_a_taste_says_which_images_it_asks_about(tmp_path: Path):
    nights = NightStore(tmp_path)
    asked = {"one": ("a" * 64,), "two": ("b" * 64, "c" * 64)}
    for name, digests in asked.items():
        night = begin(nights, name)
        units = tuple(
            UnitRecord(unit=at + 1, selection=Selection(confirm=(digest,))) for at, digest in enumerate(digests)
        )
        nights.write(night, nights.state(night).changed(units=(UnitRecord(unit=0), *units)))
    assert nights.asked_about("tastes/default") == list(asked["two"])
    assert nights.asked_about("tastes/other") == []
