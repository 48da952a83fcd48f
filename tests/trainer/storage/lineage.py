"""A trainer's rows without a trainer: runs that ended as they do, models, promotions, the way back."""

import sqlalchemy

from konomi.errors import FailedPrecondition
from konomi_trainer.storage import models, runs
from konomi_trainer.storage.models import ModelRow
from konomi_trainer.storage.runs import Published, Run

TASTE = "tastes/t"
ADAPTERS = ("a" * 64, "b" * 64, "c" * 64)


def queue(connection: sqlalchemy.Connection, manifest: str) -> Run:
    """Queues a run, or again."""
    return runs.create(
        connection, TASTE, manifest, "c", request=bytes(range(256)), configuration="{}", total_steps=6, now=1 / 3
    )


def finish(connection: sqlalchemy.Connection, run: Run, adapter: str) -> ModelRow:
    """Ends a run with two published checkpoints and a model."""
    assert runs.start(connection, run.id)
    runs.publish(connection, run.id, Published(3, 0.5, None, adapter[::-1].replace(adapter[0], "d"), ""))
    runs.publish(connection, run.id, Published(6, 0.25, 0.125, adapter, "e" * 64))
    model = ModelRow(
        id=f"model-{run.manifest_digest}",
        training_run=run.id,
        taste=TASTE,
        display_name="単位 %s :x",
        method="lora",
        base_model="starter",
        base_digest="",
        parents=("base",),
        adapter_digest=adapter,
        manifest_digest="f" * 64,
        rater_version="r1",
        config_digest="c",
        configuration="{}",
        seed=(1 << 63) - 1,
        metrics={"win_rate": 0.75},
        night="n",
        create_time=2 / 3,
    )
    models.register(connection, model)
    runs.succeed(connection, run.id, model.id, 6, 0.25)
    return model


def live(engine: sqlalchemy.Engine) -> None:
    """A home in which things happened: three models of which two were served, a failure, a run that waits."""
    for number, adapter in enumerate(ADAPTERS):
        with engine.begin() as connection:
            model = finish(connection, queue(connection, f"m{number}"), adapter)
        if number:
            with engine.begin() as connection:
                models.promote(connection, model, {"coverage": 1 / 3}, 5.0)
    with engine.begin() as connection:
        models.roll_back(connection, TASTE, 6.0)
        failed = queue(connection, "broken")
        runs.fail(connection, failed.id, FailedPrecondition("Es geht nicht.", reason="DIVERGED"), 2, 9.5)
        queue(connection, "waits")
        line = "INSERT INTO requests VALUES ('a', 'CreateTrainingRun', 'b', :reply)"
        connection.execute(sqlalchemy.text(line), {"reply": bytes(range(256))})
