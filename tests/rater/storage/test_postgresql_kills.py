"""Acknowledged labels on PostgreSQL under kill -9, of the writer and of the whole server: none lost, none doubled."""

import os
import random
import signal
import time
import uuid

import pytest

from konomi.errors import KonomiError
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.settings import DatabaseSettings
from konomi_chassis.storage.database import open_for_role, reading
from konomi_chassis.storage.dialects import NO_LIMIT
from konomi_chassis.storage.idempotency import Idempotency
from konomi_rater.storage import image_records, labels, tastes
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.in_force import verify_in_force
from konomi_rater.storage.labels import NewLabel
from konomi_rater.storage.schema import SCHEMA

DIGESTS = [f"{number:064x}" for number in range(5)]
RPC = "RecordLabels"
MOST = 60
"""Labels a writer is allowed before it is killed."""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_acknowledged_label_is_lost_in_a_few_kills(postgresql, tmp_path):
    assert kills(postgresql, tmp_path, 6) >= 6


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_no_acknowledged_label_is_lost_in_two_hundred_kills(postgresql, tmp_path):
    assert kills(postgresql, tmp_path, int(os.environ.get("KILLS", "200"))) >= 1000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_where_commits_do_not_wait_for_the_disk_the_check_finds_what_is_lost(postgresql, tmp_path, monkeypatch):
    monkeypatch.setattr("konomi_chassis.storage.postgresql.server.NEEDED", {})
    with postgresql.setting("synchronous_commit", "off"), pytest.raises(AssertionError, match="lost"):
        kills(postgresql, tmp_path, 12)


def kills(server, home, count: int) -> int:
    """Lets writers write and kills them, or every third time the server; returns how many labels were acknowledged."""
    rng = random.Random(count)
    settings = DatabaseSettings(home=home, url=server.database())
    engine = open_for_role(settings, SCHEMA)
    with engine.begin() as connection:
        tastes.create(connection, "t", "", "starter", "starter", 0.0)
        for digest in DIGESTS:
            image_records.add(connection, "t", ImageFacts(digest, 1), (8, 8), 0.0)
    engine.dispose()
    acknowledged: dict[int, int] = {}
    for number in range(count):
        before = dict(acknowledged)
        asked, said = write_until_killed(settings, rng, server if number % 3 == 2 else None)
        acknowledged.update(said)
        assert len(acknowledged) == len(before) + len(said), "a sequence was given twice"
        check(settings, acknowledged, asked)
    return len(acknowledged)


def write_until_killed(settings, rng, server) -> tuple[tuple[str, int], dict[int, int]]:
    """Forks a writer, kills it or the server at a random moment; returns the last request and what was acknowledged."""
    read, write = os.pipe()
    last, wait, seed = rng.randrange(1, MOST), rng.random() * 0.004, rng.randrange(1 << 30)
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            write_on(settings, write, random.Random(seed))
        except KonomiError:
            pass  # the server is gone
        finally:
            os._exit(0)
    os.close(write)
    asked, said = ("", 0), {}
    with os.fdopen(read) as lines:
        for line in lines:
            kind, *facts = line.split()
            if kind == "asked":
                asked = (facts[0], int(facts[1]))
            else:
                said[int(facts[0])] = int(facts[1])
            if len(said) == last:
                last = -1
                time.sleep(wait)  # into the middle of what comes next
                server.kill() if server is not None else os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return asked, said


def write_on(settings, pipe: int, rng: random.Random) -> None:
    """Records labels as the service does, saying each request before it and each sequence once it is committed."""
    engine = open_for_role(settings, SCHEMA, wait_seconds=60)
    while True:
        request_id, grade = str(uuid.UUID(int=rng.getrandbits(128))), rng.randrange(1, 6)
        os.write(pipe, f"asked {request_id} {grade}\n".encode())
        sequence = record(engine, request_id, grade)
        os.write(pipe, f"label {sequence} {grade}\n".encode())


def record(engine, request_id: str, grade: int) -> int:
    request = pb.RecordLabelsRequest(taste="tastes/t", request_id=request_id)
    memory = Idempotency()
    with engine.begin() as connection:
        first = memory.replay(connection, RPC, request)
        if first is not None:
            return pb.RecordLabelsResponse.FromString(first).labels[0].sequence
        (entry,) = labels.record(connection, "t", [NewLabel(DIGESTS[grade % 5], grade)], 1.0)
        reply = pb.RecordLabelsResponse(labels=[pb.Label(sequence=entry.sequence)])
        memory.remember(connection, RPC, request, reply)
        return entry.sequence


def check(settings, acknowledged: dict[int, int], asked: tuple[str, int]) -> None:
    """What was acknowledged is there, in one chain, and asking again for what was not leaves one label of it."""
    engine = open_for_role(settings, SCHEMA, wait_seconds=60)
    with reading(engine) as connection:
        log = {entry.sequence: entry.grade for entry in labels.read(connection, "t", 0, NO_LIMIT, in_force=False)}
        assert labels.verify(connection, "t") == len(log)
        verify_in_force(connection, "t")
    lost = acknowledged.items() - log.items()
    assert not lost, f"lost {sorted(lost)}"
    assert len(log) <= len(acknowledged) + 1, "at most one was committed and not yet acknowledged"
    sequence = record(engine, *asked)
    assert record(engine, *asked) == sequence
    with reading(engine) as connection:
        assert labels.last_sequence(connection, "t") == max(len(log), sequence)
    acknowledged[sequence] = asked[1]
    engine.dispose()
