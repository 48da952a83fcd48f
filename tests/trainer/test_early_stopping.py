"""The client ends a run at its best checkpoint and draws blind pairs of what came of it, on real servers."""

from collections.abc import Iterator

import pytest

from konomi.cli.models import compare
from konomi.client import Client
from konomi.errors import FailedPrecondition, InvalidArgument
from konomi.evaluation.early_stopping import Verdict, best, conduct, enough
from konomi.night.metrics import share
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.server import start
from konomi_chassis.settings import ServerSettings
from konomi_generator.__main__ import services as build_generator
from tests.trainer.conftest import Bench


def verdicts(*rates: float) -> list[Verdict]:
    return [Verdict(step, share(rate * 20, 20)) for step, rate in enumerate(rates, 1)]


def test_the_best_is_the_most_liked_and_of_equals_the_earliest() -> None:
    assert best(verdicts(0.5, 0.7, 0.6, 0.7)).step == 2
    assert not enough([], 1) and not enough(verdicts(0.5, 0.6), 1)
    assert enough(verdicts(0.6, 0.5), 1) and not enough(verdicts(0.6, 0.5), 2)
    assert enough(verdicts(0.6, 0.6, 0.6), 2) and not enough(verdicts(0.5, 0.4, 0.6), 1)


def test_a_run_is_ended_at_its_most_liked_checkpoint_whatever_its_loss(bench: Bench) -> None:
    request = bench.request(bench.manifest(4), steps=100_000, learning_rate=0.01)
    request.reports.adapters = True
    run = bench.client.trainer.create_training_run(request)
    liked = iter((0.5, 0.8, 0.6, 0.7))
    judged: list[str] = []

    def judge(adapter: str) -> dict[str, float]:
        judged.append(adapter)
        return share(20 * next(liked, 0.1), 20)

    model = conduct(bench.client, run.name, judge, patience=2)
    assert model.adapter_digest == judged[1] and model.metrics["win_rate"] == pytest.approx(0.8)
    assert model.metrics["steps"] == 4 and model.metrics["win_rate_pairs"] == 20
    assert bench.client.trainer.get_training_run(name=run.name).state == pb.TRAINING_STATE_SUCCEEDED
    silent = bench.client.trainer.create_training_run(bench.request(bench.manifest(2), steps=1))
    with pytest.raises(FailedPrecondition):
        conduct(bench.client, silent.name, judge)


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
