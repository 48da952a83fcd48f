"""The client draws blind pairs of a model and its base, on real servers."""

from collections.abc import Iterator

import pytest

from konomi.cli.models import compare
from konomi.client import Client
from konomi.errors import InvalidArgument
from konomi_chassis.server import start
from konomi_chassis.settings import ServerSettings
from konomi_generator.__main__ import services as build_generator
from tests.trainer.conftest import Bench


@pytest.fixture
def both(bench: Bench) -> Iterator[Client]:
    """A client of the bench's trainer and of a generator on the same home."""
    settings = ServerSettings(home=bench.home)
    server = start("generator", build_generator(settings, bench.store), settings, bench.store)
    assert bench.server is not None
    addresses = {"trainer": bench.server.address, "generator": server.address}
    with Client.from_addresses(addresses, home=bench.home) as client:
        yield client
    assert server.stop(5.0)


def test_blind_pairs_of_a_model_and_its_base(bench: Bench, both: Client) -> None:
    model = bench.trained(bench.manifest(4), steps=3, learning_rate=0.02)
    assert compare.learnt(both, model) == ["face 0", "face 1"]
    pairs, images = compare.draw(both, [model, None], [], 3, 5)
    assert [pair.prompt for pair in pairs] == ["face 0", "face 1", "face 0"]
    assert all(first != second and first.startswith(b"\x89PNG") for first, second in images)
    again = compare.draw(both, [None, model], [], 3, 5)[1]
    assert [pair[::-1] for pair in again] == images
    with pytest.raises(InvalidArgument):
        compare.draw(both, [None, None], ["x"], 1, 0)
