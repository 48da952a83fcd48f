"""The morning's message: delivered to a real HTTP receiver, kept while it is dead, never told twice, never leaked."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from konomi.cli import up
from konomi.cli.night.run import show
from konomi.home import Home
from konomi.i18n import catalogue
from konomi.night.records.request import NightRequest
from konomi.night.records.state import NightState
from konomi.night.records.store import NightStore
from konomi.night.report.notification import Message, NotifySettings, Outbox, announce, receivers, words_of
from konomi.night.report.status import summary_of
from konomi.night.verdict import BlindEvaluation


class Receiver:
    """A webhook on the loopback address that answers with a status and remembers what came."""

    def __init__(self) -> None:
        self.status, self.got = 200, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                outer.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server.server_port}/hook"


@pytest.fixture
def receiver():
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()


def test_a_night_tells_its_end_once(bench, receiver):
    home = bench.home("told")
    told = {"KONOMI_NOTIFY_URLS": json.dumps([receiver.url])}
    code, result, err = bench.konomi(home, *bench.start(home), **told)
    assert code == 0, err
    (message,) = receiver.got
    assert message["title"] == f"konomi: after this night unit-{result['served']['unit']} is in use"
    assert "promoted" in message["message"]
    assert result["report"] in message["message"]
    assert Outbox(home).waiting() == []
    kept = [path.read_text() for path in home.rglob("outbox/*")] + [path.name for path in home.rglob("outbox/*")]
    assert not any("hook" in text for text in kept), "the receiver's address is a secret"


def test_a_dead_receiver_gets_the_message_when_the_next_night_ends(bench, receiver):
    home = bench.home("dead")
    told = {"KONOMI_NOTIFY_URLS": json.dumps([receiver.url])}
    receiver.status = 500
    code, _, err = bench.konomi(home, *bench.start(home), **told)
    assert code == 0, err
    assert "kept and tried again" in err
    (waiting,) = Outbox(home).waiting()
    assert waiting.tries == 1
    receiver.status = 200
    receiver.got.clear()
    code, _, err = bench.konomi(home, *bench.start(home), **told)
    assert code == 0, err
    assert len(receiver.got) == 2
    assert Outbox(home).waiting() == []


def test_an_address_that_cannot_work_is_refused_before_the_night_and_not_repeated(bench):
    home = bench.home("bad")
    code, _, err = bench.konomi(home, *bench.start(home), KONOMI_NOTIFY_URLS='["nonsense://s3cret"]')
    assert code == 2
    assert "receiver 1 of [notify] urls" in err
    assert "s3cret" not in err
    assert not list(home.glob("nights/*/night.json"))


@pytest.mark.slow
def test_several_receivers_are_told_apart(tmp_path, receiver):
    other = Receiver()
    settings = NotifySettings(home=tmp_path, urls=(receiver.url, other.url))
    outbox, sends = Outbox(tmp_path), receivers(settings)
    assert len(sends) == 2
    other.status = 503
    for name in sends:
        assert outbox.keep(Message("night-1", name, "title", "body", 1.0))
        assert not outbox.keep(Message("night-1", name, "title", "body", 2.0)), "the same message is kept once"
    assert outbox.deliver(sends) == 1
    assert outbox.deliver(sends) == 0
    other.status = 200
    assert outbox.deliver(sends) == 1
    assert (len(receiver.got), len(other.got)) == (1, 3)
    other.server.shutdown()
    other.server.server_close()


def test_a_receiver_that_was_taken_away_leaves_no_message_behind(tmp_path):
    outbox = Outbox(tmp_path)
    outbox.keep(Message("night-1", "gone", "title", "body", 1.0))
    assert outbox.deliver({}) == 0
    assert outbox.waiting() == []


def test_what_is_said_names_what_is_served_and_why():
    state = {
        "served": {"unit": 0},
        "units": [{"unit": 1, "reason": {"name": "not_better", "numbers": {"unit": 1, "win_rate": 0.4, "parent": 0}}}],
        "reason": {"name": "units", "numbers": {"units": 1}},
    }
    title, body = words_of(NightState.model_validate(state), 0, "report/index.html")
    assert title == "konomi: after this night the base model is in use"
    assert body.splitlines() == [
        "The base model stays: in the rater's eyes unit-1 won only 40 % of the pairs against it.",
        "The night made the one unit it was asked for.",
        "report: report/index.html",
        "to judge it blind, then keep it or roll it back: konomi night verdict",
    ]


def test_konomi_up_offers_what_waits(bench, receiver, monkeypatch):
    home = Home(bench.home("up"))
    monkeypatch.setenv("KONOMI_NOTIFY_URLS", json.dumps([receiver.url]))
    (name,) = receivers(NotifySettings(home=home.root))
    Outbox(home.root).keep(Message("night-1", name, "title", "body", 1.0))
    up._offer(home)
    assert [message["title"] for message in receiver.got] == ["title"]


def test_an_address_that_went_bad_stops_nothing(bench, monkeypatch, capsys):
    home = Home(bench.home("bad-up"))
    Outbox(home.root).keep(Message("night-1", "name", "title", "body", 1.0))
    monkeypatch.setenv("KONOMI_NOTIFY_URLS", '["nonsense://s3cret"]')
    up._offer(home)
    said = capsys.readouterr().err
    assert "receiver 1 of [notify] urls" in said
    assert "s3cret" not in said


def test_a_night_that_was_rolled_back_is_not_said_to_be_in_use(tmp_path, receiver, monkeypatch, capsys):
    monkeypatch.setenv("KONOMI_NOTIFY_URLS", json.dumps([receiver.url]))
    nights = NightStore(tmp_path)
    asked = NightRequest("n1", "a" * 64, "tastes/default", "converge", 5, ["p"], ["p"], {}, {})
    nights.begin(asked.asked, lambda: asked)
    units = [{"unit": 0, "model": "base", "decision": "start"}, {"unit": 1, "model": "m1", "decision": "promote"}]
    state = {"night": "n1", "state": "finished", "system": "converge", "units": units}
    nights.write("n1", state | {"served": {"unit": 1, "model": "m1"}})
    BlindEvaluation(nights, "n1").note_decision("roll_back", "base", 5.0)
    assert announce(tmp_path, "n1", nights.state("n1"), "report/index.html", 6.0) == 1
    assert receiver.got[0]["title"] == "konomi: after this night the base model is in use"
    show(summary_of(nights, "n1"))
    assert "in use after this night: the base model" in capsys.readouterr().out
    with catalogue.speaking("ja"):
        assert words_of(nights.state("n1"), 0, "r")[0] == "konomi: この夜のあとに使うモデルは元のモデルです"
