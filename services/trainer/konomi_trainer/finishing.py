"""Ending a run at the checkpoint that somebody who can judge has chosen."""

import json
from collections.abc import Mapping

from sqlalchemy import Connection

from konomi.errors import FailedPrecondition, NotFound
from konomi.v1 import trainer_pb2 as pb
from konomi_trainer import models, runs
from konomi_trainer.configuration import Configuration


def finish(connection: Connection, run: runs.Run, step: int, metrics: Mapping[str, float], now: float) -> models.Model:
    """Makes a published checkpoint the model of its run, which ends; belongs into one transaction.

    A run that has ended with its last weights may still be given an earlier checkpoint, until its model is promoted.

    Args:
        connection: inside a transaction.
        run: as it is in the table.
        step: of the checkpoint.
        metrics: figures to keep with the model.
        now: seconds since 1970.

    Raises:
        NotFound: the run published no adapter at this step.
        FailedPrecondition: the model was promoted already.
    """
    found = next((p for p in runs.published(connection, run.id) if p.step == step and p.adapter_digest), None)
    if found is None:
        raise NotFound(
            f"The run {run.id} has published no adapter at step {step}; see its checkpoints, and ask for adapters "
            "in `reports` when it is created.",
            reason="CHECKPOINT_NOT_FOUND",
        )
    figures = {"steps": float(step), "loss": found.loss, **metrics}
    if found.validation_loss is not None:
        figures["validation_loss"] = found.validation_loss
    model = models.get(connection, run.model) if run.model else None
    if model is None:
        configuration = Configuration(**json.loads(run.configuration))
        model = model_of(run, configuration, found.adapter_digest, figures, now)
        models.register(connection, model)
    elif models.was_promoted(connection, model):
        raise FailedPrecondition(
            f"expected a model that was never promoted; {model.id} was, so its weights stay: start a new run",
            reason="MODEL_PROMOTED",
        )
    else:
        models.exchange(connection, model, found.adapter_digest, {**model.metrics, **figures})
    runs.succeed(connection, run.id, run.id, step, found.loss)
    return model


def model_of(
    run: runs.Run, configuration: Configuration, adapter_digest: str, metrics: dict[str, float], now: float
) -> models.Model:
    """Returns the model of a run, which bears its id."""
    request = pb.CreateTrainingRunRequest.FromString(run.request)
    return models.Model(
        id=run.id, training_run=run.id, taste=run.taste, display_name=request.display_name,
        method=configuration.method, base_model=configuration.base_model, base_digest=configuration.base_digest,
        parents=tuple(request.parents), adapter_digest=adapter_digest, manifest_digest=run.manifest_digest,
        rater_version=request.rater_version, config_digest=run.config_digest, configuration=run.configuration,
        seed=configuration.seed, metrics=metrics, night=request.night, create_time=now,
    )  # fmt: skip
