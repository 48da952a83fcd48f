"""The A1111 extension against a live rater, loaded as the web UI loads it."""

import importlib.util
import sys
import threading
import types
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tests.client.counting_proxy import CountingProxy

SCRIPT = Path(__file__).parents[2] / "clients" / "a1111" / "scripts" / "konomi_score.py"
INFOTEXT = "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler, Seed: 1, Size: 64x64"


@pytest.fixture
def extension(site, token, monkeypatch):
    """The script, with the callback it registered."""
    registered = []
    callbacks = types.SimpleNamespace(on_before_image_saved=registered.append)
    monkeypatch.setitem(sys.modules, "modules", types.SimpleNamespace(script_callbacks=callbacks))
    monkeypatch.setenv("KONOMI_PAGE", site.address)
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("konomi_score", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (module.registered,) = registered
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


def test_without_a_rater_the_image_is_saved_as_ever_and_the_log_says_so_once(extension, monkeypatch, capsys):
    monkeypatch.setattr(extension, "ADDRESS", "http://127.0.0.1:9")
    for _ in range(2):
        params = about_to_be_saved()
        extension.registered(params)
        assert params.pnginfo["parameters"] == INFOTEXT
    assert capsys.readouterr().out.count("start `konomi up`") == 1


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
