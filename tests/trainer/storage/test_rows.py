"""Runs, models and promotions in either engine: what is asked of them comes back the same."""

import pytest
import sqlalchemy

from konomi.errors import FailedPrecondition, Internal
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import reading
from konomi_trainer.storage import models, runs
from konomi_trainer.storage.collected import CheckpointCollection
from konomi_trainer.storage.runs import Published
from konomi_trainer.storage.schema import SCHEMA
from tests.trainer.storage.lineage import ADAPTERS, TASTE, live, queue

DAY = 86400.0


@pytest.fixture
def engine(rows, tmp_path):
    opened = rows.open(tmp_path, SCHEMA)
    live(opened)
    yield opened
    opened.dispose()


def test_what_was_written_is_read(engine):
    with reading(engine) as connection:
        newest, middle, oldest = models.page(connection, TASTE, 1 << 62, 10)
        assert [model.id for model in (newest, middle, oldest)] == ["model-m2", "model-m1", "model-m0"]
        assert (newest.current, middle.current, oldest.current) == (False, True, False)
        assert middle.metrics == {"win_rate": 0.75, "coverage": 1 / 3} and middle.seed == (1 << 63) - 1
        assert middle.display_name == "単位 %s :x" and middle.create_time == 2 / 3 and middle.parents == ("base",)
        assert models.page(connection, "", middle.sequence, 1) == [oldest]
        assert models.page(connection, "tastes/u", 1 << 62, 10) == []
        run = runs.get(connection, middle.training_run)
        assert run is not None and run.request == bytes(range(256)) and run.create_time == 1 / 3
        assert (run.state, run.model, run.cancel_requested) == (runs.SUCCEEDED, middle.id, False)
        assert runs.published(connection, run.id)[1] == Published(6, 0.25, 0.125, ADAPTERS[1], "e" * 64)
        assert [run.manifest_digest for run in runs.page(connection, 1 << 62, 2)] == ["waits", "broken"]
        assert models.was_promoted(connection, newest) and not models.was_promoted(connection, oldest)


def test_a_checkpoint_of_the_same_step_takes_the_place_of_the_first(engine):
    with engine.begin() as connection:
        run = queue(connection, "m0")
        runs.publish(connection, run.id, Published(6, 0.125, None, "9" * 64, ""))
        assert [one.step for one in runs.published(connection, run.id)] == [3, 6]
        assert runs.published(connection, run.id)[1] == Published(6, 0.125, None, "9" * 64, "")


def test_an_interrupted_run_comes_before_one_that_waits_and_a_cancelled_one_is_queued_again(engine):
    with engine.begin() as connection:
        later = queue(connection, "later")
        assert runs.next_unfinished(connection).manifest_digest == "waits"
        runs.start(connection, later.id)
        assert runs.next_unfinished(connection).id == later.id
        runs.cancel(connection, later.id, 3, 0.5)
        assert queue(connection, "later").state == runs.QUEUED
        runs.request_cancel(connection, later.id)
        assert runs.get(connection, later.id).state == runs.CANCELLED and not runs.start(connection, later.id)
        assert queue(connection, "broken").state == runs.FAILED, "one that diverged stays"
        runs.fail(connection, later.id, Internal("x"), 1, 1.0)
        assert runs.get(connection, later.id).error_code == Internal("x").code.value[0]


def test_the_way_back_ends_at_the_base_model(engine):
    with engine.begin() as connection:
        assert models.roll_back_to(connection, TASTE, "base", 7.0) is None
    with pytest.raises(FailedPrecondition, match="nothing to roll back"), engine.begin() as connection:
        models.roll_back(connection, TASTE, 8.0)
    with engine.begin() as connection:
        model = models.promote(connection, models.get(connection, "model-m0"), {}, 9.0)
        assert models.get(connection, model.id).current
        assert models.promote(connection, model, {"again": 1.0}, 9.5).metrics["again"] == 1.0
        with pytest.raises(FailedPrecondition, match="was current before"):
            models.roll_back_to(connection, TASTE, "models/model-m2", 9.0)


def test_a_run_is_not_registered_twice_and_a_model_needs_its_run(engine):
    for change in ({"id": "again"}, {"id": "again", "training_run": "none"}):
        with pytest.raises(sqlalchemy.exc.IntegrityError), engine.begin() as connection:
            model = models.get(connection, "model-m0")
            models.register(connection, type(model)(**{**vars(model), **change}))
    with pytest.raises(sqlalchemy.exc.IntegrityError), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO promotions (taste, action, time) VALUES ('t', 'forget', 1.0)")


def test_superseded_adapters_are_written_down_once(engine, tmp_path):
    store = ArtifactStore(StoreSettings(home=tmp_path))
    superseded = store.put(b"adapter", "application/octet-stream").digest
    with engine.begin() as connection:
        run = queue(connection, "m1")
        runs.publish(connection, run.id, Published(3, 0.5, None, superseded, ""))
    later = store.last_used(superseded) + 10 * DAY
    collection = CheckpointCollection(engine, store, lambda: later)
    assert collection.run(7 * DAY, dry=True).digests == [superseded]
    taken = collection.run(7 * DAY, dry=False)
    assert taken.digests == [superseded] and not store.exists(superseded)
    assert {kind: len(found) for kind, found in collection.run(7 * DAY, dry=False).kinds.items()} == {
        "absent": 4,
        "collected": 1,
    }
    with reading(engine) as connection:
        assert [one.adapter_collected for one in runs.published(connection, run.id)] == [True, False]
