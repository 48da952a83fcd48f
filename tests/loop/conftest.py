"""Homes whose services are the stand-ins, and the command line run as a person runs it."""

import importlib.util
from pathlib import Path

import pytest

HELPERS = Path(__file__).with_name("nights.py")


@pytest.fixture
def nights_module():
    """The helpers of these tests, loaded by path."""
    spec = importlib.util.spec_from_file_location("loop_nights", HELPERS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bench(nights_module, tmp_path):
    """Makes homes with stand-in services and runs `konomi` on them."""
    bench = nights_module.Bench(tmp_path)
    yield bench
    bench.close()
