"""The A1111 extension against a live rater, loaded as the web UI loads it."""

import importlib.util
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.client.counting_proxy import CountingProxy

SCRIPT = Path(__file__).parents[3] / "clients" / "a1111" / "scripts" / "konomi_score.py"
INFOTEXT = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64"


class OptionInfo:
    """What the web UI keeps of a setting."""

    def __init__(self, default=None, label="", section=None):
        self.default, self.label, self.section = default, label, section


class Options(types.SimpleNamespace):
    """The web UI's settings: an option's value is its default until somebody changes it."""

    def add_option(self, name, info):
        self.labels[name] = info
        setattr(self, name, info.default)


@pytest.fixture
def extension(site, token, monkeypatch):
    """The script as the web UI loads it: the extension's root on the path meanwhile, its callbacks kept."""
    saving, setting = [], []
    callbacks = types.SimpleNamespace(on_before_image_saved=saving.append, on_ui_settings=setting.append)
    shared = types.SimpleNamespace(opts=Options(labels={}), OptionInfo=OptionInfo)
    monkeypatch.setitem(sys.modules, "modules", types.SimpleNamespace(script_callbacks=callbacks, shared=shared))
    monkeypatch.setenv("KONOMI_PAGE", site.address)
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parents[1]), *sys.path])
    spec = importlib.util.spec_from_file_location("konomi_score", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (module.registered,), (module.settings_asked,) = saving, setting
    module.settings_asked()
    module.opts = shared.opts
    yield module
    sys.modules.pop("konomi_http", None)


def about_to_be_saved(infotext=INFOTEXT):
    pnginfo = {"parameters": infotext} if infotext else {}
    return types.SimpleNamespace(image=Image.new("RGBA", (64, 64), (200, 30, 30, 255)), pnginfo=pnginfo)


def test_a_saved_image_carries_its_grade_in_its_infotext(extension):
    params = about_to_be_saved()
    extension.registered(params)
    said = params.pnginfo["parameters"]
    assert said.startswith(INFOTEXT + ", konomi: ")
    assert "konomi utility: " in said.splitlines()[-1]
    assert "konomi doubt: " in said.splitlines()[-1]


def test_an_image_without_infotext_is_left_alone(extension):
    params = about_to_be_saved("")
    extension.registered(params)
    assert params.pnginfo == {}


def test_without_a_rater_the_image_is_saved_as_ever_and_the_log_says_so_once(extension, capsys):
    extension.opts.konomi_address = "http://127.0.0.1:9"
    clock = [0.0]
    extension.ASKER = extension.Asker(lambda: clock[0])
    for _ in range(2):
        params = about_to_be_saved()
        extension.registered(params)
        assert params.pnginfo["parameters"] == INFOTEXT
        clock[0] += extension.REST + 1
    assert capsys.readouterr().out.count("start `konomi up`") == 1


def test_a_rater_that_never_answers_holds_no_save_and_is_left_alone_for_a_while(extension, capsys):
    asked, released = [], threading.Event()

    class Stuck(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(self.path)
            released.wait(60)

        def log_message(self, *_):
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stuck)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    clock = [0.0]
    extension.ASKER = extension.Asker(lambda: clock[0])
    extension.opts.konomi_address, extension.opts.konomi_seconds = f"http://127.0.0.1:{server.server_port}", 1
    try:
        for _ in range(5):
            params = about_to_be_saved()
            extension.registered(params)
            assert params.pnginfo["parameters"] == INFOTEXT
        assert len(asked) == 1, "four images in a row were not held up at all"
        clock[0] += extension.REST + 1
        extension.registered(about_to_be_saved())
    finally:
        released.set()
        server.shutdown()
        server.server_close()
    assert "images are saved without a grade" in capsys.readouterr().out


def test_it_can_be_switched_off_and_told_where_to_ask(extension, site):
    assert {info.section for info in extension.opts.labels.values()} == {("konomi", "konomi")}
    assert all(info.restrict_api for info in extension.opts.labels.values())
    assert extension.opts.konomi_address == site.address
    assert not [name for name in extension.opts.labels if "token" in name or "key" in name]
    extension.opts.konomi_enabled = False
    params = about_to_be_saved()
    extension.registered(params)
    assert params.pnginfo["parameters"] == INFOTEXT
    extension.opts.konomi_enabled, extension.opts.konomi_taste = True, "nobody"
    params = about_to_be_saved()
    extension.registered(params)
    assert params.pnginfo["parameters"] == INFOTEXT


def test_pictures_and_token_go_through_no_proxy(extension, monkeypatch):
    with CountingProxy(monkeypatch) as proxy:
        params = about_to_be_saved()
        extension.registered(params)
    assert "konomi utility: " in params.pnginfo["parameters"]
    assert proxy.asked == []


def test_a_redirect_takes_no_token_along(extension, token):
    """Urllib would send the header with the token to wherever an answer points."""
    asked = []

    class Elsewhere(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(302)
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere")
            self.end_headers()

        def do_GET(self):
            asked.append(self.headers["Authorization"])

        def log_message(self, *_):
            """Says nothing."""

    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        konomi_http = sys.modules["konomi_http"]
        with pytest.raises(konomi_http.KonomiRefused, match="Found"):
            konomi_http.score([b"picture"], f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []
