"""Artifacts that go for good: beside writers, under kills, and never from a place that is another's."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from konomi.errors import DataLoss, FailedPrecondition, InvalidArgument, NotFound
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage import blobs
from konomi_chassis.storage.artifacts import REVOKED, ArtifactStore
from konomi_chassis.storage.caches import forget_derived, regular_files
from tests.chassis.storage.test_artifacts import path_of

DATA = b"a picture nobody wanted" * 500
DIGEST = hashlib.sha256(DATA).hexdigest()
LONG_AGO = time.time() - 40 * 86400
YESTERDAY = time.time() - 86400

DISCARD_AND_DIE = """
import os, sys
from pathlib import Path
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.settings import StoreSettings
for place in sys.argv[2:]:
    home = Path(sys.argv[1]) / place
    store = ArtifactStore(StoreSettings(home=home, min_free_bytes=0))
    digests = [store.put(b"%d" % number * 1000, "image/png").digest for number in range(3)]
    for digest in digests:
        os.utime(home / "artifacts" / digest[:2] / digest, (0, 0))
        os.utime(home / "artifacts" / digest[:2] / (digest + ".type"), (0, 0))
    child = os.fork()
    if child == 0:
        os.environ["KONOMI_FAILPOINT"] = place
        store.discard(digests, 1e9)
        os._exit(0)
    print(place, os.waitpid(child, 0)[1], *digests, flush=True)
"""

PUT_ALL_WHEN_ASKED = """
import sys
from pathlib import Path
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.settings import StoreSettings
store = ArtifactStore(StoreSettings(home=Path(sys.argv[1]), min_free_bytes=0))
for line in sys.stdin:
    for number in reversed(range(24)):
        store.put(b"%d " % number * 2000, "image/png")
    print("done", flush=True)
"""


def age(home, digest, when=LONG_AGO):
    """Makes an artifact as old as if nobody had put or used it since."""
    for path in (path_of(home, digest), path_of(home, digest).with_name(digest + ".type")):
        if path.exists():
            os.utime(path, (when, when))


def test_what_is_discarded_is_gone_with_all_that_lay_beside_it_and_says_why(store, home):
    store.put(DATA, "image/png")
    age(home, DIGEST)
    done = store.discard([DIGEST], YESTERDAY)
    assert (dict(done.freed), done.kept) == ({DIGEST: len(DATA)}, frozenset())
    assert list(store.digests()) == [] and not store.exists(DIGEST) and store.size(DIGEST) is None
    assert [entry.name for entry in path_of(home, DIGEST).parent.iterdir()] == [f"{DIGEST}.gone"]
    for ask in (store.get, store.stat):
        with pytest.raises(NotFound, match="collected by the storage policy; its record stays") as caught:
            ask(DIGEST)
        assert caught.value.reason == "ARTIFACT_COLLECTED"


def test_a_revoked_one_says_so(store):
    store.put(DATA, "image/png")
    store.discard([DIGEST], None, REVOKED)
    with pytest.raises(NotFound, match="its consent was revoked") as caught:
        store.get(DIGEST)
    assert caught.value.reason == "ARTIFACT_REVOKED"


def test_without_a_time_even_what_was_put_just_now_goes(store):
    store.put(DATA, "image/png")
    assert dict(store.discard([DIGEST], None).freed) == {DIGEST: len(DATA)}


def test_what_was_put_or_used_since_stays(store, home):
    store.put(DATA, "image/png")
    assert store.discard([DIGEST], YESTERDAY).kept == {DIGEST}
    age(home, DIGEST)
    store.put(DATA, "image/png")  # the same bytes again: somebody needs them
    assert store.discard([DIGEST], YESTERDAY).kept == {DIGEST}
    age(home, DIGEST)
    store.use([DIGEST])
    assert store.discard([DIGEST], YESTERDAY).kept == {DIGEST}
    assert store.get(DIGEST) == DATA and store.last_used(DIGEST) > YESTERDAY


def test_put_again_it_is_as_if_it_had_never_gone(store, home):
    store.put(DATA, "image/png")
    store.discard([DIGEST], None)
    assert store.put(DATA, "image/png").media_type == "image/png"
    assert store.get(DIGEST) == DATA
    assert not path_of(home, DIGEST).with_name(f"{DIGEST}.gone").exists()


def test_to_discard_twice_is_no_error_and_frees_nothing_more(store):
    store.put(DATA, "image/png")
    store.discard([DIGEST], None)
    assert dict(store.discard([DIGEST], None).freed) == {DIGEST: 0}


def test_the_type_of_an_upload_under_way_is_left_to_it(store, home):
    store.put(DATA, "image/png")
    age(home, DIGEST)
    path_of(home, DIGEST).unlink()
    os.utime(path_of(home, DIGEST).with_name(DIGEST + ".type"))
    store.discard([DIGEST], YESTERDAY)
    assert path_of(home, DIGEST).with_name(DIGEST + ".type").exists()


def test_anything_but_a_digest_is_refused_and_nothing_goes(store):
    store.put(DATA, "image/png")
    with pytest.raises(InvalidArgument):
        store.discard([DIGEST, "../../labels"], None)
    assert store.exists(DIGEST)


def test_the_place_of_another_is_left_alone_and_that_is_said(tmp_path):
    store = ArtifactStore(StoreSettings(home=tmp_path, url=f"memory://{uuid.uuid4()}", min_free_bytes=0))
    store.put(DATA, "image/png")
    assert not store.is_local and store.last_used(DIGEST) is None
    store.use([DIGEST])
    with pytest.raises(FailedPrecondition, match="nothing was removed") as caught:
        store.discard([DIGEST], None)
    assert caught.value.reason == "STORE_ELSEWHERE" and store.get(DIGEST) == DATA


PLACES = ("artifact.before_discard", "artifact.after_discard", "artifact.before_discard_fsync")


@pytest.mark.slow
def test_a_kill_at_any_step_leaves_each_complete_or_absent_and_the_next_run_ends_it(tmp_path):
    places = [f"{name}@{nth}" for name in PLACES for nth in (1, 2, 3) if not (name == PLACES[2] and nth > 1)]
    ran = subprocess.run(
        [sys.executable, "-c", DISCARD_AND_DIE, str(tmp_path), *places],
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    for line in ran.stdout.splitlines():
        place, ending, *digests = line.split()
        assert int(ending) == signal.SIGKILL, place
        store = ArtifactStore(StoreSettings(home=tmp_path / place, min_free_bytes=0))
        for digest in store.digests():
            assert hashlib.sha256(store.get(digest)).hexdigest() == digest
            assert store.stat(digest).media_type == "image/png"
        store.discard(digests, 1e9)
        assert list(store.digests()) == []
        left = [e.name for d in digests for e in path_of(tmp_path / place, d).parent.iterdir()]
        assert all(name.endswith(".gone") for name in left), place


@pytest.mark.slow
def test_whatever_writers_were_told_is_there_is_there_while_all_of_it_is_being_collected(home):
    """In every round all is old; then threads and a process put the very bytes that are being collected."""
    store = ArtifactStore(StoreSettings(home=home, min_free_bytes=0))
    datas = [b"%d " % number * 2000 for number in range(24)]
    digests = [store.put(data, "image/png").digest for data in datas]
    taken, stores = 0, [ArtifactStore(StoreSettings(home=home, min_free_bytes=0)) for _ in range(2)]
    command = [sys.executable, "-c", PUT_ALL_WHEN_ASKED, str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for turn in range(20):
            for digest in digests:
                age(home, digest)
            process.stdin.write("go\n")
            process.stdin.flush()
            with ThreadPoolExecutor(4) as pool:
                taking = [pool.submit(store.discard, digests[part::4], YESTERDAY) for part in range(4)]
                putting = [pool.submit(stores[n % 2].put, datas[(7 * n + turn) % 24], "image/png") for n in range(24)]
            told = {done.result().digest for done in putting}
            assert process.stdout.readline() == "done\n" and told == set(digests)
            taken += sum(map(bool, (size for done in taking for size in done.result().freed.values())))
            for digest, data in zip(digests, datas, strict=True):
                assert store.get(digest) == data
                assert store.stat(digest).media_type == "image/png"
        process.stdin.close()
    assert taken > 0


def test_what_was_derived_from_an_image_goes_by_its_name_through_no_link(tmp_path):
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    other = "0" * 64
    inside = [cache / "page" / "small" / f"{DIGEST}.webp", cache / "images" / "ab" / f"{DIGEST}-{'1' * 64}.safetensors"]
    kept = [cache / "page" / f"{other}.webp", outside / f"{DIGEST}.webp", cache / f"{DIGEST[:40]}.webp"]
    for path in (*inside, *kept):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (cache / "link").symlink_to(outside, target_is_directory=True)
    (cache / f"{DIGEST}.link").symlink_to(kept[1])
    assert forget_derived(cache, [DIGEST]) == 2
    assert not any(path.exists() for path in inside) and all(path.exists() for path in kept)
    assert {entry.name for entry in regular_files(cache)} == {kept[0].name, kept[2].name}
    assert forget_derived(tmp_path / "nothing", [DIGEST]) == 0


def test_what_was_removed_and_put_anew_by_another_process_is_made_durable_again(store, home, monkeypatch):
    """That process may have been killed before its bytes and their name were synced."""
    store.put(DATA, "image/png")
    ArtifactStore(StoreSettings(home=home, min_free_bytes=0)).discard([DIGEST], None)
    ArtifactStore(StoreSettings(home=home, min_free_bytes=0)).put(DATA, "image/png")
    synced = []
    monkeypatch.setattr(blobs, "sync_file", lambda path: synced.append(path.name))
    store.put(DATA, "image/png")
    assert synced == [f"{DIGEST}.type", DIGEST]
    store.put(DATA, "image/png")
    assert len(synced) == 2  # nothing was removed since


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_is_no_file_is_data_loss_for_whoever_uses_or_puts_it(store, home, kind):
    store.put(DATA, "image/png")
    path = path_of(home, DIGEST)
    path.unlink()
    {"link": lambda: path.symlink_to("/dev/zero"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    for ask in (lambda: store.use([DIGEST]), lambda: store.put(DATA, "image/png")):
        with pytest.raises(DataLoss) as caught:
            ask()
        assert caught.value.reason == "NOT_A_FILE"


def test_on_a_read_only_disk_nothing_need_be_marked(store, monkeypatch):
    def read_only(root, operation):
        raise OSError(errno.EROFS, "Read-only file system")

    store.put(DATA, "image/png")
    monkeypatch.setattr(blobs, "_locked", read_only)
    store.use([DIGEST])
    assert store.get(DIGEST) == DATA


def test_a_note_nobody_can_read_leaves_it_at_not_there(store, home):
    store.put(DATA, "image/png")
    store.discard([DIGEST], None)
    note = path_of(home, DIGEST).with_name(f"{DIGEST}.gone")
    note.unlink()
    note.symlink_to("/etc/hostname")
    with pytest.raises(NotFound) as caught:
        store.get(DIGEST)
    assert caught.value.reason == "ARTIFACT_NOT_FOUND"
