"""Scoring under load on a real socket: a swap nobody notices, callers who leave, streams that are slowed down."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

from konomi.errors import Cancelled, DeadlineExceeded, ResourceExhausted, from_rpc_error
from konomi.v1 import rater_pb2 as pb
from tests.rater.conftest import grades_of, png


def score(rater, images, **fields):
    inputs = [pb.ImageInput(content=image) for image in images]
    return rater.call("ScoreImages", pb.ScoreImagesRequest(images=inputs, **fields)).results


def strangers(count: int, start: int = 1000) -> list[bytes]:
    return [png((40, 200, number % 255), seed=start + number) for number in range(count)]


def test_a_swap_of_versions_fails_no_call_and_no_answer_mixes_versions(rater, fitted):
    seen, failed, stop = [], [], threading.Event()

    def client(number):
        while not stop.is_set():
            try:
                results = score(rater, strangers(6, start=number * 10_000 + len(seen) * 10), taste=fitted.taste)
                seen.append({result.score.rater_version for result in results})
            except Exception as error:  # noqa: BLE001  shown below
                failed.append(error)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(3):
            graded = fitted.digests[: 45 + 5 * turn]
            rater.label(fitted.taste, grades_of(fitted, graded))
            version = rater.fit(fitted.taste, seed=turn)
            before = len(seen)
            end = time.monotonic() + 20
            while len(seen) < before + 8 and time.monotonic() < end:
                time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed, failed[0]
    assert all(len(versions) == 1 for versions in seen)
    assert len(set().union(*seen)) >= 2
    assert version.name == rater.call("GetRaterVersion", pb.GetRaterVersionRequest(name=version.name)).name


def test_a_version_has_scored_the_library_before_it_scores_anything(rater, fitted):
    listing = pb.ListImagesRequest(taste=fitted.taste, order_by="utility desc", with_scores=True, page_size=120)
    for seed in (1, 2):
        rater.label(fitted.taste, grades_of(fitted, fitted.digests[: 50 + 10 * seed]))
        rater.fit(fitted.taste, seed=seed)
        shown = [image.score.utility for image in rater.call("ListImages", listing).images]
        assert shown == sorted(shown, reverse=True)


def test_neighbours_in_a_pass_change_a_score_by_next_to_nothing(rater, fitted):
    alone = [score(rater, [image], taste=fitted.taste)[0].score.utility for image in strangers(8)]
    fresh = strangers(40, start=5000)
    with ThreadPoolExecutor(6) as pool:
        crowd = [pool.submit(score, rater, fresh[i::5], taste=fitted.taste) for i in range(5)]
        again = score(rater, [image + b"\0" for image in strangers(8)], taste=fitted.taste)  # other bytes, same pixels
    assert [job.result()[0].HasField("score") for job in crowd] == [True] * 5
    assert np.abs(np.array(alone) - [result.score.utility for result in again]).max() < 1e-4


def test_a_deadline_that_passes_leaves_the_rater_free(rater, fitted):
    images = [pb.ImageInput(content=png((9, 9, 9), seed=n, size=900)) for n in range(60)]
    began = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        rater.stub.ScoreImages(pb.ScoreImagesRequest(images=images, taste=fitted.taste), timeout=0.2)
    assert isinstance(from_rpc_error(caught.value), DeadlineExceeded)
    assert score(rater, strangers(1), taste=fitted.taste)[0].HasField("score")
    assert time.monotonic() - began < 20


def test_a_cancelled_stream_ends_and_the_next_one_works(rater, fitted):
    sent = []

    def requests():
        for number in range(10_000):
            sent.append(number)
            yield pb.ScoreImageStreamRequest(
                taste=fitted.taste, image=pb.ImageInput(content=png((number % 255, 8, 8), seed=number)), key=str(number)
            )

    call = rater.stub.ScoreImageStream(requests(), timeout=60)
    assert [next(call).key for _ in range(3)] == ["0", "1", "2"]
    call.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        for _ in call:
            continue
    assert isinstance(from_rpc_error(caught.value), Cancelled)
    assert len(sent) < 10_000, "the sender was slowed down to what is scored"
    assert len(rater.stream("ScoreImageStream", iter(list(requests())[:5]))) == 5


def test_a_stream_answers_one_by_one_where_the_sender_waits(rater, fitted):
    answered = threading.Semaphore(1)

    def requests():
        for number in range(4):
            answered.acquire(timeout=30)
            yield pb.ScoreImageStreamRequest(
                taste=fitted.taste, image=pb.ImageInput(content=png((number, 90, 8), seed=number)), key=str(number)
            )

    keys = []
    for answer in rater.stub.ScoreImageStream(requests(), timeout=60):
        keys.append(answer.key)
        answered.release()
    assert keys == ["0", "1", "2", "3"]


@pytest.fixture
def short_queue(home):
    """A home whose rater lets few images wait; asked for before the rater."""
    with (home / "konomi.toml").open("a") as file:
        file.write("[rater]\nqueue_images = 256\n")


def test_a_flood_is_refused_with_a_delay_and_the_rater_lives_on(short_queue, rater, fitted):
    images = [png((3, 3, 3), seed=number, size=200) for number in range(150)]
    refused, served = [], []

    def flood(number):
        fresh = [pb.ImageInput(content=image + uuid.uuid4().bytes) for image in images]
        try:
            rater.call("ScoreImages", pb.ScoreImagesRequest(images=fresh, taste=fitted.taste))
            served.append(number)
        except ResourceExhausted as error:
            refused.append(error)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(flood, range(6)))
    assert served and refused, "6 x 150 images are more than the queue takes"
    assert {error.reason for error in refused} == {"QUEUE_FULL"}
    assert all(error.retry_after and error.retry_after >= 0.5 for error in refused)
    assert score(rater, strangers(1), taste=fitted.taste)[0].HasField("score")


def test_signatures_come_where_they_are_asked_for_and_tell_near_copies_apart(rater, fitted):
    images = [png((40, 200, 10), seed=1), png((40, 200, 12), seed=1), png((220, 30, 200), seed=77)]
    plain = score(rater, images, taste=fitted.taste)
    assert [result.score.signature for result in plain] == [b""] * 3
    assert not any(result.score.HasField("near_copy_utility") for result in plain)
    signed = [result.score for result in score(rater, images, taste=fitted.taste, include_signatures=True)]
    bits = [int.from_bytes(one.signature) for one in signed]
    assert [len(one.signature) for one in signed] == [128] * 3
    assert all(one.HasField("near_copy_utility") and -20 < one.near_copy_utility < 20 for one in signed)
    assert (bits[0] ^ bits[1]).bit_count() < (bits[0] ^ bits[2]).bit_count()
    (again,) = score(rater, images[2:], taste=fitted.taste, include_signatures=True)
    assert (int.from_bytes(again.score.signature) ^ bits[2]).bit_count() <= 1, (
        "the company of a pass changes next to none"
    )
