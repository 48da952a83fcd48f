"""Which images of a view have pixels: followed as they go and come back, whatever has gone before."""

import hashlib

import numpy as np
import pytest

from konomi_chassis.storage.database import open_database, reading
from konomi_rater.storage import collected, image_records, tastes
from konomi_rater.storage.embeddings import EmbeddingMatrix
from konomi_rater.storage.image_records import Filter, ImageFacts
from konomi_rater.storage.schema import MIGRATIONS, SCHEMA
from tests.postgresql import unguard

DIGESTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(3000)]


def fill(engine, digests, taste="t"):
    with engine.begin() as connection:
        tastes.create(connection, taste, "", "starter", "starter", 0.0)
        rows = np.random.default_rng(0).standard_normal((len(digests), 4)).astype(np.float32)
        image_records.remember_embeddings(connection, "starter", dict(zip(digests, rows, strict=True)))
        for digest in digests:
            image_records.add(connection, taste, ImageFacts(digest, 1, unit="u", night="n"), (8, 8), 0.0)


def collect(connection, digests, taste="t"):
    rows = collected.standings(connection, taste, digests)
    assert [row.digest for row in rows] == [digest for digest in DIGESTS if digest in digests]
    collected.note_collected(connection, rows, {}, "a policy", 1.0)


def gone(view):
    return {view.digests[int(at)] for at in np.flatnonzero(view.without_pixels)}


@pytest.fixture
def engine(rows, tmp_path):
    engine = rows.open(tmp_path, SCHEMA)
    yield engine
    engine.dispose()


def views(engine, *memories):
    with reading(engine) as connection:
        return [memory.view(connection) for memory in memories]


def test_a_view_follows_what_goes_and_what_comes_back_and_an_earlier_one_stays_as_it_was(engine):
    fill(engine, DIGESTS[:20])
    memory = EmbeddingMatrix("t", "starter")
    (before,) = views(engine, memory)
    with engine.begin() as connection:
        collect(connection, DIGESTS[3:9])
    (after,) = views(engine, memory)
    with engine.begin() as connection:
        collected.note_returned(connection, "t", DIGESTS[3:5], "again", 2.0)
        collect(connection, DIGESTS[15:16])
    (later,) = views(engine, memory)
    assert [gone(view) for view in (before, after)] == [set(), set(DIGESTS[3:9])]
    assert gone(later) == {*DIGESTS[5:9], DIGESTS[15]} == gone(views(engine, EmbeddingMatrix("t", "starter"))[0])
    grades = np.zeros(20, np.int8)
    assert len(image_records.admit(later, Filter(), grades)) == 20
    admitted = image_records.admit(later, Filter(), grades, with_pixels=True)
    assert {later.digests[int(at)] for at in admitted} == set(DIGESTS[:20]) - gone(later)


def test_images_that_come_and_images_that_leave_do_not_mix_it_up(engine):
    fill(engine, DIGESTS[:20])
    memory = EmbeddingMatrix("t", "starter")
    with engine.begin() as connection:
        collect(connection, DIGESTS[3:9])
    views(engine, memory)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM images WHERE digest IN ('{DIGESTS[1]}', '{DIGESTS[4]}')")
        image_records.remember_embeddings(connection, "starter", {DIGESTS[30]: np.ones(4, np.float32)})
        image_records.add(connection, "t", ImageFacts(DIGESTS[30], 1, unit="u", night="n"), (8, 8), 0.0)
    (view,) = views(engine, memory)
    assert gone(view) == {DIGESTS[3], *DIGESTS[5:9]} and len(view) == 19


def test_a_snapshot_of_before_and_a_log_that_begins_anew_are_read_whole(engine):
    fill(engine, DIGESTS[:20])
    memory = EmbeddingMatrix("t", "starter")
    with reading(engine) as old:
        assert gone(memory.view(old)) == set()
        with engine.begin() as connection:
            collect(connection, DIGESTS[3:9])
        assert gone(views(engine, memory)[0]) == set(DIGESTS[3:9])
        assert gone(memory.view(old)) == set()
    assert gone(views(engine, memory)[0]) == set(DIGESTS[3:9])
    with engine.begin() as connection:  # as when another taste takes its place
        unguard(connection, "collected_images", "DELETE")
        connection.exec_driver_sql("DELETE FROM collected_images")
        connection.exec_driver_sql("DELETE FROM images_without_pixels")
        collect(connection, DIGESTS[10:11])
    assert gone(views(engine, memory)[0]) == {DIGESTS[10]}


def test_a_view_costs_the_same_at_ten_times_as_many_without_pixels(tmp_path):
    costs = []
    for count in (200, 2000):
        engine = open_database(tmp_path / f"{count}.sqlite", MIGRATIONS)
        fill(engine, DIGESTS[: count + 10])
        with engine.begin() as connection:
            collect(connection, DIGESTS[:count])
        memory, steps = EmbeddingMatrix("t", "starter"), []
        views(engine, memory)
        with engine.begin() as connection:
            collect(connection, DIGESTS[count : count + 3])
        with reading(engine) as connection:
            connection.connection.driver_connection.set_progress_handler(lambda steps=steps: steps.append(1) or 0, 1)
            assert len(gone(memory.view(connection))) == count + 3
            changed = len(steps)
            memory.view(connection)
            costs.append((changed, len(steps) - changed))
            known = collected.without_pixels(connection, "t", DIGESTS[:2])
            connection.connection.driver_connection.set_progress_handler(None, 1)
        assert known == set(DIGESTS[:2])
        engine.dispose()
    (few_changed, few), (many_changed, many) = costs
    assert 0 < many <= 1.2 * few + 20, "nothing changed"
    assert 0 < many_changed <= 1.2 * few_changed + 20, "three went"
