"""Raters that only read, beside one that writes: what they answer and refuse, and what happens without it."""

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc

from konomi.errors import FailedPrecondition, NotFound, Unavailable, from_rpc_error
from konomi.v1 import rater_pb2 as pb
from konomi_chassis.auth.policy import LABELLING, READING
from konomi_chassis.settings import DatabaseSettings, ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.database import open_for_role, open_to_follow, reading
from konomi_chassis.storage.postgresql.engine import refuse_standby
from konomi_chassis.storage.schema import Migration
from konomi_rater.__main__ import build
from konomi_rater.replica.following import FOLLOW_SECONDS, Following, read_only
from konomi_rater.replica.rpcs import READS
from konomi_rater.storage.schema import SCHEMA
from tests.rater.conftest import Rater, connected, grades_of, started

BOTH_ENGINES = True
SERVICES = ("konomi.v1.RaterService", "konomi.v1.ArtifactService")


@contextmanager
def replica(home: Path, folder: Path, **settings: str) -> Iterator[Rater]:
    """Gives a rater that only reads: a home of its own where the rows are in PostgreSQL, else that of the writer."""
    if DatabaseSettings(home=home).url.get_secret_value():
        folder.mkdir()
        for name in ("konomi.toml", "models", "artifacts"):
            (folder / name).symlink_to(home / name)
        shutil.copytree(home / "tokens", folder / "tokens")
        home = folder
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(f"KONOMI_{name.upper()}", value)
        server, store = ServerSettings(home=home), ArtifactStore(StoreSettings(home=home))
        with started(home, store, build(server, store, read_only=True)) as running:
            yield running


def rpcs() -> list[tuple[str, str, bool]]:
    """Returns service, name, and whether requests come as a stream, of every rpc a rater's server has."""
    pool = descriptor_pool.Default()
    return [
        (service, method.name, method.client_streaming)
        for service in SERVICES
        for method in pool.FindServiceByName(service).methods
    ]


def outcome(rater: Rater, service: str, rpc: str) -> Exception | None:
    """Calls an rpc with an empty message of raw bytes, as nobody could mistake for a valid change."""
    channel = grpc.insecure_channel(rater.address)
    try:
        call = channel.stream_stream(f"/{service}/{rpc}")
        list(call(iter([b""]), timeout=20, metadata=[("authorization", f"Bearer {rater.token}")]))
    except grpc.RpcError as error:
        return from_rpc_error(error)
    finally:
        channel.close()
    return None


def wait_until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    """Waits for what another thread is to do."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def health(rater: Rater) -> str:
    """Returns what a probe of health is told."""
    with grpc.insecure_channel(rater.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def score(rater: Rater, taste: str, digest: str) -> pb.Score:
    """Returns the score of one image."""
    request = pb.ScoreImagesRequest(taste=taste, images=[pb.ImageInput(digest=digest)])
    return rater.call("ScoreImages", request).results[0].score


def test_every_rpc_that_keeps_something_is_refused_and_every_other_is_served(rater, fitted, tmp_path):
    with replica(rater.home, tmp_path / "a", writer="rater.example:50051") as reader:
        for service, rpc, _ in rpcs():
            error = outcome(reader, service, rpc)
            refused = getattr(error, "reason", "") == "READ_ONLY_REPLICA"
            assert refused is (rpc not in READS), (rpc, error)
            if refused:
                assert isinstance(error, FailedPrecondition)
                assert error.message == (
                    "This rater only reads, and what was asked of it changes what is kept. Ask the rater that writes, "
                    "at rater.example:50051."
                )


def test_what_is_served_names_rpcs_there_are_and_no_labelling():
    names = {rpc for _, rpc, _ in rpcs()}
    assert names >= READS
    assert not READS & {rpc.rpartition("/")[2] for rpc in LABELLING}
    raters = {rpc.rpartition("/")[2] for rpc in READING if rpc.split("/")[1] in SERVICES}
    assert raters <= READS


def test_without_an_address_the_refusal_says_which_rater_to_ask():
    assert read_only("").message.endswith(
        "Ask the rater that writes, the one that was started without --read-only (KONOMI_WRITER can name it)."
    )


def test_a_stranger_is_told_nothing_of_what_is_served(rater, fitted, tmp_path):
    with replica(rater.home, tmp_path / "a") as reader, grpc.insecure_channel(reader.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/konomi.v1.RaterService/RecordLabels")(b"", timeout=20)
        assert from_rpc_error(caught.value).reason == "TOKEN_MISSING"


def test_two_replicas_answer_as_the_writer_does_and_follow_what_it_fits(rater, fitted, tmp_path):
    taste, digest = fitted.taste, fitted.digests[100]
    with replica(rater.home, tmp_path / "a") as first, replica(rater.home, tmp_path / "b") as second:
        readers = (first, second)
        assert all(score(reader, taste, digest) == score(rater, taste, digest) for reader in readers)
        before = score(rater, taste, digest).rater_version
        rater.label(taste, grades_of(fitted, fitted.digests[40:80]))
        version = rater.fit(taste)
        for reader in readers:  # what a call reads is of its own moment, so nothing is waited for
            now = score(reader, taste, digest)
            assert now.rater_version == version.name != before
            assert now == score(rater, taste, digest)
        name = pb.ActivateRaterVersionRequest(name=before, request_id=str(uuid.uuid4()))
        rater.call("ActivateRaterVersion", name)
        assert {score(reader, taste, digest).rater_version for reader in readers} == {before}


def test_what_a_replica_reads_keeps_nothing_and_a_slate_is_refused(rater, fitted, tmp_path):
    taste = fitted.taste
    with replica(rater.home, tmp_path / "a") as reader:
        assert len(reader.call("SuggestImages", pb.SuggestImagesRequest(taste=taste, count=5)).suggestions) == 5
        assert reader.call("ListLabels", pb.ListLabelsRequest(taste=taste)).labels
        assert reader.call("ExploreNovelty", pb.ExploreNoveltyRequest(taste=taste, count=3)).images
        assert reader.call("GetTaste", pb.GetTasteRequest(name=taste)).label_count == 40
        with pytest.raises(FailedPrecondition) as caught:
            reader.call("SuggestImages", pb.SuggestImagesRequest(taste=taste, slate=True))
        assert caught.value.reason == "READ_ONLY_REPLICA"


def test_a_new_image_is_scored_by_a_replica_at_once(rater, fitted, tmp_path):
    digest = fitted.digests[5]
    with replica(rater.home, tmp_path / "a") as reader:
        other = rater.taste("other")
        rater.add(other, [pb.Image(digest=digest, source=pb.SOURCE_SELF, prompt="p", unit="base")])
        assert [image.digest for image in reader.call("ListImages", pb.ListImagesRequest(taste=other)).images] == [
            digest
        ]


def test_a_taste_that_was_replaced_is_scored_by_its_own_head_within_two_seconds(rater, fitted, tmp_path):
    taste, digest = fitted.taste, fitted.digests[100]
    rows = rater.stream("ExportTaste", pb.ExportTasteRequest(taste=taste))[0].artifact.digest
    rater.label(taste, grades_of(fitted, fitted.digests[40:80]))
    rater.fit(taste)
    with replica(rater.home, tmp_path / "a") as reader:
        second = score(reader, taste, digest)
        request = pb.ImportTasteRequest(rows_digest=rows, taste=taste, replace=True, request_id=str(uuid.uuid4()))
        rater.call("ImportTaste", request)
        # The same number under another head: the one number a replica remembers a head by.
        rater.label(taste, {d: 6 - g for d, g in grades_of(fitted, fitted.digests[40:80]).items()})
        assert rater.fit(taste).name == second.rater_version
        wanted = score(rater, taste, digest)
        assert wanted.utility != second.utility
        wait_until(lambda: score(reader, taste, digest) == wanted, seconds=30.0)
        assert FOLLOW_SECONDS < 2.0


def test_a_database_that_cannot_be_read_is_told_and_probed_until_it_is_back(rater, fitted, tmp_path, kept_in):
    taste, digest = fitted.taste, fitted.digests[100]
    with replica(rater.home, tmp_path / "a") as reader:
        before = score(reader, taste, digest)
        assert health(reader) == "SERVING"
        with taken_away(rater.home, kept_in):
            with pytest.raises(Unavailable) as caught:
                score(reader, taste, digest)
            assert caught.value.reason == "DATABASE_UNREACHABLE"
            assert caught.value.retry_after == 1.0
            wait_until(lambda: health(reader) == "NOT_SERVING")
        wait_until(lambda: health(reader) == "SERVING")
        assert score(reader, taste, digest) == before


@contextmanager
def taken_away(home: Path, kept_in) -> Iterator[None]:
    """Takes the database from under everybody for a while, and brings it back."""
    if kept_in.server is not None:
        kept_in.server.stop()
        try:
            yield
        finally:
            kept_in.server.start()
        return
    path = home / "databases" / "rater.sqlite"
    path.rename(path.with_name("elsewhere"))
    try:
        yield
    finally:
        path.with_name("elsewhere").rename(path)


@dataclass
class Writer:
    """A rater that writes, as a process that can be killed."""

    home: Path
    process: subprocess.Popen | None = None

    def start(self) -> Rater:
        """Starts it and waits for its address."""
        command = [sys.executable, "-m", "konomi_rater", "--home", str(self.home)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        address = json.loads(self.process.stdout.readline())["address"]
        return connected(self.home, ArtifactStore(StoreSettings(home=self.home)), address)

    def kill(self) -> None:
        """Kills it as a kernel would."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdout.close()


def test_replicas_answer_while_the_writer_is_killed_and_lose_nothing_it_acknowledged(home, fitted_home, tmp_path):
    writer, library = Writer(home), fitted_home
    try:
        rater = writer.start()
        with replica(home, tmp_path / "a") as reader:
            before = score(reader, library.taste, library.digests[100])
            rater.label(library.taste, grades_of(library, library.digests[40:60]))
            writer.kill()
            assert score(reader, library.taste, library.digests[100]) == before
            labels = reader.call("GetTaste", pb.GetTasteRequest(name=library.taste)).label_count
            assert labels == 60
            with pytest.raises(FailedPrecondition, match="only reads"):
                reader.label(library.taste, {library.digests[0]: 1})
            again = writer.start()  # with a reader in the database all the while
            again.label(library.taste, grades_of(library, library.digests[60:70]))
            taste = pb.GetTasteRequest(name=library.taste)
            assert reader.call("GetTaste", taste) == again.call("GetTaste", taste)
            assert reader.call("GetTaste", taste).label_count == 70
    finally:
        writer.kill()


def test_a_reader_that_comes_after_a_killed_writer_leaves_its_log_as_it_is(home, fitted_home, kept_in):
    if kept_in.server is not None:
        pytest.skip("SQLite's own log")
    writer = Writer(home)
    try:
        writer.start().label(fitted_home.taste, grades_of(fitted_home, fitted_home.digests[40:60]))
        writer.kill()
        log = home / "databases" / "rater.sqlite-wal"
        held = log.read_bytes()
        assert held
        engine = open_to_follow(DatabaseSettings(home=home), SCHEMA, lambda: read_only(""))
        with engine.connect().execution_options(konomi_reading=True) as connection:
            assert connection.exec_driver_sql("SELECT COUNT(*) FROM labels").scalar_one() == 60
        engine.dispose()
        assert log.read_bytes() == held
    finally:
        writer.kill()


def test_nobody_writes_through_a_readers_engine(home, fitted_home):
    open_for_role(DatabaseSettings(home=home), SCHEMA).dispose()
    engine = open_to_follow(DatabaseSettings(home=home), SCHEMA, lambda: read_only(""))
    try:
        with pytest.raises(FailedPrecondition, match="only reads"), engine.begin() as connection:
            connection.exec_driver_sql("UPDATE tastes SET active = 0")
        with (
            engine.connect().execution_options(konomi_reading=True) as connection,
            pytest.raises(Exception, match="read"),
        ):
            connection.exec_driver_sql("UPDATE tastes SET active = 0")
    finally:
        engine.dispose()


def test_a_database_nobody_has_made_yet_is_refused(tmp_path, kept_in):
    with pytest.raises(FailedPrecondition) as caught:
        open_to_follow(kept_in.settings(tmp_path / "new"), SCHEMA, lambda: read_only(""))
    assert caught.value.reason == "DATABASE_NOT_READY"
    assert "Start the rater that writes first" in caught.value.message
    assert not (tmp_path / "new" / "databases").exists()


def test_the_flag_and_the_setting_say_the_same(home, fitted_home, monkeypatch):
    monkeypatch.setenv("KONOMI_READ_ONLY", "1")
    server, store = ServerSettings(home=home), ArtifactStore(StoreSettings(home=home))
    with started(home, store, build(server, store)) as reader:
        assert outcome(reader, SERVICES[0], "CreateTaste").reason == "READ_ONLY_REPLICA"


def test_a_database_of_another_konomi_is_refused(home, fitted_home):
    settings = DatabaseSettings(home=home)
    open_for_role(settings, SCHEMA).dispose()
    newer = replace(SCHEMA, migrations=(*SCHEMA.migrations, Migration(len(SCHEMA.migrations) + 1, (), ())))
    older = replace(SCHEMA, migrations=SCHEMA.migrations[:-1])
    for schema, reason in ((newer, "DATABASE_NOT_READY"), (older, "SCHEMA_NEWER")):
        with pytest.raises(FailedPrecondition) as caught:
            open_to_follow(settings, schema, lambda: read_only(""))
        assert caught.value.reason == reason


def test_a_file_put_in_the_place_of_the_one_that_was_read_is_read_from_then_on(home, fitted_home, kept_in):
    if kept_in.server is not None:
        pytest.skip("a file of SQLite")
    path = home / "databases" / "rater.sqlite"
    open_for_role(DatabaseSettings(home=home), SCHEMA).dispose()
    backup = path.with_name("backup")
    shutil.copyfile(path, backup)
    engine = open_to_follow(DatabaseSettings(home=home), SCHEMA, lambda: read_only(""))

    def count() -> int:
        with reading(engine) as connection:
            return connection.exec_driver_sql("SELECT COUNT(*) FROM tastes").scalar_one()

    try:
        assert count() == 1
        path.unlink()
        open_for_role(DatabaseSettings(home=home), SCHEMA).dispose()  # an empty one, as somebody would begin anew
        assert count() == 0
        backup.replace(path)
        assert count() == 1
    finally:
        engine.dispose()


def test_a_standby_is_refused():
    class Standby:
        def execute(self, _query):
            return self

        def fetchone(self):
            return (True,)

        def rollback(self):
            pass

    with pytest.raises(FailedPrecondition, match=r"give .database. url the server it follows") as caught:
        refuse_standby(Standby(), "the PostgreSQL database d at h")
    assert caught.value.reason == "DATABASE_STANDBY"


@pytest.mark.slow
def test_the_command_takes_the_flag_and_refuses_without_a_database(tmp_path):
    command = [sys.executable, "-m", "konomi_rater", "--home", str(tmp_path), "--read-only"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 78
    assert "rater cannot start: There is no database of the rater here" in done.stderr


@pytest.mark.parametrize("error", [NotFound("gone"), RuntimeError("a library's own")])
def test_following_says_only_what_changed_and_ends(error):
    failing, said = [False], []
    looked = [0]

    def follow() -> None:
        looked[0] += 1
        if failing[0]:
            raise error

    following = Following(follow, seconds=0.001)
    following.start(said.append)
    wait_until(lambda: looked[0] > 3)
    failing[0] = True
    wait_until(lambda: said == [False])
    failing[0] = False
    wait_until(lambda: said == [False, True])
    following.close()
    after = looked[0]
    time.sleep(0.02)
    assert looked[0] == after
