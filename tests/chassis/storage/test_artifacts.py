"""The artifact store: one set of promises over every back end, and the folder's under kills, full and failing disks."""

import errno
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest

from konomi.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore

DATA = b"not really a picture" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
FAILPOINTS = (
    "artifact.write",
    "artifact.before_fsync",
    "artifact.before_rename",
    "artifact.before_folder_fsync",
)
PUT = """
import sys
from pathlib import Path
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.settings import StoreSettings
store = ArtifactStore(StoreSettings(home=Path(sys.argv[1]), min_free_bytes=0))
print("ready", flush=True)
for number in range(int(sys.argv[2])):
    data = (b"%d " % number) * 50_000
    print(store.put(data, "image/png").digest, flush=True)
"""

PUT_AND_DIE = """
import os, sys
from pathlib import Path
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.settings import StoreSettings
for place in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        os.environ["KONOMI_FAILPOINT"] = place
        ArtifactStore(StoreSettings(home=Path(sys.argv[1]) / place, min_free_bytes=0)).put(b"x" * 100_000, "image/png")
        os._exit(0)
    print(place, os.waitpid(child, 0)[1], flush=True)
"""
PUT_UNTIL_KILLED = """
import os, signal, sys, time
from pathlib import Path
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.settings import StoreSettings
home = Path(sys.argv[1])
for turn in range(int(sys.argv[2])):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        store = ArtifactStore(StoreSettings(home=home, min_free_bytes=0))
        for number in range(100_000):
            digest = store.put(b"%d %d " % (turn, number) * 20_000, "image/png").digest
            os.write(writer, digest.encode() + b"\\n")
    os.close(writer)
    answers = os.fdopen(reader)
    first = answers.readline()
    time.sleep(0.03 + 0.02 * turn)
    os.kill(child, signal.SIGKILL)
    print(first + answers.read(), end="", flush=True)
    os.waitpid(child, 0)
"""


def path_of(home, digest):
    return home / "artifacts" / digest[:2] / digest


def assert_complete_or_absent(home, acknowledged=()):
    """Every named digest reads back right; what was acknowledged is there."""
    store = ArtifactStore(StoreSettings(home=home, min_free_bytes=0))
    digests = list(store.digests())
    for digest in digests:
        assert hashlib.sha256(store.get(digest)).hexdigest() == digest
        assert store.stat(digest).media_type == "image/png"
    assert set(acknowledged) <= set(digests)
    return digests


def test_what_is_put_comes_back(any_store):
    artifact = any_store.put(DATA, "image/png")
    assert (artifact.digest, artifact.media_type, artifact.size_bytes) == (DIGEST, "image/png", len(DATA))
    assert any_store.get(DIGEST) == DATA
    assert any_store.stat(DIGEST) == artifact
    assert any_store.exists(DIGEST) and list(any_store.digests()) == [DIGEST]


def test_twice_is_no_error_and_the_first_media_type_stays(any_store):
    any_store.put(DATA, "image/png")
    assert any_store.put(DATA, "image/webp").media_type == "image/png"
    assert list(any_store.digests()) == [DIGEST]


def test_the_empty_artifact_is_one_too(any_store):
    artifact = any_store.put(b"", "application/json")
    assert artifact.size_bytes == 0 and any_store.get(artifact.digest) == b""


def test_an_unknown_digest_is_not_found(any_store):
    for ask in (any_store.get, any_store.stat):
        with pytest.raises(NotFound):
            ask("0" * 64)
    assert not any_store.exists("0" * 64)


@pytest.mark.parametrize("digest", ["", "abc", "../../etc/passwd", "A" * 64, "0" * 63 + "\n", "0" * 65])
def test_anything_but_a_digest_is_refused(any_store, digest):
    for ask in (any_store.get, any_store.stat, any_store.exists):
        with pytest.raises(InvalidArgument):
            ask(digest)


@pytest.mark.parametrize("media_type", ["", "png", "image/", "image/png\n", "Image/PNG", "a/b/c", "../x/y"])
def test_a_media_type_has_its_form(any_store, media_type):
    with pytest.raises(InvalidArgument):
        any_store.put(DATA, media_type)


def test_a_wrong_expected_digest_stores_nothing(any_store):
    with pytest.raises(InvalidArgument):
        any_store.put_stream([DATA], "image/png", expected="0" * 64)
    assert list(any_store.digests()) == []


def test_a_broken_off_stream_stores_nothing(any_store, tmp_path):
    def chunks():
        yield DATA
        raise ConnectionError

    with pytest.raises(ConnectionError):
        any_store.put_stream(chunks(), "image/png")
    assert list(any_store.digests()) == []
    assert not list(tmp_path.rglob("*.part"))


def test_beyond_the_largest_size_an_upload_is_cut_off(tmp_path):
    store = ArtifactStore(StoreSettings(home=tmp_path, max_artifact_bytes=1000, min_free_bytes=0))
    assert store.put(b"x" * 1000, "image/png")
    with pytest.raises(InvalidArgument):
        store.put_stream((b"x" * 100 for _ in range(11)), "image/png")


@pytest.mark.parametrize("position", [0, len(DATA) // 2, len(DATA) - 1])
def test_a_flipped_bit_is_found_and_names_the_digest(store, home, position):
    store.put(DATA, "image/png")
    damaged = bytearray(DATA)
    damaged[position] ^= 1
    path_of(home, DIGEST).write_bytes(damaged)
    with pytest.raises(DataLoss, match=DIGEST):
        store.get(DIGEST)


def test_a_damaged_big_artifact_never_arrives_whole(store, home):
    data = os.urandom(3 * 1024 * 1024 + 5)
    digest = store.put(data, "image/png").digest
    with path_of(home, digest).open("r+b") as file:
        file.write(b"damage")
    received = 0
    with pytest.raises(DataLoss):
        for chunk in store.chunks(digest):
            received += len(chunk)
    assert received < len(data)


def test_putting_the_right_bytes_again_heals(store, home):
    store.put(DATA, "image/png")
    path_of(home, DIGEST).write_bytes(DATA[:-1] + b"?")
    store.put(DATA, "image/png")
    assert store.get(DIGEST) == DATA


def type_of(home, digest):
    return path_of(home, digest).with_name(digest + ".type")


def test_a_lost_media_type_costs_only_itself_and_is_mended_by_putting_again(store, home):
    store.put(DATA, "image/png")
    type_of(home, DIGEST).unlink()
    assert store.stat(DIGEST).media_type == "application/octet-stream"
    assert store.get(DIGEST) == DATA
    assert store.put(DATA, "image/png").media_type == "image/png"


def test_no_flipped_bit_makes_another_media_type(store, home):
    store.put(DATA, "image/png")
    whole = type_of(home, DIGEST).read_bytes()
    for place in range(len(whole) * 8):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        type_of(home, DIGEST).write_bytes(broken)
        with pytest.raises(DataLoss, match=f"media type of artifact {DIGEST} is damaged. Put the artifact again"):
            store.stat(DIGEST)
    assert store.put(DATA, "image/webp").media_type == "image/webp"


def test_a_media_type_without_a_checksum_is_read_and_gets_one(store, home):
    store.put(DATA, "image/png")
    type_of(home, DIGEST).write_bytes(b"image/png")
    assert store.stat(DIGEST).media_type == "image/png"
    assert store.put(DATA, "image/webp").media_type == "image/png"
    assert b"crc32=" in type_of(home, DIGEST).read_bytes()


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder", "device"])
@pytest.mark.parametrize("of", ["bytes", "type"])
def test_what_is_no_file_is_data_loss_and_nobody_waits_for_it(store, home, kind, of):
    store.put(DATA, "image/png")
    path = path_of(home, DIGEST) if of == "bytes" else type_of(home, DIGEST)
    aside = home / "aside"
    path.rename(aside)
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        if os.geteuid() != 0:
            pytest.skip("no right to make a device")
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    else:
        path.symlink_to(aside if kind == "link" else home / "nowhere")
    asks = [store.stat, lambda digest: store.put(DATA, "image/png")]
    if of == "bytes":
        asks += [store.get, store.exists]
    for ask in asks:
        with pytest.raises(DataLoss, match="stands something else: a link, a pipe, a device or a folder") as caught:
            ask(DIGEST)
        assert caught.value.reason == "NOT_A_FILE" and path.name in caught.value.message
    assert list(store.digests()) == ([DIGEST])


def test_a_read_only_disk_is_told_and_taken_back(store, home, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr("konomi_chassis.storage.blobs.os.replace", refuse)
        with pytest.raises(FailedPrecondition, match="is read-only; nothing was stored") as caught:
            store.put(DATA, "image/png")
    assert caught.value.reason == "STORE_READ_ONLY"
    assert store.put(DATA, "image/png").digest == DIGEST


def test_bytes_the_disk_cannot_read_are_data_loss(store, home, monkeypatch):
    store.put(DATA, "image/png")

    def fail(*_arguments, **_more):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("konomi_chassis.storage.blobs.open_regular", fail)
    with pytest.raises(DataLoss, match="cannot be read") as caught:
        store.get(DIGEST)
    assert caught.value.reason == "ARTIFACT_DAMAGED" and DIGEST in caught.value.message


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Homes in which a put was killed at every step, and how each ended; one interpreter forks them all."""
    root = tmp_path_factory.mktemp("killed")
    places = [f"{name}@{nth}" for name in FAILPOINTS for nth in (1, 2)]
    ran = subprocess.run(
        [sys.executable, "-c", PUT_AND_DIE, str(root), *places], capture_output=True, text=True, timeout=200, check=True
    )
    return root, dict(line.split() for line in ran.stdout.splitlines())


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("failpoint", FAILPOINTS)
@pytest.mark.slow
def test_a_kill_at_any_step_leaves_it_complete_or_absent(killed, failpoint, nth):
    root, endings = killed
    place = f"{failpoint}@{nth}"
    assert int(endings[place]) == signal.SIGKILL
    home = root / place
    assert assert_complete_or_absent(home) == [] or (failpoint, nth) == ("artifact.before_folder_fsync", 2)
    again = ArtifactStore(StoreSettings(home=home, min_free_bytes=0)).put(DATA, "image/png")
    assert again.digest in assert_complete_or_absent(home)


@pytest.mark.slow
def test_kills_at_any_moment_lose_nothing_acknowledged(home):
    ran = subprocess.run(
        [sys.executable, "-c", PUT_UNTIL_KILLED, str(home), "6"],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    acknowledged = {line for line in ran.stdout.splitlines() if len(line) == 64}
    assert acknowledged
    assert_complete_or_absent(home, acknowledged)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace lists the system calls")
@pytest.mark.slow
def test_bytes_are_synced_before_their_rename_and_the_folder_after_it(home, tmp_path):
    trace = tmp_path / "trace"
    calls = "trace=fsync,rename,renameat,renameat2"
    ran = subprocess.run(
        ["strace", "-f", "-y", "-o", str(trace), "-e", calls, sys.executable, "-c", PUT, str(home), "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if ran.returncode:
        pytest.skip("strace may not trace here")
    digest = ran.stdout.split()[-1]
    folder = str(home / "artifacts" / digest[:2])
    steps = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines() if "artifacts" in line]
    for name in (f"{folder}/{digest}.type", f"{folder}/{digest}"):
        renamed = next(index for index, step in enumerate(steps) if f'"{name}"' in step)
        source = steps[renamed].split('"')[1]
        assert any(step.startswith("fsync") and f"<{source}>" in step for step in steps[:renamed]), name
        assert any(step.startswith("fsync") and f"<{folder}>" in step for step in steps[renamed:]), name
    assert any(step.startswith("fsync") and f"<{home / 'artifacts'}>" in step for step in steps), (
        "the new folder's name"
    )


@pytest.mark.parametrize("failpoint", ["artifact.write", "artifact.before_fsync", "artifact.before_rename"])
def test_enospc_stores_nothing_and_leaves_nothing_behind(store, home, monkeypatch, failpoint):
    monkeypatch.setenv("KONOMI_FAILPOINT", f"{failpoint}=enospc")
    with pytest.raises(ResourceExhausted) as caught:
        store.put(DATA, "image/png")
    assert caught.value.reason == "DISK_FULL"
    assert list(store.digests()) == [] and not list((home / "artifacts" / "incoming").iterdir())
    monkeypatch.delenv("KONOMI_FAILPOINT")
    assert store.put(DATA, "image/png").digest == DIGEST


def test_after_a_disk_error_the_store_only_reads(store, monkeypatch):
    kept = store.put(b"kept", "image/png")
    monkeypatch.setenv("KONOMI_FAILPOINT", "artifact.before_fsync=eio")
    with pytest.raises(FailedPrecondition):
        store.put(DATA, "image/png")
    monkeypatch.delenv("KONOMI_FAILPOINT")
    with pytest.raises(FailedPrecondition) as caught:
        store.put(DATA, "image/png")
    assert caught.value.reason == "STORE_READ_ONLY"
    assert store.get(kept.digest) == b"kept"


@pytest.mark.slow
def test_a_really_full_disk(home):
    """Fills a tmpfs of its own; needs the right to mount."""
    home.mkdir()
    script = f'mount -t tmpfs -o size=1m tmpfs "{home}" && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", PUT, str(home), "100"]
    if os.geteuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("no right to mount a file system")
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "The disk is full" in ran.stderr
    assert len(ran.stdout.splitlines()) > 3


def test_space_is_kept_for_labels(home):
    store = ArtifactStore(StoreSettings(home=home, min_free_bytes=1 << 60))
    with pytest.raises(ResourceExhausted) as caught:
        store.put(DATA, "image/png")
    assert caught.value.reason == "DISK_FULL"


def test_leftovers_of_killed_uploads_are_swept_after_a_day(store, home):
    old, fresh = (home / "artifacts" / "incoming" / name for name in ("old.part", "fresh.part"))
    for path in (old, fresh):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    ArtifactStore(StoreSettings(home=home))
    assert not old.exists() and fresh.exists()


def test_other_os_errors_pass_as_they_are(store, home):
    (home / "artifacts" / "incoming").rmdir()
    with pytest.raises(OSError) as caught:
        store.put(DATA, "image/png")
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize("name", ["a%20b", "what?", "x#y", "u::v", "zip::y", "two\nlines", "100%", "猫"])
def test_a_home_of_any_name_holds_its_own_artifacts(tmp_path, name):
    (tmp_path / name).mkdir()
    store = ArtifactStore(StoreSettings(home=tmp_path / name, min_free_bytes=0))
    store.put(DATA, "image/png")
    assert store.get(DIGEST) == DATA
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "artifacts" / DIGEST[:2] / DIGEST).is_file()
