"""Roles as child processes: started together, refused clearly, stopped together, never left behind."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from konomi.errors import Cancelled, DeadlineExceeded, FailedPrecondition, Internal
from konomi.home import Home
from konomi.host import extras, supervisor
from konomi.host.session import OwnServices
from tests.client.stand_in import wait_until


@pytest.fixture
def home(command_line, monkeypatch) -> Home:
    for name in ("PYTHONPATH", "KONOMI_HOME"):
        monkeypatch.setenv(name, command_line.environment[name])
    return Home.locate()


def test_all_roles_run_and_stop(home):
    with supervisor.running(home) as services:
        assert set(services.addresses) == {"rater", "generator", "trainer"}
        services.check()
        assert home.running()["rater"] == services.addresses["rater"]
        assert home.is_up()
        with pytest.raises(FailedPrecondition, match="already runs") as caught, supervisor.running(home):
            pass
        assert caught.value.reason == "ALREADY_UP"
    assert [role.process.returncode for role in services.roles] == [0, 0, 0]
    assert not home.is_up()
    assert not home.up_file.exists()
    assert "rater is up" in home.log("rater").read_text()


def test_children_know_their_parent(home):
    role = supervisor.Role("rater", home)
    try:
        role.address(time.monotonic() + 20, lambda: False)
        environment = Path(f"/proc/{role.process.pid}/environ").read_bytes().split(b"\0")
        assert f"KONOMI_PARENT_PID={os.getpid()}".encode() in environment
        assert os.getpgid(role.process.pid) == role.process.pid  # Ctrl-C in the terminal does not reach it
    finally:
        supervisor.stop([role])


def test_a_refused_configuration_says_its_sentence(home, command_line):
    command_line.behave(generator="refuse")
    said = "generator refused to start: expected a certificate"
    with pytest.raises(FailedPrecondition, match=said) as caught, supervisor.running(home):
        pytest.fail("nothing may run")
    assert caught.value.reason == "REFUSED_TO_START"
    assert not home.is_up()


def test_a_role_that_dies_is_told_with_its_last_words(home, command_line):
    command_line.behave(trainer="die")
    with (
        pytest.raises(Internal, match=r"trainer ended with exit code 9: out of memory"),
        supervisor.running(home) as running,
    ):
        assert wait_until(lambda: running.roles[2].process.poll() is not None)
        running.check()
    assert [role.process.returncode for role in running.roles] == [0, 0, 9]


def test_a_killed_role_is_named_with_its_signal(home):
    with pytest.raises(Internal, match="SIGKILL"), supervisor.running(home) as running:
        running.roles[0].process.kill()
        assert wait_until(lambda: running.roles[0].process.poll() is not None)
        running.check()


def test_a_stubborn_role_is_killed_after_its_grace(home, command_line):
    command_line.behave(rater="stubborn")
    role = supervisor.Role("rater", home)
    role.address(time.monotonic() + 20, lambda: False)
    begun = time.monotonic()
    supervisor.stop([role], seconds=0.5)
    assert role.process.returncode == -signal.SIGKILL
    assert time.monotonic() - begun < 5


def test_waiting_ends_by_deadline_and_by_giving_up(home, command_line):
    command_line.behave(rater="mute")
    role = supervisor.Role("rater", home)
    try:
        with pytest.raises(DeadlineExceeded, match="not ready in time"):
            role.address(time.monotonic() - 1, lambda: False)
        with pytest.raises(Cancelled):
            role.address(time.monotonic() + 20, lambda: True)
    finally:
        supervisor.stop([role])


def test_ports_that_cannot_be_had_are_told_with_their_flag(monkeypatch):
    supervisor.check_ports({"rater": 0, "generator": 0, "page": 0})
    with pytest.raises(FailedPrecondition, match="port 5 was asked for twice: choose another --port-page"):
        supervisor.check_ports({"rater": 5, "page": 5})
    monkeypatch.setattr(supervisor, "obstacle", lambda port: errno.EACCES)
    with pytest.raises(FailedPrecondition, match=r"port 80 of the page cannot be had \(Permission denied\)") as refused:
        supervisor.check_ports({"page": 80})
    assert refused.value.reason == "PORT_REFUSED"


def test_a_taken_page_port_is_told_before_any_service_starts(command_line):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command_line.run("up", "--port-page", str(port))
        (command_line.home / "konomi.toml").write_text(f"[page]\npage_port = {port}\n")
        again = command_line.run("up")
    said = f"konomi: error: port {port} of the page is taken: choose another --port-page, or 0 for any\n"
    assert (done.returncode, done.stderr) == (again.returncode, again.stderr) == (4, said)
    assert not (command_line.home / "logs").exists()


def test_a_taken_port_is_refused_before_anything_starts(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not supervisor.is_free(port)
        said = f"port {port} of the trainer is taken"
        with pytest.raises(FailedPrecondition, match=said), supervisor.running(home, ports={"trainer": port}):
            pytest.fail("nothing may run")
    assert not home.log("trainer").exists()


def test_a_missing_extra_names_the_pip_line(home, monkeypatch):
    monkeypatch.setitem(extras.EXTRAS, "generator", ("no_such_module",))
    said = r"no_such_module; run: .* pip install .*\[generator\]'"
    with pytest.raises(FailedPrecondition, match=said) as caught, supervisor.running(home):
        pytest.fail("nothing may run")
    assert caught.value.reason == "MISSING_EXTRA"


def test_the_lock_ends_with_a_killed_process(home):
    code = "with Home.locate().held(): print('held', flush=True); time.sleep(60)"
    code = f"import time; from konomi.home import Home\n{code}"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert home.is_up()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert not home.is_up()
    with home.held():
        assert home.is_up()


def test_processes_that_ask_at_once_do_not_take_each_other_for_the_holder(home):
    with home.held():
        assert home.is_up()
    code = (
        f"from konomi.home import Home; h = Home.locate({str(home.root)!r}); print(sum(h.is_up() for _ in range(300)))"
    )
    asking = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in asking] == ["0\n"] * 3


def test_asking_writes_nothing_so_that_a_reader_may_ask(home):
    with home.held():
        before = sorted(home.root.rglob("*"))
        assert home.is_up()
        assert sorted(home.root.rglob("*")) == before
    (home.root / "run" / "up.lock").chmod(0o444)
    (home.root / "run").chmod(0o555)
    assert not home.is_up()
    (home.root / "run").chmod(0o755)


def test_a_role_started_again_is_starting_until_it_serves(home):
    with supervisor.running(home) as services:
        session = OwnServices(home, services)
        assert not session.starting
        session.replace(1.0)
        session.tend()
        assert session.starting
        wait_until(lambda: not session.starting)
        services.check()


def test_a_second_process_cannot_hold_the_same_home(home):
    code = "from konomi.home import Home\nwith Home.locate().held(): print('held')"
    with home.held():
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "konomi already runs on" in done.stderr and "held" not in done.stdout


def test_a_home_that_cannot_be_written(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(FailedPrecondition, match="cannot write the home"), Home(file).held():
        pytest.fail("nothing may run")


def test_a_failed_installation_of_the_starter_is_told(tmp_path, command_line, monkeypatch):
    package = tmp_path / "modules" / "konomi_starter"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("import sys\nprint(sys.argv[1:], file=sys.stderr)\nraise SystemExit(1)\n")
    monkeypatch.setenv("PYTHONPATH", command_line.environment["PYTHONPATH"])
    with pytest.raises(Internal, match=r"could not be installed: \['install', '--home', '.*empty'\]"):
        supervisor.install_starter(Home(tmp_path / "empty"))


@pytest.mark.parametrize(
    ("server", "environment"),
    [
        ('host = "192.0.2.1"\ntls_certificate = "a.pem"\ntls_key = "a.key"', {}),
        ('tls_certificate = "a.pem"\ntls_key = "a.key"', {}),
        ("", {"KONOMI_HOST": "0.0.0.0"}),
        ("", {"KONOMI_TLS_CERTIFICATE": "a.pem"}),
    ],
)
def test_services_that_page_and_commands_could_not_ask_are_refused_before_they_start(home, server, environment):
    """They would start, say that they are ready, and answer nobody here."""
    home.root.mkdir(parents=True, exist_ok=True)
    home.configuration.write_text(f"[server]\n{server}\n")
    refused = pytest.raises(FailedPrecondition, match="page_host and page_certificate")
    with refused as caught, supervisor.running(home, environment=environment):
        pass
    assert caught.value.reason == "SERVICES_OPEN" and not home.log("rater").exists()


@pytest.mark.parametrize("server", ["", 'host = "127.0.0.2"', 'host = "::1"', 'host = "localhost"', "host = ["])
def test_what_stays_on_this_machine_may_start(home, server):
    home.root.mkdir(parents=True, exist_ok=True)
    home.configuration.write_text(f"[server]\n{server}\n")
    supervisor.check_reach(home, {})
