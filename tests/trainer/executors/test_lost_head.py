"""The head of the cluster dies while a run is trained there: the service stays, and the run goes on with a new head."""

import time
import uuid
from pathlib import Path

import pytest

from konomi.client import Client, connect
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.jobs.shared_checkpoints import SharedCheckpoint, SharedRunFiles
from tests.chassis.cluster.lost_head import free_port, kill_head, on_cluster, served
from tests.chassis.cluster.ray_cluster import ray_place
from tests.trainer.conftest import Bench
from tests.trainer.executors.test_cluster_trainer import asked, expected, made

__all__ = ["expected"]
AT = 10
"""Steps that are noted before the head dies, of sixty."""


def ask(client: Client, request: pb.CreateTrainingRunRequest) -> str:
    """Asks for the run, under an id of its own: under the one before, a service only repeats what it said."""
    request.request_id = str(uuid.uuid4())
    return client.trainer.create_training_run(request).name


def noted(files: SharedRunFiles, run: str) -> list[SharedCheckpoint]:
    deadline = time.monotonic() + 120
    while not (found := files.noted(run)) or found[-1].step < AT:
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.02)
    return found


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_a_run_outlives_the_head_that_trained_it_and_goes_on_from_its_checkpoint(expected: tuple, home: Path) -> None:
    """The head is the machine that trains, too, as where a person has one machine with cards."""
    port, bench = free_port(), Bench(home)
    settings = on_cluster(port, train_executor="ray")
    with (
        ray_place(0, gcs_server_port=port, num_cpus=1) as place,
        served("trainer", home, settings) as (process, where),
        connect(where, home=home) as bench.client,
    ):
        request, files = asked(bench), SharedRunFiles(home, bench.store)
        name = ask(bench.client, request)
        run = name.removeprefix("trainingRuns/")
        noted(files, run)
        kill_head(place)
        place.cluster.shutdown()  # so that the actor is lost at once, and the next one is to start without a head
        failed = bench.finish(name)
        assert (failed.state, failed.error.reason) == (pb.TRAINING_STATE_FAILED, "CLUSTER_AWAY"), failed
        assert "The head of the Ray cluster is away. Start it with `ray start --head`" in failed.error.message
        again = bench.finish(ask(bench.client, request))
        assert again.error.reason == "CLUSTER_AWAY" and process.poll() is None, "not back yet"
        kept = noted(files, run)[-1].step
        assert kept < 60, "it was killed in the middle"
        with ray_place(0, gcs_server_port=port, num_cpus=1):
            assert ask(bench.client, request) == name
            watched = list(bench.client.trainer.watch_training_run(name=name))
            steps = {state.step for state in watched if state.phase == "training"}
            assert min(steps) >= kept, "it goes on from what was noted"
            assert made(bench, name) == expected
            process.terminate()
            assert process.wait(120) == 0
