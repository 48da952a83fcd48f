"""`konomi up`: the one JSON line, refusing a second, stopping on both signals, telling of a death."""

import json
import os
import signal
import urllib.request

import pytest

from konomi.client import Client
from tests.client.stand_in import TOKEN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_line_then_a_clean_stop(command_line, number):
    process, said = command_line.up()
    assert list(said) == ["rater", "generator", "trainer", "page", "token_file"]
    assert said["token_file"] == str(command_line.home / "tokens" / "owner.token")
    with open(said["token_file"]) as file, Client.from_addresses(said, token=file.read()) as client:
        client.rater.list_tastes()
        client.generator.list_base_models()
        client.trainer.list_models()
    up = json.loads((command_line.home / "run" / "up.json").read_text())
    assert up["rater"] == said["rater"]
    assert said["page"].startswith(up["page"] + "/#ticket="), "the address is kept, the ticket is not"
    with urllib.request.urlopen(up["page"] + "/", timeout=10) as answer:
        assert b"konomi" in answer.read()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == ""  # nothing after the one line
    assert "Traceback" not in err
    assert not (command_line.home / "run" / "up.json").exists()


def open_to_others(home):
    return [str(path) for path in (home, *home.rglob("*")) if path.stat().st_mode & 0o077]


@pytest.fixture
def generous():
    """The umask of a distribution that gives every user a group."""
    before = os.umask(0o002)
    yield
    os.umask(before)


@pytest.mark.parametrize("first", [["models", "fetch", "none"], ["night", "plan"], ["doctor"], ["up", "--port", "x"]])
def test_a_home_is_its_owners_alone_whichever_command_makes_it(generous, command_line, tmp_path, first):
    command_line.run("--home", str(tmp_path / "fresh"), *first)
    assert not (tmp_path / "fresh").exists() or open_to_others(tmp_path / "fresh") == []


def test_what_is_made_in_a_home_is_its_owners_alone(generous, command_line):
    for path in (command_line.home, *command_line.home.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    process, _ = command_line.up()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert (command_line.home / "run" / "up.lock").exists()
    assert open_to_others(command_line.home) == []


def test_a_second_up_is_refused(live):
    done = live.run("up")
    assert done.returncode == 4
    assert "already runs" in done.stderr
    assert live.run("models", "list").returncode == 0


def test_a_role_that_dies_ends_everything(command_line):
    command_line.behave(generator="die")
    process, said = command_line.up()
    assert said["generator"]
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the generator ended with exit code 9: out of memory" in err


def test_a_role_that_refuses_is_quoted(command_line):
    command_line.behave(rater="refuse")
    done = command_line.run("up", "--json", "--port-rater", "0")
    assert (done.returncode, done.stdout) == (4, "")
    assert "expected a certificate" in done.stderr


def test_signal_while_starting(command_line):
    slow = command_line.home.parent / "modules" / "konomi_trainer" / "__main__.py"
    slow.write_text("import time\ntime.sleep(60)\n")
    process = command_line.start("up", "--json", "--port-rater", "0", "--port-generator", "0", "--port-trainer", "0")
    assert process.stderr is not None
    assert "starting" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, "")
    assert "stopped before" in err


def test_human_output_names_addresses_and_token_file_only(command_line):
    process = command_line.start(
        "up", "--port-rater", "0", "--port-generator", "0", "--port-trainer", "0", "--lang", "ja"
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(6)]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert lines[0].startswith("rater") and "127.0.0.1:" in lines[0]
    assert lines[4].startswith("page") and "http://127.0.0.1:" in lines[4]
    assert "準備完了" in lines[5]
    assert TOKEN not in "".join(lines) + out + err


def test_bad_ports(command_line):
    assert command_line.run("up", "--port-rater", "70000").returncode == 2
    assert command_line.run("up", "--port-page", "70000").returncode == 2


def test_an_unwritable_home_is_refused(command_line):
    file = command_line.home / "file"
    file.write_text("")
    done = command_line.run("up", "--home", str(file))
    assert done.returncode == 4
    assert "cannot write the home" in done.stderr
    assert os.path.isfile(file)
