"""Artifacts in buckets: what goes over the line, what a bad line does, and what stays on the node."""

import hashlib
import io
import os
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from konomi.errors import DataLoss, FailedPrecondition, NotFound, Unavailable
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_chassis.storage.buckets.s3_objects import S3Objects, S3Server
from tests.chassis.storage.faulty_proxy import Line, proxied

DATA = b"not really a picture" * 1000
DIGEST = hashlib.sha256(DATA).hexdigest()
KEY = f"{DIGEST[:2]}/{DIGEST}"


def store_at(place, home, **more):
    return ArtifactStore(StoreSettings(home=home, **place.settings(**more)))


def damage(place, data=DATA[:-1] + b"?"):
    place.client().put_object(Bucket=place.bucket, Key=f"{place.folder}/{KEY}", Body=data)


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def recorded(place, line):
    """The place as it is reached through a line that writes down what was asked."""
    with proxied(urlsplit(place.endpoint).port, line) as port:
        yield type(place)(f"http://127.0.0.1:{port}", place.bucket, place.folder)


def test_an_artifact_is_two_objects_beside_the_mark(place, tmp_path):
    store_at(place, tmp_path).put(DATA, "image/png")
    assert place.keys() == sorted([KEY, f"{KEY}.type", "konomi-store"])


def test_another_node_reads_what_one_put(place, tmp_path):
    store_at(place, tmp_path / "a").put(DATA, "image/png")
    other = store_at(place, tmp_path / "b")
    assert other.get(DIGEST) == DATA and other.stat(DIGEST).media_type == "image/png"


def test_two_nodes_that_put_the_same_at_once_both_succeed(place, tmp_path):
    stores = [store_at(place, tmp_path / name) for name in "abcd"]
    begin = threading.Barrier(len(stores))

    def put(store):
        begin.wait()
        return store.put(DATA, "image/png")

    with ThreadPoolExecutor(len(stores)) as pool:
        assert {artifact.digest for artifact in pool.map(put, stores)} == {DIGEST}
    assert stores[0].get(DIGEST) == DATA


@pytest.mark.parametrize("damaged", [DATA[:-1] + b"?", DATA[:100], DATA + b"more"], ids=["flipped", "short", "long"])
def test_damaged_bytes_are_found_and_putting_them_again_heals(place, tmp_path, damaged):
    store = store_at(place, tmp_path, node_cache_bytes=0)
    store.put(DATA, "image/png")
    damage(place, damaged)
    with pytest.raises(DataLoss, match=DIGEST):
        store.get(DIGEST)
    store.put(DATA, "image/png")
    assert store.get(DIGEST) == DATA


def test_a_damaged_media_type_is_found_and_mended(place, tmp_path):
    store_at(place, tmp_path).put(DATA, "image/png")
    place.client().put_object(Bucket=place.bucket, Key=f"{place.folder}/{KEY}.type", Body=b"image/pmg crc32=0\n")
    store = store_at(place, tmp_path)
    with pytest.raises(DataLoss, match="media type"):
        store.stat(DIGEST)
    assert store.put(DATA, "image/webp").media_type == "image/webp"
    assert store_at(place, tmp_path).stat(DIGEST).media_type == "image/webp"


def test_a_put_that_finds_a_damaged_object_replaces_it(place, tmp_path):
    """Somebody put it, badly, between the question and the put: the answer "exists" is not believed unread."""
    store = store_at(place, tmp_path)
    real = store._blobs.refresh

    def absent_then_damaged(key):
        found = real(key)
        damage(place)
        return found

    store._blobs.refresh = absent_then_damaged
    store.put(DATA, "image/png")
    assert store_at(place, tmp_path / "other").get(DIGEST) == DATA


def test_a_lost_answer_to_a_put_is_success(recorded, line, tmp_path):
    store = store_at(recorded, tmp_path)
    line.lose_answers_to = 1
    assert store.put(DATA, "image/png").digest == DIGEST
    puts = [asked for asked in line.requests if asked.startswith("PUT") and "konomi-store" not in asked]
    assert line.lose_answers_to == 0 and len(puts) == 3, puts
    assert store_at(recorded, tmp_path / "other").get(DIGEST) == DATA


@pytest.mark.slow
def test_beyond_64_mib_it_goes_in_parts_and_comes_in_ranges(recorded, line, tmp_path):
    data = random.Random(5).randbytes(65 << 20)
    store = store_at(recorded, tmp_path, node_cache_bytes=0)
    digest = store.put(data, "application/octet-stream").digest
    assert digest == hashlib.sha256(data).hexdigest()
    assert len({asked for asked in line.requests if "partNumber=" in asked}) == 5
    line.requests.clear()
    assert store.get(digest) == data
    assert len([asked for asked in line.requests if asked.startswith("GET")]) == 3  # of 4, 32 and 29 MiB
    line.requests.clear()
    assert store.put(data, "application/octet-stream").digest == digest
    assert not [asked for asked in line.requests if not (asked.startswith("HEAD") or asked.endswith(".type"))]


@pytest.mark.slow
def test_an_upload_in_parts_that_fails_frees_its_parts(place, tmp_path, monkeypatch):
    store = store_at(place, tmp_path)

    def fail(self, path, upload, number, body):
        raise Unavailable("gone")

    monkeypatch.setattr("konomi_chassis.storage.buckets.s3_objects.S3Objects._put_part", fail)
    with pytest.raises(Unavailable, match="gone"):
        store.put(bytes(65 << 20), "application/octet-stream")
    assert not place.client().list_multipart_uploads(Bucket=place.bucket).get("Uploads")
    assert list(store.digests()) == []


def test_nothing_but_an_examination_lists(recorded, line, tmp_path):
    store = store_at(recorded, tmp_path)
    store.put(DATA, "image/png")
    store.put(DATA, "image/png")
    store.put(b"other", "image/png")
    assert store.exists(DIGEST) and not store.exists("0" * 64)
    with pytest.raises(NotFound):
        store.get("0" * 64)
    with pytest.raises(NotFound):
        store.stat("0" * 64)
    assert store.stat(DIGEST).size_bytes == len(DATA)
    assert not [asked for asked in line.requests if "list-type" in asked or "prefix=" in asked], line.requests
    assert len(list(store.digests())) == 2
    assert [asked for asked in line.requests if "list-type=2" in asked]


def test_a_fresh_put_asks_four_times_and_a_read_of_another_node_once(recorded, line, tmp_path):
    store, other = store_at(recorded, tmp_path), store_at(recorded, tmp_path / "other")
    line.requests.clear()
    store.put(DATA, "image/png")
    assert [asked.split()[0] for asked in line.requests] == ["HEAD", "GET", "PUT", "PUT"]
    line.requests.clear()
    assert other.get(DIGEST) == DATA
    assert [asked.split()[0] for asked in line.requests] == ["GET"]


def test_a_listing_of_many_pages_is_whole_and_in_order(recorded, line, tmp_path, monkeypatch):
    monkeypatch.setattr("konomi_chassis.storage.buckets.s3_objects.PAGE_KEYS", 3)
    store = store_at(recorded, tmp_path)
    digests = sorted(store.put(b"%d" % number, "image/png").digest for number in range(5))
    assert list(store.digests()) == digests
    assert len([asked for asked in line.requests if "list-type=2" in asked]) == 4  # of 11 objects


# The node's cache


def test_a_node_fetches_a_thing_once(recorded, line, tmp_path):
    store_at(recorded, tmp_path / "writer").put(DATA, "image/png")
    store = store_at(recorded, tmp_path / "reader")
    assert store.get(DIGEST) == DATA
    line.requests.clear()
    assert store.get(DIGEST) == DATA
    assert store_at(recorded, tmp_path / "reader").get(DIGEST) == DATA, "another process of the node"
    assert [asked for asked in line.requests if KEY in asked] == []


def test_what_a_node_put_it_need_not_fetch(recorded, line, tmp_path):
    store = store_at(recorded, tmp_path)
    store.put(DATA, "image/png")
    line.requests.clear()
    assert store.get(DIGEST) == DATA and line.requests == []


@pytest.mark.parametrize("kind", ["flipped", "short", "link", "folder"])
def test_a_damaged_copy_is_fetched_anew(moto, credentials, tmp_path, kind):
    store = store_at(moto.fresh(), tmp_path)
    store.put(DATA, "image/png")
    copy = tmp_path / "cache" / "artifacts" / DIGEST[:2] / DIGEST
    copy.unlink()
    if kind == "link":
        copy.symlink_to("/dev/zero")
    elif kind == "folder":
        copy.mkdir()
    else:
        copy.write_bytes(DATA[:-1] + b"?" if kind == "flipped" else DATA[:10])
    assert store.get(DIGEST) == DATA
    assert kind == "folder" or (copy.read_bytes() == DATA and not copy.is_symlink())


def test_a_reader_that_stops_halfway_leaves_no_half_copy(moto, credentials, tmp_path):
    place, data = moto.fresh(), os.urandom(3 << 20)
    digest = store_at(place, tmp_path / "writer").put(data, "image/png").digest
    store = store_at(place, tmp_path / "reader")
    chunks = store.chunks(digest)
    next(chunks)
    chunks.close()
    assert not [path for path in (tmp_path / "reader" / "cache").rglob("*") if path.is_file()]
    assert store.get(digest) == data


def test_wrong_bytes_of_the_bucket_are_never_kept(moto, credentials, tmp_path):
    place = moto.fresh()
    store_at(place, tmp_path / "writer").put(DATA, "image/png")
    damage(place)
    store = store_at(place, tmp_path / "reader")
    for _ in range(2):
        with pytest.raises(DataLoss):
            store.get(DIGEST)
    store_at(place, tmp_path / "writer").put(DATA, "image/png")
    assert store.get(DIGEST) == DATA


def test_the_cache_stays_below_its_bound_and_the_longest_unwanted_goes_first(moto, credentials, tmp_path):
    place = moto.fresh()
    store = store_at(place, tmp_path, node_cache_bytes=100_000)
    folder = tmp_path / "cache" / "artifacts"
    digests = [store.put(bytes([number]) * 10_000, "image/png").digest for number in range(10)]
    for number, digest in enumerate(digests):
        os.utime(folder / digest[:2] / digest, (1000 + number,) * 2)
    store.get(digests[0])  # wanted again: it is the youngest now
    for number in range(10, 13):
        store.put(bytes([number]) * 10_000, "image/png")
        assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 100_000
    kept = {path.name for path in folder.rglob("*")}
    assert digests[0] in kept and digests[1] not in kept and digests[2] not in kept
    assert store.get(digests[1]) == bytes([1]) * 10_000


def test_what_is_too_large_for_the_cache_is_read_all_the_same(moto, credentials, tmp_path):
    store = store_at(moto.fresh(), tmp_path, node_cache_bytes=1000)
    store.put(DATA, "image/png")
    assert store.get(DIGEST) == DATA
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_cache_that_cannot_be_written_is_no_reason_not_to_read(moto, credentials, tmp_path, monkeypatch):
    place = moto.fresh()
    store_at(place, tmp_path / "writer").put(DATA, "image/png")
    store = store_at(place, tmp_path)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("konomi_chassis.storage.buckets.node_cache.os.replace", full)
    assert store.get(DIGEST) == DATA


# A bad line


@pytest.mark.slow
def test_a_late_lossy_and_cut_line_costs_time_and_nothing_else(moto, credentials, tmp_path):
    line = Line(delay=0.05, drop=0.01, cut=0.02, seed=3)
    place, images = moto.fresh(), [random.Random(n).randbytes(150_000) for n in range(24)]
    large = random.Random(99).randbytes(5 << 20)
    with proxied(urlsplit(place.endpoint).port, line) as port:
        far = type(place)(f"http://127.0.0.1:{port}", place.bucket, place.folder)
        more = {"retry_seconds": 200.0, "timeout_seconds": 3.0}
        store = store_at(far, tmp_path / "writer", **more)
        with ThreadPoolExecutor(8) as pool:
            digests = list(pool.map(lambda data: store.put(data, "image/png").digest, [*images, large]))
            reader = store_at(far, tmp_path / "reader", **more)
            assert list(pool.map(reader.get, digests)) == [*images, large]
    assert line.dropped and line.cuts, "the line was too good"
    assert sorted(store_at(place, tmp_path).digests()) == sorted(digests)


def test_a_server_that_takes_no_more_of_a_body_holds_nobody_for_ever(credentials, monkeypatch):
    """It accepts the connection and reads nothing: no limit of connecting or reading sees that."""
    monkeypatch.setattr("konomi_chassis.storage.buckets.s3_objects.SLOWEST_LINE", 64 << 20)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        endpoint = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        objects = S3Objects(S3Server(endpoint, "us-east-1", timeout_seconds=0.3, retry_seconds=0.0))
        body = random.Random(7).randbytes(8 << 20)
        with pytest.raises(Unavailable, match="cannot be reached for bucket") as caught:
            objects.put("bucket/folder/key", io.BytesIO(body), len(body), None, exclusive=True)
    assert caught.value.reason == "STORE_UNREACHABLE"


@pytest.mark.slow
def test_a_server_that_is_away_too_long_is_named(recorded, line, tmp_path):
    store = store_at(recorded, tmp_path, retry_seconds=0.3)
    line.cut = 1.0
    for ask in (lambda: store.put(DATA, "image/png"), lambda: store.get(DIGEST), lambda: store.exists(DIGEST)):
        with pytest.raises(Unavailable, match="cannot be reached for bucket") as caught:
            ask()
        assert caught.value.reason == "STORE_UNREACHABLE" and caught.value.retry_after
        assert recorded.endpoint in caught.value.message
    line.cut = 0.0
    assert store.put(DATA, "image/png").digest == DIGEST, "it is taken back, without a restart"


def test_no_server_at_all_is_said_at_the_start(credentials, tmp_path):
    with pytest.raises(Unavailable, match=r"http://127\.0\.0\.1:1 cannot be reached for bucket b"):
        ArtifactStore(StoreSettings(home=tmp_path, url="s3://b", endpoint="http://127.0.0.1:1", retry_seconds=0))


def test_from_a_bucket_nothing_is_discarded(place, tmp_path):
    store = store_at(place, tmp_path)
    store.put(DATA, "image/png")
    with pytest.raises(FailedPrecondition) as caught:
        store.discard([DIGEST], None)
    assert caught.value.reason == "STORE_ELSEWHERE" and store.get(DIGEST) == DATA
