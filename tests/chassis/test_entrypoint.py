"""A role as a process: the line it prints, what it refuses, how it drains, that it dies with its parent."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import structlog
import trustme

from konomi.errors import Unavailable
from konomi.v1 import rater_pb2
from konomi_chassis.auth.authentication import issue_token
from konomi_chassis.entrypoint import run
from tests.chassis.conftest import Caller

GET = "/konomi.v1.RaterService/GetTaste"
ROLE = """
import sys, time
from konomi.v1 import rater_pb2, rater_pb2_grpc
from konomi_chassis.auth.authentication import principal
from konomi_chassis.entrypoint import run
from konomi_chassis.server import ServedService
from konomi_rater.servicer.rules import RULES

class Rater(rater_pb2_grpc.RaterServiceServicer):
    def GetTaste(self, request, context):
        if request.name == "tastes/slow":
            print("entered", flush=True)
            time.sleep(1.5)
        if request.name == "tastes/stuck":
            print("entered", flush=True)
            time.sleep(60)
        if request.name == "tastes/broken":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return rater_pb2.Taste(name=request.name, display_name=principal().name)

def build(settings, store):
    return [ServedService("konomi.v1.RaterService", rater_pb2_grpc.add_RaterServiceServicer_to_server, Rater(), RULES)]

sys.exit(run("rater", build, sys.argv[1:]))
"""


class Role:
    """A running role process."""

    def __init__(self, home, *arguments, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", ROLE, "--home", str(home), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {key: str(value) for key, value in environment.items()},
        )
        self.home = home
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()

    @property
    def address(self):
        assert self.line, self.end()[1]
        return json.loads(self.line)["address"]

    def caller(self, channel=None):
        return Caller(self.address, (self.home / "tokens" / "owner.token").read_text().strip(), channel)

    def entered(self):
        assert self.process.stdout.readline() == "entered\n"

    def end(self):
        """Returns exit code and log."""
        _, log = self.process.communicate(timeout=60)
        return self.process.returncode, log


@pytest.fixture
def role(home):
    with contextlib.ExitStack() as stack:

        def begin(*arguments, **environment):
            running = Role(home, *arguments, **environment)
            stack.callback(running.process.wait)
            stack.callback(running.process.kill)
            return running

        yield begin


def get(caller, name="mine", timeout=30):
    return caller.call(GET, rater_pb2.GetTasteRequest(name=f"tastes/{name}"), timeout=timeout)


@pytest.mark.slow
def test_one_json_line_when_healthy_and_exit_0_on_sigterm(role):
    running = role()
    assert json.loads(running.line) == {"role": "rater", "address": running.address}
    assert get(running.caller())
    running.process.send_signal(signal.SIGTERM)
    code, log = running.end()
    assert code == 0
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["rpc"] for line in lines if line["event"] == "rpc"] == [GET]


@pytest.mark.slow
def test_sigterm_lets_a_call_finish_and_refuses_new_ones(role):
    running = role()
    caller = running.caller()
    get(caller)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(get, caller, "slow")
        running.entered()
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(Unavailable):
            get(caller)
        assert rater_pb2.Taste.FromString(slow.result()[0]).name == "tastes/slow"
    assert running.end()[0] == 0


@pytest.mark.slow
def test_the_drain_ends_even_when_a_handler_is_stuck(role):
    running = role(KONOMI_DRAIN_SECONDS=0.3)
    caller = running.caller()
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(get, caller, "stuck")
        running.entered()
        running.process.send_signal(signal.SIGTERM)
        assert running.end()[0] == 0
        assert stuck.exception(10) is not None


@pytest.mark.slow
def test_a_second_sigterm_ends_it_now(role):
    running = role()
    caller = running.caller()
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(get, caller, "stuck")
        running.entered()
        began = time.monotonic()
        for _ in range(2):
            running.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        assert running.end()[0] == 0 and time.monotonic() - began < 5
        assert stuck.exception(10) is not None


@pytest.mark.slow
def test_a_gpu_that_fails_for_good_ends_the_process_with_70(role):
    running = role(KONOMI_DRAIN_SECONDS=0.3)
    with pytest.raises(Unavailable) as caught:
        get(running.caller(), "broken")
    assert caught.value.reason == "DEVICE_FAILED"
    code, log = running.end()
    assert code == 70 and "illegal memory access" in log


@pytest.mark.slow
def test_a_refused_configuration_ends_the_process_with_78(role):
    running = role("--host", "0.0.0.0")
    code, log = running.end()
    assert (code, running.line) == (78, "")
    assert "without TLS" in log and "Traceback" not in log


@pytest.fixture
def refused(home, capsys):
    """Runs a role in this process and returns its exit code and what it said; it must not come to serve."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def attempt(*arguments):
        code = run("rater", lambda settings, store: [], ["--home", str(home), *arguments])
        printed = capsys.readouterr()
        assert printed.out == ""
        return code, printed.err

    yield attempt
    for number, handler in before.items():
        signal.signal(number, handler)
    structlog.reset_defaults()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "127.0.0.1.example.org", ""])
def test_any_address_others_can_reach_needs_tls(refused, host):
    code, said = refused("--host", host)
    assert code == 78 and "without TLS" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KONOMI_MAX_IN_FLIGHT", "many"),
        ("KONOMI_PORT", "70000"),
        ("KONOMI_TLS_KEY", "only-the-key.pem"),
        ("KONOMI_PARENT_PID", "1"),
    ],
)
def test_configurations_that_cannot_be_served_exit_78_with_a_sentence(refused, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    code, said = refused()
    assert code == 78 and said.strip()


def test_missing_tls_files_are_named(refused, monkeypatch):
    for name in ("KONOMI_TLS_KEY", "KONOMI_TLS_CERTIFICATE"):
        monkeypatch.setenv(name, "missing.pem")
    code, said = refused()
    assert code == 78 and "TLS file" in said


def test_unknown_keys_of_the_settings_file_are_refused(refused, home):
    home.mkdir()
    (home / "konomi.toml").write_text("[server]\nprot = 1\n")
    code, said = refused()
    assert code == 78 and "prot" in said


@pytest.mark.slow
def test_a_child_dies_with_its_parent(home):
    parent_code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', sys.argv[1], '--home', sys.argv[2]],"
        " stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,"
        " env=os.environ | {'KONOMI_PARENT_PID': str(os.getpid())})\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code, ROLE, str(home)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 10
    while time.monotonic() < until and _alive(child):
        time.sleep(0.05)
    assert not _alive(child)


def _alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def tls(authority, tmp_path):
    """Settings of a server with TLS, and the credentials that trust it."""
    issued = authority.issue_cert("localhost", "127.0.0.1")
    certificate, key, root = (tmp_path / name for name in ("server.pem", "server.key", "ca.pem"))
    certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    root.write_bytes(authority.cert_pem.bytes())
    settings = {"KONOMI_TLS_CERTIFICATE": certificate, "KONOMI_TLS_KEY": key}
    return settings, root


def secure(address, root, client=None):
    pair = {}
    if client is not None:
        pair = {
            "private_key": client.private_key_pem.bytes(),
            "certificate_chain": b"".join(blob.bytes() for blob in client.cert_chain_pems),
        }
    credentials = grpc.ssl_channel_credentials(root.read_bytes(), **pair)
    port = address.rpartition(":")[2]
    return grpc.secure_channel(f"localhost:{port}", credentials)


@pytest.mark.slow
def test_off_loopback_with_tls_it_starts_and_still_asks_for_the_token(role, tls):
    settings, root = tls
    running = role("--host", "0.0.0.0", **settings)
    channel = secure(running.address, root)
    caller = running.caller(channel)
    assert get(caller)
    assert Caller("", None, channel).outcome(GET, b"")[0] == "UNAUTHENTICATED"
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert Caller("", None, channel).outcome(reflection, b"\x3a\x00")[0] == "UNAUTHENTICATED"
    assert caller.outcome(reflection, b"\x3a\x00")[0] == "OK"
    plain = Caller(f"127.0.0.1:{running.address.rpartition(':')[2]}", "whatever")
    with pytest.raises(Unavailable):
        get(plain, timeout=5)


@pytest.mark.slow
def test_a_client_certificate_is_required_and_names_the_service(role, tls, authority, home):
    settings, root = tls
    running = role(**settings, KONOMI_TLS_CLIENT_CA=root)
    client = authority.issue_cert("night.internal", common_name="night@portraits")
    service = Caller("", None, secure(running.address, root, client))
    taste = rater_pb2.Taste.FromString(get(service, "portraits")[0])
    assert taste.display_name == "night"
    assert service.outcome(GET, rater_pb2.GetTasteRequest(name="tastes/other"))[1] == "TASTE_DENIED"
    assert service.outcome("/konomi.v1.RaterService/ListTastes", b"")[1] == "SCOPE_DENIED"
    owner = running.caller(secure(running.address, root, client))
    assert rater_pb2.Taste.FromString(get(owner)[0]).display_name == "owner"
    stranger = trustme.CA().issue_cert("night.internal", common_name="night@portraits")
    for other in (None, stranger):
        with pytest.raises(Unavailable):
            get(Caller("", issue_token(home, "x", "owner"), secure(running.address, root, other)), timeout=5)


@pytest.mark.slow
def test_a_flood_of_connections_does_not_stop_the_owner(role):
    running = role()
    stop = threading.Event()

    def hammer():
        while not stop.is_set():
            Caller(running.address, "konomi_guess").outcome(GET, b"")

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        caller = running.caller()
        for _ in range(20):
            assert get(caller)
    finally:
        stop.set()
        for thread in threads:
            thread.join()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[server\nport = 1", "konomi.toml cannot be read: "),
        (b'[server]\nhost = "\xff"', "konomi.toml cannot be read: "),
        (b"server = 3", "a table [server] was expected, another value came; correct it"),
    ],
)
def test_a_damaged_configuration_is_a_sentence(tmp_path, capsys, content, said):
    (tmp_path / "konomi.toml").write_bytes(content)
    assert run("rater", lambda settings, store: [], ["--home", str(tmp_path)]) == 78
    line = capsys.readouterr().err
    assert line.startswith("rater cannot start: ") and said in line


SIGNALLED = """
import os, signal, threading, time
{take}
with stop._cond:  # as the main thread holds it for a moment on its way into `wait`
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.05)
assert stop.wait(30)
"""


@pytest.mark.parametrize(
    "take",
    [
        "from konomi_chassis.server import _on_signal; stop = threading.Event(); _on_signal(stop)",
        "from konomi.host.signals import stop_signals; kept = stop_signals(); stop = kept.__enter__()",
    ],
)
def test_a_signal_that_comes_as_the_main_thread_goes_to_wait_for_it_is_not_its_own_deadlock(take):
    ran = subprocess.run([sys.executable, "-c", SIGNALLED.format(take=take)], timeout=60)
    assert ran.returncode == 0


HANGS = """
import threading
from konomi_chassis.early_port import leave
threading.Thread(target=threading.Event().wait, name="stuck").start()
leave(0, 0.2)
"""


def test_an_end_that_hangs_is_ended_and_says_where():
    ran = subprocess.run([sys.executable, "-c", HANGS], timeout=60, capture_output=True, text=True)
    assert ran.returncode == 1 and "threading.py" in ran.stderr
    well = HANGS.replace("threading.Event().wait", "threading.Event().is_set")
    assert subprocess.run([sys.executable, "-c", well], timeout=60).returncode == 0
