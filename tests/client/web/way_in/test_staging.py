"""Where uploaded files lie: by their names, within limits, never elsewhere, and gone when they were read."""

import os
import shutil
import threading
import time
from collections import namedtuple

import pytest

from konomi.errors import (
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    KonomiError,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from konomi.v1 import rater_pb2 as rater
from konomi.web.uploads import staging as module
from konomi.web.uploads.endpoints import IDLE_SECONDS, KEPT, OPEN_AT_ONCE, UploadEndpoints
from konomi.web.uploads.staging import Room, Staging, UploadLimits
from konomi.web.uploads.upload import PageUpload
from tests.client.conftest import make_png

SMALL = UploadLimits(
    files=3, file_bytes=400, picture_bytes=200, all_bytes=500, images=5, image_bytes=2000, spare_bytes=0
)
UNSAFE = (
    *("../a.png", "a/../../b.png", "/etc/passwd", "C:/a.png", "C:\\a.png", "..\\..\\a.png", "a//b.png", "./a.png"),
    *("a/./b.png", "a\0.png", "..", ".", "/", "a/"),
)


@pytest.fixture
def staging(tmp_path):
    return Staging(tmp_path / "uploads" / "one", SMALL)


def bring(staging: Staging, name: str, data: bytes, size: int | None = None) -> None:
    incoming = staging.receive(name, len(data) if size is None else size)
    try:
        incoming.write(data)
        incoming.finish()
    finally:
        incoming.close()


def refused(error: type[KonomiError], staging: Staging, name: str, data: bytes, **more) -> tuple[str, str]:
    with pytest.raises(error) as caught:
        bring(staging, name, data, **more)
    return caught.value.reason, caught.value.message


def files(staging: Staging) -> dict[str, bytes]:
    tree = staging.tree
    return {path.relative_to(tree).as_posix(): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def test_files_lie_by_their_names_for_their_owner_alone(staging):
    bring(staging, "10_cat/猫 %2e%2e.png", b"x" * 200)
    bring(staging, "10_cat/a\\b.txt", b"words")
    assert files(staging) == {"10_cat/猫 %2e%2e.png": b"x" * 200, "10_cat/a\\b.txt": b"words"}
    assert staging.tree.stat().st_mode & 0o777 == staging.tree.parent.stat().st_mode & 0o777 == 0o700
    assert (staging.pictures, staging.containers) == (1, 0)
    staging.remove()
    assert not staging.tree.parent.exists()
    with pytest.raises(NotFound, match="bring the files again") as gone:
        staging.receive("a.png", 1)
    assert gone.value.reason == "UPLOAD_GONE"


@pytest.mark.parametrize("name", UNSAFE)
def test_a_name_that_leads_elsewhere_is_refused_and_leaves_nothing(staging, name):
    assert refused(InvalidArgument, staging, name, b"x") == (
        "UNSAFE_NAME",
        "has a name that leads elsewhere; it was not taken",
    )
    assert files(staging) == {}


@pytest.mark.parametrize("name", ["猫" * 90 + ".png", "/".join(["a"] * 33)])
def test_a_name_that_is_too_long_is_refused(staging, name):
    reason, message = refused(InvalidArgument, staging, name, b"x")
    assert reason == "NAME_TOO_LONG" and "255 bytes, and 32 folders" in message


def test_no_file_takes_the_place_of_another_nor_of_a_folder(staging):
    bring(staging, "a/b.png", b"first")
    words = "a file or folder of this name came before; only the first was taken"
    for name in ("a/b.png", "a", "a/b.png/c.png"):
        assert refused(AlreadyExists, staging, name, b"second") == ("TWICE", words)
    assert files(staging) == {"a/b.png": b"first"}
    bring(staging, "c.png", b"what was refused takes no room")
    bring(staging, "d.png", b"third")


def test_sizes_are_refused_before_a_byte_came(staging):
    words = "expected at most 0 MiB, got more; shrink it first"
    for name, most in (("a.png", 200), ("a.zip", 400), ("a.parquet", 400)):
        with pytest.raises(InvalidArgument) as caught:
            staging.receive(name, most + 1)
        assert (caught.value.reason, caught.value.message) == ("IMAGE_TOO_LARGE", words)
    bring(staging, "a.zip", b"x" * 400)
    with pytest.raises(ResourceExhausted, match="MiB at once, got more") as caught:
        staging.receive("b.png", 101)
    assert caught.value.reason == "TOO_MANY_BYTES"
    for name in ("b.png", "c.png"):
        bring(staging, name, b"x")
    with pytest.raises(ResourceExhausted, match="at most 3 files at once") as caught:
        staging.receive("d.png", 1)
    assert caught.value.reason == "TOO_MANY_FILES"


def test_what_was_announced_has_to_come(staging):
    assert refused(InvalidArgument, staging, "a.png", b"xx", size=1) == (
        "SIZE_MISMATCH",
        "expected 1 bytes, as was announced, got more",
    )
    reason, message = refused(InvalidArgument, staging, "a.png", b"xx", size=3)
    assert (reason, message) == ("SIZE_MISMATCH", "expected 3 bytes, as was announced, got 2")
    assert files(staging) == {} and not list(staging.tree.with_name("parts").iterdir())


def test_a_disk_without_room_is_told_before_and_during(staging, monkeypatch):
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
        reason, message = refused(ResourceExhausted, staging, "a.png", b"x")
    assert (reason, message) == ("DISK_FULL", "the disk of the home has no room for 1 MiB more; free some")
    full = OSError(28, "No space left on device")
    assert module.failure_of(full).reason == "DISK_FULL"
    other = module.failure_of(PermissionError(13, "Permission denied"))
    assert (type(other), other.message) == (FailedPrecondition, "cannot be kept: Permission denied")


ROOMY = UploadLimits(spare_bytes=0)
FREE = 300


@pytest.fixture
def disk(monkeypatch):
    """A disk that always has so many bytes free: what comes goes elsewhere."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 1000 - FREE, FREE))


def promise_all_but(staging: Staging, promised: int) -> None:
    """Asserts that exactly so many bytes of the disk are promised to files that are still coming."""
    with pytest.raises(ResourceExhausted) as caught:
        staging.receive("one too many.png", FREE - promised + 1)
    assert caught.value.reason == "DISK_FULL"
    staging.receive("just enough.png", FREE - promised).close()


def test_uploads_share_the_room_of_the_disk_and_each_byte_is_given_back_once(tmp_path, disk):
    room = Room()
    one, two = (Staging(tmp_path / name, ROOMY, room) for name in ("one", "two"))
    first = one.receive("a.png", 200)
    promise_all_but(two, 200)
    second = two.receive("b.png", 80)
    promise_all_but(one, 280)
    first.write(b"x" * 50)
    promise_all_but(two, 230)
    first.write(b"x" * 150)
    first.finish()
    promise_all_but(two, 80)
    first.close()
    promise_all_but(two, 80)
    second.close()  # it never came
    promise_all_but(one, 0)
    with pytest.raises(InvalidArgument):
        bring(one, "c.png", b"x" * 3, size=2)
    promise_all_but(two, 0)


def test_what_a_stopped_or_unwritable_file_was_promised_is_free_again(tmp_path, disk):
    room = Room()
    one, two = (Staging(tmp_path / name, ROOMY, room) for name in ("one", "two"))
    coming, upload = one.receive("a.png", 200), upload_of(one, Taste())
    coming.write(b"x" * 150)
    upload.stop()
    promise_all_but(two, 50)
    coming.write(b"x" * 50)
    with pytest.raises(NotFound):
        coming.finish()
    coming.close()
    promise_all_but(two, 0)
    shutil.rmtree(two.tree.with_name("parts"))
    with pytest.raises(FailedPrecondition) as caught:
        two.receive("b.png", 100)
    assert caught.value.reason == "FILE_UNWRITABLE"
    promise_all_but(Staging(tmp_path / "three", ROOMY, room), 0)


class Taste:
    """A rater that knows any taste and nothing else."""

    @property
    def rater(self):
        return self

    def ensure_taste(self, taste):
        return rater.Taste(name=taste)


def endpoints(folder, now=lambda: 0.0) -> UploadEndpoints:
    return UploadEndpoints(Taste, folder, SMALL, now)


def test_what_a_kill_left_is_removed_at_the_next_start_and_links_are_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.png").write_bytes(b"x")
    left = tmp_path / "uploads" / "left" / "files"
    left.mkdir(parents=True)
    (left / "a.png").write_bytes(b"x")
    (left / "b").symlink_to(elsewhere)
    endpoints(tmp_path / "uploads").close()
    assert not (tmp_path / "uploads").exists()
    (tmp_path / "uploads").symlink_to(elsewhere)
    endpoints(tmp_path / "uploads").close()
    assert (elsewhere / "kept.png").exists()


def test_only_so_many_uploads_are_open_and_idle_ones_make_room(tmp_path):
    clock = [0.0]
    uploads = endpoints(tmp_path / "uploads", lambda: clock[0])
    names = [uploads.begin({})["upload"] for _ in range(OPEN_AT_ONCE)]
    with pytest.raises(ResourceExhausted, match="too many uploads at once") as caught:
        uploads.begin({})
    assert caught.value.reason == "TOO_MANY_UPLOADS"
    assert uploads.stop({"upload": names[0]})["state"] == "stopped"
    uploads.begin({})
    clock[0] += IDLE_SECONDS + 1
    uploads.begin({})
    assert uploads.status({"upload": names[1]})["state"] == "stopped"
    assert len(os.listdir(tmp_path / "uploads")) == 1
    uploads.close()
    assert not (tmp_path / "uploads").exists()


def test_the_uploads_of_a_home_share_its_room(tmp_path, disk):
    uploads = UploadEndpoints(Taste, tmp_path / "uploads", ROOMY)
    one, two = (uploads._of(str(uploads.begin({})["upload"])).staging for _ in range(2))
    coming = one.receive("a.png", 200)
    promise_all_but(two, 200)
    coming.close()
    uploads.close()


def timers() -> set[threading.Timer]:
    return {thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)}


def test_an_idle_upload_is_given_up_though_nobody_asks_again(tmp_path, monkeypatch):
    monkeypatch.setattr("konomi.web.uploads.endpoints.LOOK_SECONDS", 0.01)
    clock, before, looks = [0.0], timers(), threading.Semaphore(0)

    def now() -> float:
        looks.release()
        return clock[0]

    uploads = endpoints(tmp_path / "uploads", now)
    idle = {"upload": uploads.begin({})["upload"]}
    clock[0] = IDLE_SECONDS
    other = {"upload": uploads.begin({})["upload"]}
    assert uploads.status(idle)["state"] == "receiving", "it may still be on its way"
    assert all(looks.acquire(timeout=60) for _ in range(10)), "it looks again and again"
    clock[0] += 1
    deadline = time.monotonic() + 60
    while len(os.listdir(tmp_path / "uploads")) > 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert os.listdir(tmp_path / "uploads") == [other["upload"]]
    assert (uploads.status(idle)["state"], uploads.status(other)["state"]) == ("stopped", "receiving")
    uploads.stop(other)
    while timers() - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not timers() - before, "nothing is open, so nobody looks"
    uploads.close()


def test_nobody_looks_for_idle_uploads_once_the_page_ends(tmp_path):
    before = timers()
    uploads = endpoints(tmp_path / "uploads")
    uploads.begin({})
    uploads.begin({})
    (looking,) = timers() - before
    uploads.close()
    looking.join(30)
    assert not looking.is_alive() and not timers() - before


def test_of_ended_uploads_the_last_ones_can_be_asked_about(tmp_path):
    uploads = endpoints(tmp_path / "uploads")
    names = []
    for _ in range(KEPT + 3):
        names.append(str(uploads.begin({})["upload"]))
        uploads.stop({"upload": names[-1]})
    assert [uploads.status({"upload": name})["state"] for name in names[3:]] == ["stopped"] * KEPT
    with pytest.raises(NotFound):
        uploads.status({"upload": names[2]})
    assert os.listdir(tmp_path / "uploads") == []


@pytest.mark.parametrize("name", ["", "x", "0" * 32, "../" * 10, "%00"])
def test_an_upload_nobody_knows(tmp_path, name):
    uploads = endpoints(tmp_path / "uploads")
    for endpoint in (uploads.status, uploads.finish, uploads.stop):
        with pytest.raises(NotFound, match="bring the files again") as gone:
            endpoint({"upload": name})
        assert gone.value.reason == "UPLOAD_GONE"


def upload_of(staging: Staging, client) -> PageUpload:
    return PageUpload(lambda: client, "tastes/default", rater.Image(), staging, SMALL)


def test_an_upload_is_read_once(staging):
    upload = upload_of(staging, Taste())
    upload.begin_reading()
    with pytest.raises(FailedPrecondition, match="takes no more files") as caught:
        upload.begin_reading()
    assert caught.value.reason == "UPLOAD_CLOSED"


def test_a_rater_that_is_away_ends_it_and_the_files_go(staging, stand_in, client, monkeypatch):
    bring(staging, "a.png", make_png(1))

    def away(*_, **__):
        raise Unavailable("the rater is away")

    monkeypatch.setattr(client.artifacts, "put", away)
    upload = upload_of(staging, client)
    upload.begin_reading()
    upload.read()
    status = upload.status()
    assert (status["state"], status["problem"]) == ("failed", "the rater is away")
    assert not staging.tree.exists()


def test_a_fault_of_the_page_ends_it_too(staging, monkeypatch):
    def broken(*_):
        raise RuntimeError

    monkeypatch.setattr("konomi.web.uploads.upload.find_images", broken)
    upload = upload_of(staging, Taste())
    upload.begin_reading()
    with pytest.raises(RuntimeError):
        upload.read()
    assert (upload.status()["state"], upload.status()["problem"]) == ("failed", "the page met a fault of its own")
    assert not staging.tree.exists()


@pytest.mark.parametrize("limits", [UploadLimits(images=2), UploadLimits(image_bytes=200)])
def test_more_images_than_the_page_takes_end_the_reading(tmp_path, client, limits):
    staging = Staging(tmp_path / "one", limits)
    for number in range(4):
        bring(staging, f"{number}.png", make_png(number))
    upload = PageUpload(lambda: client, "tastes/default", rater.Image(), staging, limits)
    upload.begin_reading()
    upload.read()
    status = upload.status()
    assert status["state"] == "failed" and status["read"] in (1, 2)
    assert status["problem"] == "this is more than the page takes at once; unpack it and run: konomi import"
    assert not staging.tree.exists()


def test_a_stopped_upload_reads_no_further(staging, client):
    bring(staging, "a.png", make_png(1))
    upload = upload_of(staging, client)
    upload.begin_reading()
    upload.stop()
    upload.read()
    assert (upload.status()["state"], upload.status()["read"]) == ("stopped", 0)
    assert not staging.tree.exists()
    other = upload_of(Staging(staging.tree.parent.with_name("two"), SMALL), client)
    other.stop()
    assert other.is_ended and not other.staging.tree.exists()


def test_files_that_come_at_the_same_time_stay_within_the_limits(tmp_path):
    staging = Staging(tmp_path / "one", UploadLimits(files=10, spare_bytes=0))
    outcomes = []

    def send(number: int) -> None:
        try:
            bring(staging, f"{number % 12}.png", b"x")
            outcomes.append("taken")
        except KonomiError as error:
            outcomes.append(error.reason)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("taken") == len(files(staging)) <= 10
    assert set(outcomes) <= {"taken", "TWICE", "TOO_MANY_FILES"}
