"""The page's parts on real files: tickets, nights, blind verdicts; no rater needed."""

import asyncio
import json
import socket
import subprocess

import pytest

from konomi.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from konomi.home import Home
from konomi.night.records import sealed
from konomi.night.records.request import NightRequest
from konomi.night.records.store import NightStore
from konomi.night.verdict import PAIRS, SAMPLE, BlindEvaluation
from konomi.v1 import rater_pb2, trainer_pb2
from konomi.web import auth
from konomi.web.app import PageApplication
from konomi.web.nights import NightEndpoints, Verdicts
from konomi.web.server import _listen
from konomi.web.settings import PageSettings

VERSION = "tastes/default/raterVersions/1"


class Clock:
    def __init__(self):
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def door(tmp_path):
    clock = Clock()
    home = Home(tmp_path)
    session = auth.SessionAuth(home, clock)
    home.announce({"page": "http://127.0.0.1:1"})
    return home, session, clock


def ticket(home: Home, clock: Clock) -> str:
    key = bytes.fromhex(auth.key_file(home).read_text())
    return auth.Signer(key, "ticket", clock).issue()


def test_a_ticket_opens_once_and_ages(door):
    home, session, clock = door
    one = ticket(home, clock)
    cookie = session.admit(one)
    assert session.is_signed_in(cookie)
    for used in (one, "", "x", cookie, one[:-1], "\ud800", ".." * 900):
        with pytest.raises(PermissionDenied, match="konomi label"):
            session.admit(used)
    old = ticket(home, clock)
    clock.now += auth.TICKET_SECONDS + 1
    with pytest.raises(PermissionDenied):
        session.admit(old)
    clock.now += auth.SESSION_SECONDS
    assert not session.is_signed_in(cookie), "a cookie ends too"


def test_a_ticket_dies_with_its_server_but_a_cookie_stays(door):
    home, session, clock = door
    before, cookie = ticket(home, clock), session.admit(ticket(home, clock))
    again = auth.SessionAuth(home, clock)
    with pytest.raises(PermissionDenied):
        again.admit(before)
    assert again.is_signed_in(cookie)
    assert not again.is_signed_in(ticket(home, clock)), "a ticket is no cookie"
    assert {path.stat().st_mode & 0o777 for path in (auth.key_file(home), home.root / "tokens/page.secret")} == {0o600}


def test_wrong_tickets_are_counted_and_right_ones_still_open(door):
    home, session, clock = door
    for _ in range(auth.FAILURES_PER_MINUTE):
        with pytest.raises(PermissionDenied):
            session.admit("wrong")
    with pytest.raises(ResourceExhausted, match="wait a minute"):
        session.admit("wrong")
    assert session.is_signed_in(session.admit(ticket(home, clock))), "nobody can lock the owner out"
    clock.now += 61
    with pytest.raises(PermissionDenied):
        session.admit("wrong")


def test_a_link_needs_something_that_runs(tmp_path):
    with pytest.raises(Unavailable, match="konomi up"):
        auth.link(Home(tmp_path))
    home = Home(tmp_path)
    with home.held():
        home.announce({"rater": "127.0.0.1:1"})
        with pytest.raises(FailedPrecondition, match="web"):
            auth.link(home)


def test_a_port_two_bound_is_whose_listens_first_and_the_page_knows_at_once():
    """Linux lets two bind a port as long as neither listens; the second to listen was told in a thread, too late."""
    with socket.socket() as rival:
        rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        rival.bind(("127.0.0.1", 0))
        wanted = PageSettings(page_port=rival.getsockname()[1])
        with _listen(wanted), pytest.raises(OSError, match="in use"):
            rival.listen()
        rival.listen()
        with pytest.raises(FailedPrecondition, match="choose another --port-page"):
            _listen(wanted)


def test_an_answer_in_two_parts_leaves_at_once():
    """With Nagle's algorithm on, a kept connection waits 40 ms for each answer: header first, body after the ack."""
    told = []

    async def talk():
        def answer(_reader, writer):
            told.append(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        listener = _listen(PageSettings(page_port=0))
        async with await asyncio.start_server(answer, sock=listener):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            assert await reader.read() == b""
            writer.close()

    asyncio.run(talk())
    assert told == [1]


@pytest.fixture
def desk(tmp_path):
    nights = NightStore(tmp_path)
    settings = {"units": 2, "images": 100, "evaluation_images": 64, "steps": 50}
    request = NightRequest("n1", "a" * 64, "tastes/default", "converge", 5, ["p"], ["p"], settings, {})
    nights.begin(request.asked, lambda: request)
    units = [
        {"unit": number, "model": f"m{number}", "evaluation": [f"{number}{place:063x}" for place in range(64)]}
        for number in range(3)
    ]
    end = {"name": "units", "numbers": {"units": 2}, "sentence": "The night made every unit it was asked for: 2."}
    state = {"night": "n1", "state": "finished", "system": "converge", "units": units, "steps": [], "images": 392}
    nights.write("n1", state | {"served": {"unit": 2, "model": "m2"}, "reason": end, "seconds": 60.0})
    return NightEndpoints(Home(tmp_path))


def test_a_night_is_told_in_both_languages(desk):
    told = desk.status({"language": "en"})
    assert [line["night"] for line in told["nights"]] == ["n1"]
    assert told["night"]["sentences"] == ["The night made all 2 units it was asked for."]
    assert told["night"]["share"] == 1.0 and told["night"]["eta_seconds"] is None
    assert desk.status({"language": "ja"})["night"]["sentences"] == ["指定された 2 世代をすべて作りました。"]
    json.dumps(told)


ODD = "<img src=x onerror=window.hit=1>"
UNKNOWN = "What was recorded here is of another version of konomi, or damaged."


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ({"name": ODD, "numbers": {}}, UNKNOWN),
        ({"name": ODD, "numbers": {}, "sentence": "It ended."}, "It ended."),
        ({"name": "units", "numbers": {ODD: ODD}}, UNKNOWN),
        ({"name": "units", "numbers": {"units": "NaN"}, "english": "{units:.1f} {more}"}, UNKNOWN),
        ({"name": "units", "numbers": {"units": 1e400}}, UNKNOWN),
    ],
)
def test_a_reason_nobody_can_tell_is_a_sentence(desk, tmp_path, reason, told):
    nights = NightStore(tmp_path)
    nights.write("n1", nights.read("n1") | {"reason": reason})
    assert desk.status({})["night"]["sentences"] == [told]


def test_a_night_whose_settings_are_none_is_told_of_by_a_sentence(desk, tmp_path):
    path = tmp_path / "nights" / "n1" / "request.json"
    whole = sealed.read(path)
    sealed.write(path, whole | {"settings": {}})
    assert desk.status({})["night"]["wanted_units"] == 3, "an earlier version's, which did not record it"
    for settings in ({"units": ODD}, {"units": None}, {"units": -1}, {"images": [ODD]}, {"steps": {}}):
        sealed.write(path, whole | {"settings": whole["settings"] | settings})
        with pytest.raises(FailedPrecondition, match=r"The night n1 cannot be read: its request\.json is") as caught:
            desk.status({})
        assert caught.value.reason == "NIGHT_DAMAGED"


def test_pictures_a_night_makes_are_shown_by_their_digests_alone(desk, tmp_path):
    made = [ODD, int("7" * 64), None, ["a"], "a" * 64]
    (tmp_path / "nights" / "n1" / "progress.json").write_text(json.dumps({"made": made}))
    assert desk.status({})["night"]["newest"] == ["a" * 64]


def test_systems_are_told_in_both_languages(desk):
    english, japanese = (desk.systems({"language": language})["systems"] for language in ("en", "ja-JP"))
    names = ["converge", "golden", "longtail", "propagate", "concepts"]
    assert [tile["name"] for tile in english] == [tile["name"] for tile in japanese] == names
    assert english[2] == {
        "name": "longtail",
        "title": "Long tail",
        "note": "find what you did not know you like",
    }
    assert all(
        one[word] != other[word] for one, other in zip(english, japanese, strict=True) for word in ("title", "note")
    )
    assert (japanese[2]["title"], japanese[2]["note"]) == ("ロングテール", "知らなかった好みを探す")
    assert desk.systems({"language": "../../x\0"}) == desk.systems({}), "English where there is no such language"
    with pytest.raises(InvalidArgument):
        desk.systems({"language": 3})


def test_alarms_of_a_version_are_told_in_both_languages(tmp_path):
    services = Services()
    page = PageApplication(Home(tmp_path), lambda: services, frozenset(), auth.SessionAuth(Home(tmp_path)))
    english, japanese = (page._alarms({"version": VERSION, "language": code})["alarms"] for code in ("en", "ja"))
    page.close()
    assert english[0].startswith("Only 2 UR labels: probabilities of UR rest on the order of the lower grades; 1 more ")
    assert japanese[0].startswith("UR の採点が 2 枚しかありません")
    assert services.asked == [{"name": VERSION}] * 2


def test_a_plan_is_made_in_this_process_and_says_what_cannot_be(desk, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a plan needs no process"))
    plan = desk.plan({"system": "longtail:1+converge:1", "images": 24, "hours": 2.5})
    assert (plan["system"], plan["units"], plan["budgets"]["hours"]) == ("longtail:1+converge:1", 2, 2.5)
    with pytest.raises(InvalidArgument, match="no system 'dream'"):
        desk.plan({"system": "dream"})
    with pytest.raises(InvalidArgument, match="at most 5 units"):
        desk.plan({"system": "converge", "units": 7})


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("[night]\nunits = 0\n", "the night setting units cannot be used: "),
        ("[guards]\nunits_per_night = 'many'\n", "the guard setting units_per_night cannot be used: "),
    ],
)
def test_a_plan_names_what_is_wrong_in_the_settings_of_the_home(desk, toml, says):
    (desk._home.root / "konomi.toml").write_text(toml)
    with pytest.raises(InvalidArgument) as caught:
        desk.plan({"system": "converge"})
    assert caught.value.message.startswith(says) and caught.value.field == "settings"


def test_a_plan_says_that_the_file_of_settings_cannot_be_read(desk):
    file = desk._home.root / "konomi.toml"
    file.write_text("[night\n")
    with pytest.raises(FailedPrecondition) as caught:
        desk.plan({"system": "converge"})
    assert caught.value.message.startswith(f"{file} cannot be read: ")
    assert caught.value.reason == "CONFIGURATION_UNREADABLE"


def test_a_night_shows_its_newest_images_and_why_others_were_not_chosen(desk):
    nights = desk._nights
    state = nights.read("n1")
    state["units"][1]["selection"] = {
        "n": 32,
        "rejected": {
            "near_copy": {"count": 2, "examples": ["e" * 64]},
            "untypical": {"count": 9, "examples": [f"{place:064x}" for place in range(9)]},
        },
    }
    nights.write("n1", state)
    made = [f"{place:064x}" for place in range(2)]
    nights.beat("n1", {"step": "unit-2/generate", "done": 2, "total": 64, "made": [*made, "../../night.json"]})
    told = desk.status({"language": "ja"})["night"]
    assert told["newest"] == made, "nothing but a digest becomes an address"
    assert told["drafts"] is False
    nights.beat("n1", {"step": "unit-2/rate", "done": 0, "total": 0, "made": made, "drafts": True})
    assert desk.status({})["night"]["drafts"] is True, "also while they are rated"
    unit = told["figures"][1]
    assert unit["selected"] == 32 and told["figures"][0]["selected"] is None
    assert [(reason["reason"], reason["count"], len(reason["examples"])) for reason in unit["rejected"]] == [
        ("既知のどれとも似ていない", 9, 4),
        ("学習に使った画像とほぼ同じ", 2, 1),
    ]


def test_what_is_in_use_after_a_night_follows_the_verdict(desk):
    assert desk.status({})["night"]["in_use"] == {"unit": 2, "model": "m2"}
    state = desk._nights.read("n1")
    state["units"][0]["decision"] = "start"
    desk._nights.write("n1", state)
    BlindEvaluation(desk._nights, "n1").note_decision("roll_back", "m0", 5.0)
    told = desk.status({})["night"]
    assert (told["served"], told["in_use"]) == ({"unit": 2, "model": "m2"}, {"unit": 0, "model": "m0"})


def test_a_report_is_made_anew_for_a_reader_of_another_language(desk, tmp_path, monkeypatch):
    calls = []
    done = subprocess.CompletedProcess([], 0, b"", b"")
    monkeypatch.setattr(subprocess, "run", lambda command, **_: (calls.append(command), done)[1])
    file = desk.report_file("n1")
    file.parent.mkdir()
    file.write_text('<!doctype html>\n<html lang="en">')
    verdict = BlindEvaluation(desk._nights, "n1").summary().plain()
    file.with_suffix(".json").write_text(json.dumps({"verdict": verdict}))
    assert desk.report({"night": "n1", "language": "en"}) == {"path": "/report/n1"} and calls == []
    desk.report({"night": "n1", "language": "ja"})
    (command,) = calls
    assert command[3:8] == ["night", "report", "--night", "n1", "--json"] and command[8:10] == ["--lang", "ja"]


def test_the_log_of_the_nights_is_told_as_text(desk, tmp_path):
    assert desk.log({}) == {"lines": []}
    log = Home(tmp_path).log("night")
    log.parent.mkdir()
    log.write_bytes(b"unit-1\x1b[2J\nhalf of a line: \xe3\x81")
    first, second = desk.log({})["lines"]
    assert "\x1b" not in first and first.startswith("unit-1") and second.startswith("half of a line")


@pytest.mark.parametrize("name", ["../n1", "n2", "", "n1/../n1", "x" * 80])
def test_only_a_night_there_is_has_a_folder(desk, name):
    with pytest.raises(NotFound):
        desk.folder(name)


def test_nothing_runs_so_nothing_stops(desk):
    with pytest.raises(NotFound, match="no unfinished night"):
        desk.stop({})


def test_a_plan_is_the_commands_own(desk):
    plan = desk.plan({"system": "converge", "units": 2, "images": 64})
    assert (plan["system"], plan["units"]) == ("converge", 2)
    plan = desk.plan({"system": "longtail:1+golden:1", "hours": 1.5, "gpu_hours": 1, "disk": 2, "budget_images": 50})
    assert plan["budgets"] == {"hours": 1.5, "images": 50, "gpu_hours": 1.0, "disk_gib": 2.0}
    assert plan["ends_by"] == ["images"]
    with pytest.raises(InvalidArgument, match="units"):
        desk.plan({"system": "converge", "units": 10})
    for wrong in (
        {"system": "--help"},
        {"units": "3; rm"},
        {"units": 11},
        {"images": True},
        {"system": 3},
        {"disk": "2"},
    ):
        with pytest.raises(InvalidArgument):
            desk.plan(wrong)


@pytest.mark.slow
def test_a_start_that_is_refused_says_why(desk):
    with pytest.raises(FailedPrecondition, match="units"):
        desk.start({"system": "converge", "units": 10})
    with pytest.raises(InvalidArgument):
        desk.start({"system": "converge", "taste": "tastes/../x"})


class Services:
    """A rater and a trainer of this test: what they were asked, and the model in use."""

    def __init__(self):
        self.rater = self.trainer = self
        self.asked = []
        self.current = "m2"

    def get_rater_version(self, **fields):
        self.asked.append(fields)
        few = rater_pb2.Alarm(name="few_ur", numbers={"top": 2, "missing": 1})
        return rater_pb2.RaterVersion(name=VERSION, alarms=["Only 2 UR labels."], alarm_details=[few])

    def record_blind_audit(self, **fields):
        self.asked.append(fields)
        return rater_pb2.BlindAudit(name="tastes/default/blindAudits/1")

    def list_models(self, **fields):
        model = trainer_pb2.Model(name=f"models/{self.current}", current=True)
        return trainer_pb2.ListModelsResponse(models=[model] if self.current != "base" else [])

    def rollback_model(self, to="", **fields):
        self.current = to.removeprefix("models/")


def test_blind_pairs_hide_their_sides_until_all_are_answered(desk):
    services = Services()
    verdicts = Verdicts(desk, lambda: services)
    first = verdicts.pairs({"night": "n1"})
    assert len(first["pairs"]) == PAIRS and first["tally"] is None and first["sides"] is None
    assert first == verdicts.pairs({"night": "n1"}), "the same pairs whenever they are asked for"
    shown = {pair[side] for pair in first["pairs"] for side in ("left", "right")}
    named = {digest for unit in desk.status({})["night"]["figures"] for digest in unit["sample"]}
    assert len(named) == 3 * SAMPLE and not shown & named, "what was shown by name is in no blind pair"
    new = ["left" if pair["left"].startswith("2") else "right" for pair in first["pairs"]]
    assert set(new) == {"left", "right"}, "the sides are mixed"
    assert verdicts.answer({"night": "n1", "pair": 0, "choice": new[0]})["answered"] == 1
    assert verdicts.answer({"night": "n1", "pair": 0, "choice": ""})["answered"] == 0, "an answer can be taken back"
    for wrong in ({"pair": PAIRS, "choice": "left"}, {"pair": 0, "choice": "both"}):
        with pytest.raises(InvalidArgument):
            verdicts.answer({"night": "n1"} | wrong)
    for index, side in enumerate(new):
        told = verdicts.answer({"night": "n1", "pair": index, "choice": "tie" if index == 0 else side})
    tally = told["tally"]
    assert (tally["wins"], tally["losses"], tally["ties"], told["sides"]) == (PAIRS - 1, 0, 1, new)
    (audit,) = [fields["audit"] for fields in services.asked]
    assert (audit.unit, audit.against, len(audit.pairs)) == ("m2", "base", PAIRS), "the rater has them, once"
    assert Verdicts(desk, lambda: services).pairs({"night": "n1"})["tally"] == tally, "answers outlive the page"
    with pytest.raises(FailedPrecondition, match="answers stand"):
        verdicts.answer({"night": "n1", "pair": 3, "choice": ""})


def test_keep_and_roll_back_are_on_record_and_done_once(desk):
    services = Services()
    verdicts = Verdicts(desk, lambda: services)
    assert verdicts.decide({"night": "n1", "decision": "keep"})["decision"] == "keep"
    told = verdicts.decide({"night": "n1", "decision": "roll_back"})
    assert verdicts.decide({"night": "n1", "decision": "roll_back"}) == told
    assert [one["decision"] for one in told["decisions"]] == ["keep", "roll_back"] and services.current == "base"
    assert desk.status({})["night"]["verdict"]["decision"] == "roll_back"
    with pytest.raises(FailedPrecondition, match="made current since"):
        verdicts.decide({"night": "n1", "decision": "keep"})
    with pytest.raises(InvalidArgument):
        verdicts.decide({"night": "n1", "decision": "burn"})
