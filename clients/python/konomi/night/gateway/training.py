"""A training run from its request to its end; asked for again where it ended in something that has passed since."""

import uuid
from collections.abc import Callable

from konomi.client import Client
from konomi.errors import KonomiError, Unavailable, from_item
from konomi.i18n.catalogue import translatable
from konomi.v1 import trainer_pb2

UNDER_WAY = (trainer_pb2.TRAINING_STATE_QUEUED, trainer_pb2.TRAINING_STATE_RUNNING)


def ended(
    client: Client, request: trainer_pb2.CreateTrainingRunRequest, beat: Callable[[int, int], None]
) -> trainer_pb2.TrainingRun:
    """Asks for a run, watches it to its end and returns it, however it ended.

    Args:
        client: of a running trainer.
        request: what is asked for.
        beat: hears steps done and steps in all.

    Raises:
        Unavailable: the trainer stopped, or the run ended in what passes; the same call goes on with it.
    """
    run = latest = begun(client, request)
    for latest in client.trainer.watch_training_run(name=run.name):
        if latest.total_steps:
            beat(latest.step, latest.total_steps)
    if latest.state in UNDER_WAY:
        raise Unavailable(
            translatable("The trainer ended its stream before the run had ended; the step is tried again.")
        )
    away = passing(latest)
    if away is not None:
        raise away
    return latest


def begun(client: Client, request: trainer_pb2.CreateTrainingRunRequest) -> trainer_pb2.TrainingRun:
    """Asks for a run and returns it.

    One that ended in what passes, as where its machine went away, is queued again and goes on from its newest
    checkpoint. That takes another request id: under the same one a trainer only repeats its first answer.

    Raises:
        KonomiError: the trainer refuses it.
    """
    run = client.trainer.create_training_run(request)
    if passing(client.trainer.get_training_run(name=run.name)) is None:
        return run
    again = trainer_pb2.CreateTrainingRunRequest()
    again.CopyFrom(request)
    again.request_id = str(uuid.uuid4())
    return client.trainer.create_training_run(again)


def passing(run: trainer_pb2.TrainingRun) -> KonomiError | None:
    """Returns why a run failed where that may be gone by now, None where it did not, or fails again."""
    if run.state != trainer_pb2.TRAINING_STATE_FAILED:
        return None
    error = from_item(run.error.code, run.error.reason, run.error.message)
    return error if isinstance(error, Unavailable) else None
