"""Rows of the trainer's tables as messages of the contract, and requests as plain numbers."""

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any, cast

from google.protobuf.timestamp_pb2 import Timestamp

from konomi.errors import InvalidArgument
from konomi.v1 import artifact_pb2
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer.configuration import Configuration
from konomi_trainer.jobs.progress_board import Live
from konomi_trainer.storage import models, runs

NEWEST = 2**62
STATES = {
    runs.QUEUED: pb.TRAINING_STATE_QUEUED,
    runs.RUNNING: pb.TRAINING_STATE_RUNNING,
    runs.SUCCEEDED: pb.TRAINING_STATE_SUCCEEDED,
    runs.FAILED: pb.TRAINING_STATE_FAILED,
    runs.CANCELLED: pb.TRAINING_STATE_CANCELLED,
}


def method_value(name: str) -> "pb.TrainingMethod.ValueType":
    """Returns the value of TrainingMethod of a method; the enum is open, so it may be one this contract lacks."""
    number = dict(pb.TrainingMethod.items()).get(f"TRAINING_METHOD_{name.upper()}")
    if number is not None:
        return number
    from konomi_trainer.methods.registry import METHODS  # it brings torch, which a list of models need not wait for

    return cast("pb.TrainingMethod.ValueType", METHODS[name].number)


def given(numbers: pb.HyperParameters) -> dict[str, Any]:
    """Returns the hyper-parameters that were set, by field name."""
    return {field.name: value for field, value in numbers.ListFields()}


def completed(request: pb.CreateTrainingRunRequest, configuration: Configuration) -> pb.CreateTrainingRunRequest:
    """Returns the request with its defaults filled in."""
    full = pb.CreateTrainingRunRequest()
    full.CopyFrom(request)
    full.base_model = configuration.base_model
    for field in pb.HyperParameters.DESCRIPTOR.fields:
        setattr(full.hyper_parameters, field.name, getattr(configuration, field.name))
    return full


def training_run(run: runs.Run, live: Live | None = None, published: Iterable[runs.Published] = ()) -> pb.TrainingRun:
    """Returns a run as a message; while somebody works on it, with what it does now."""
    working = live if live is not None and run.state == runs.RUNNING else None
    numbers = json.loads(run.configuration)
    message = pb.TrainingRun(
        name=f"trainingRuns/{run.id}",
        state=STATES[run.state],
        request=pb.CreateTrainingRunRequest.FromString(run.request),
        step=working.step if working else run.step,
        total_steps=run.total_steps,
        loss=working.loss if working else run.loss,
        eta_seconds=working.eta_seconds if working else 0.0,
        model=f"models/{run.model}" if run.model else "",
        config_digest=run.config_digest,
        create_time=_timestamp(run.create_time),
        phase=(working.phase if working else "") or run.phase,
        checkpoints=[pb.TrainingCheckpoint(**vars(checkpoint)) for checkpoint in published],
        prompt_syntax=numbers.get("prompt_syntax", Configuration.prompt_syntax),
        clip_skip=numbers.get("clip_skip", Configuration.clip_skip),
    )
    if run.error_code:
        message.error.CopyFrom(
            artifact_pb2.ItemError(code=run.error_code, reason=run.error_reason, message=run.error_message)
        )
    return message


def model(row: models.ModelRow) -> pb.Model:
    """Returns a model as a message."""
    return pb.Model(
        name=f"models/{row.id}",
        display_name=row.display_name,
        taste=row.taste,
        method=method_value(row.method),
        base_model=row.base_model,
        base_digest=row.base_digest,
        parents=row.parents,
        adapter_digest=row.adapter_digest,
        manifest_digest=row.manifest_digest,
        rater_version=row.rater_version,
        config_digest=row.config_digest,
        seed=row.seed,
        metrics=row.metrics,
        create_time=_timestamp(row.create_time),
        current=row.current,
        night=row.night,
        training_run=f"trainingRuns/{row.training_run}",
        concepts=[pb.Concept(**concept) for concept in json.loads(row.configuration).get("concepts", ())],
    )


def token(sequence: int) -> str:
    """Returns the token of the page below a sequence number."""
    return base64.urlsafe_b64encode(json.dumps({"before": sequence}).encode()).decode()


def before(page_token: str) -> int:
    """Returns the sequence number a page lies below.

    Raises:
        InvalidArgument: the token is none that this server gave.
    """
    if not page_token:
        return NEWEST
    try:
        sequence = json.loads(base64.urlsafe_b64decode(page_token.encode()))["before"]
    except (ValueError, binascii.Error, KeyError, TypeError, RecursionError) as error:
        raise _bad_token() from error
    if not isinstance(sequence, int) or not 0 < sequence < NEWEST:
        raise _bad_token()
    return sequence


def _bad_token() -> InvalidArgument:
    message = "expected the next_page_token of an earlier page; came something else: start again without one"
    return InvalidArgument(message, reason="PAGE_TOKEN", field="page_token")


def _timestamp(seconds: float) -> Timestamp:
    return Timestamp(seconds=int(seconds), nanos=int(seconds % 1 * 1e6) * 1000)
