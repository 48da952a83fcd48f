"""Homes whose services are the stand-ins, and the command line run as a person runs it."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import pytest

from konomi.client import Client

HELPERS = Path(__file__).with_name("nights.py")


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
