"""Fixtures of the thin client's tests: a live stand-in server, a home of stand-in roles, the command line."""

import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from konomi.client import Client, connect
from tests.client.stand_in import StandIn

REPOSITORY = Path(__file__).parents[2]


def make_png(shade: int, text: str = "", size: int = 8) -> bytes:
    """Returns a grey PNG, with `text` in its konomi-less `parameters` chunk where one is given."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes([shade]) * size for _ in range(size)))
    words = chunk(b"tEXt", b"parameters\0" + text.encode("latin-1")) if text else b""
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + words + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.fixture
def png():
    return make_png


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KONOMI_HOME", "KONOMI_TOKEN", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    server = StandIn(tmp_path / "artifacts")
    yield server
    server.server.stop(None).wait()


@pytest.fixture
def client(stand_in: StandIn, tmp_path: Path) -> Iterator[Client]:
    with connect(stand_in.address, home=tmp_path) as connected:
        yield connected


class CommandLine:
    """Runs `python -m konomi` in child processes, the roles being stand-ins."""

    def __init__(self, home: Path, modules: Path):
        self.home = home
        path = os.pathsep.join([str(modules), str(REPOSITORY)])
        self.environment = {**os.environ, "PYTHONPATH": path, "KONOMI_HOME": str(home), "PYTHONUTF8": "1"}

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        command = [sys.executable, "-m", "konomi", *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env={**self.environment, **options.pop("env", {})}, **pipes, **options)

    def run(self, *arguments: str, stdin: str = "", **options) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **options)
        out, err = process.communicate(stdin, timeout=60)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, **options) -> dict:
        done = self.run(*arguments, "--json", **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    def up(self, *arguments: str) -> tuple[subprocess.Popen, dict]:
        process = self.start(
            "up", "--json", "--port-rater", "0", "--port-generator", "0", "--port-trainer", "0", *arguments
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate(timeout=60)[1]
        return process, json.loads(line)

    def behave(self, **orders: str) -> None:
        (self.home / "stand-in.json").write_text(json.dumps(orders))


def install_stand_ins(modules: Path) -> None:
    for role in ("rater", "generator", "trainer"):
        package = modules / f"konomi_{role}"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
        (package / "__main__.py").write_text(f"from tests.client.stand_in import main\n\nmain({role!r})\n")


def fill_starter(home: Path) -> None:
    for part in ("diffusion/model_index.json", "embedder/model.safetensors", "reader/model.safetensors"):
        path = home / "models" / "starter" / part
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")


@pytest.fixture
def command_line(tmp_path: Path) -> CommandLine:
    home = tmp_path / "home"
    home.mkdir()
    fill_starter(home)
    install_stand_ins(tmp_path / "modules")
    return CommandLine(home, tmp_path / "modules")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    """A home on which `konomi up` runs for all tests of a module."""
    folder = tmp_path_factory.mktemp("live")
    home = folder / "home"
    home.mkdir()
    fill_starter(home)
    install_stand_ins(folder / "modules")
    line = CommandLine(home, folder / "modules")
    process, _ = line.up()
    yield line
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0


HELPERS = Path(__file__).parent / "night/nights.py"


@pytest.fixture
def nights_module():
    """The helpers of these tests, loaded by path."""
    spec = importlib.util.spec_from_file_location("loop_nights", HELPERS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Hands:
    """Stand-in services in this process, as a night holds them."""

    home: Path
    client: Client


@pytest.fixture
def hands(bench, nights_module, monkeypatch):
    """A home whose stand-ins run in this process: for what needs services and no night."""
    monkeypatch.syspath_prepend(str(nights_module.FOLDER))
    import stand_ins

    home = bench.home("hands")
    started = {role: stand_ins.start(role, home) for role in ("rater", "generator", "trainer")}
    client = Client.from_addresses({role: address for role, (_, address) in started.items()}, home=home)
    yield Hands(home, client)
    client.close()
    for server, _ in started.values():
        server.stop(0).wait()


@pytest.fixture
def bench(nights_module, tmp_path):
    """Makes homes with stand-in services and runs `konomi` on them."""
    bench = nights_module.Bench(tmp_path)
    yield bench
    bench.close()
