"""A port that is taken is refused with the standard library alone; what is not certain is left to the server."""

import socket

import pytest

from konomi_chassis import early_port


@pytest.fixture
def taken():
    """A port another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No setting of the machine the tests run on."""
    for name in ("KONOMI_PORT", "KONOMI_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path))


def test_a_free_port_and_none_are_not_refused(capsys):
    assert early_port.refusal("rater", []) == 0
    assert early_port.refusal("rater", ["--port", str(free_port())]) == 0
    assert early_port.refusal("rater", ["--port", "70000"]) == 0, "the settings say what is wrong with it"
    assert capsys.readouterr() == ("", "")


def test_the_port_of_the_line_beats_the_environment_and_that_the_file(taken, monkeypatch, tmp_path, capsys):
    free = str(free_port())
    (tmp_path / "konomi.toml").write_text(f"[server]\nport = {taken}\n")
    assert early_port.refusal("rater", []) == 78
    assert f"127.0.0.1:{taken}" in capsys.readouterr().err
    monkeypatch.setenv("konomi_port", free)
    assert early_port.refusal("rater", []) == 0
    monkeypatch.setenv("KONOMI_PORT", str(taken))
    monkeypatch.delenv("konomi_port")
    assert early_port.refusal("rater", []) == 78
    assert early_port.refusal("rater", ["--port", free]) == 0
    monkeypatch.delenv("KONOMI_PORT")
    other = tmp_path / "other"
    other.mkdir()
    assert early_port.refusal("rater", ["--home", str(other)]) == 0, "another home, another file"


@pytest.mark.parametrize("file", ["no toml", "server = 3\n", "[server]\nport = []\n", "[server]\nport = 'many'\n"])
def test_a_file_that_cannot_be_read_is_left_to_the_settings(file, tmp_path):
    (tmp_path / "konomi.toml").write_text(file)
    assert early_port.refusal("rater", []) == 0


def test_only_a_host_that_is_taken_at_every_address_is_refused(taken):
    assert early_port.is_taken("127.0.0.1", taken)
    assert not early_port.is_taken("no.such.host.invalid", taken)
    assert not early_port.is_taken("192.0.2.1", taken), "not this machine's: the server says so"
    assert early_port._obstacle(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", taken)) is None
