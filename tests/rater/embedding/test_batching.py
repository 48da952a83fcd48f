"""Images of many callers share passes: batches, fairness, bounds, waiting, dropping; with a model that only counts."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest

from konomi.errors import Cancelled, InvalidArgument, ResourceExhausted, Unavailable
from konomi_chassis.decoding.worker_process import Decoded
from konomi_rater.embedding.batching import Batcher, Lane, QueueLimits, _Progress
from konomi_rater.embedding.requests import Caller, Embedded, ImageSource
from konomi_rater.embedding.tower import ResizeRule


class Model:
    """Maps an image to its first pixel; a pass takes as long as it is told, or until it is let go."""

    dimensions, reads_text, fit = 1, False, ResizeRule(4, 4, 4)

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.passes, self.go = seconds, [], threading.Event()
        self.go.set()

    def fitted(self, decoded):
        return decoded.pixels[:4, :4]

    def embed(self, images, *, keep):
        assert all(image.shape == (4, 4, 3) for image in images)
        self.passes.append([int(image[0, 0, 0]) for image in images])
        self.go.wait(10)
        time.sleep(self.seconds)
        if any(number == 255 for number in self.passes[-1]):
            raise RuntimeError("the model broke")
        return np.array([[image[0, 0, 0]] for image in images], np.float32)

    def embed_texts(self, texts):
        raise AssertionError


def decode(data: bytes, field: str, least: tuple[int, int, bool]) -> Decoded:
    if data == b"bad":
        raise InvalidArgument("cannot be read", reason="IMAGE_UNREADABLE", field=field)
    assert least == (4, 4, False)
    return Decoded(np.full((8, 16, 3), data[0], np.uint8), "PNG", 10, 20)


def source(number: int, load: Callable[[], bytes] | None = None) -> ImageSource:
    return ImageSource(load or (lambda: bytes([number])), 1, f"images[{number}]")


@pytest.fixture
def made():
    batchers: list[Batcher] = []

    def make(model, **limits):
        batcher = Batcher(decode, QueueLimits(**({"batch": 8, "decoders": 2, "images": 100, "bytes": 1000} | limits)))
        batchers.append(batcher)
        lane = Lane(model, keep=False)

        def run(numbers, caller: Caller | None = None):
            found = batcher.submit(lane, [source(n) for n in numbers], caller or Caller()).wait()
            return [int(item.vector[0]) for item in found]

        return batcher, lane, run

    yield make
    for batcher in batchers:
        batcher.close()


def together(count: int, work: Callable[[int], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_a_call_gets_its_own_images_back_in_order(made):
    model = Model()
    _, _, run = made(model)
    assert run(range(20)) == list(range(20))
    assert max(map(len, model.passes)) <= 8
    assert run([]) == []


def test_callers_share_passes(made):
    model = Model(seconds=0.05)
    _, _, run = made(model)
    found = {}
    rounds = 6

    def client(number):
        for turn in range(rounds):
            found[number, turn] = run([number * 10 + turn])

    for thread in together(8, client):
        thread.join()
    assert all(found[n, t] == [n * 10 + t] for n in range(8) for t in range(rounds))
    assert sum(map(len, model.passes)) == 48
    assert len(model.passes) <= 16, "8 callers in step should nearly fill passes of 8"


def test_a_pass_waits_only_for_what_is_on_its_way_and_only_for_a_share_of_a_pass():
    progress = _Progress(since=100.0, seconds=2.0)
    progress.ready.put("", "", None)
    assert progress.patience(8, 100.0) == 0.0, "a lone caller never waits"
    progress.returning = 1
    assert 0.0 < progress.patience(8, 100.0) < 0.25
    progress.coming = 3
    assert 0.25 < progress.patience(8, 100.0) < 1.0
    assert progress.patience(8, 102.0) <= 0.0
    assert progress.patience(1, 100.0) == 0.0, "a full pass never waits"


def test_a_flood_does_not_starve_a_single_image(made):
    model = Model(seconds=0.02)
    batcher, lane, run = made(model)
    flood = batcher.submit(lane, [source(7) for _ in range(90)], Caller("tool"))
    until(lambda: len(model.passes) >= 2)
    run([1], Caller("owner"))
    assert len(model.passes) <= 6, "90 images are 12 passes; the single one waits for two or three of them"
    assert len(flood.wait()) == 90


def test_a_full_queue_refuses_with_a_delay_and_a_stream_waits_instead(made):
    model = Model()
    model.go.clear()
    batcher, lane, run = made(model, images=10)
    first = batcher.submit(lane, [source(n) for n in range(10)], Caller("a"))
    began = time.monotonic()
    with pytest.raises(ResourceExhausted) as caught:
        run([1], Caller("b"))
    assert time.monotonic() - began < 1.0
    assert caught.value.reason == "QUEUE_FULL" and caught.value.retry_after >= 0.5
    streamed: list = []
    (stream,) = together(1, lambda _: streamed.extend(run([3], Caller("c", patient=True))))
    time.sleep(0.1)
    assert not streamed
    model.go.set()
    stream.join(5)
    assert streamed == [3] and len(first.wait()) == 10
    assert run(range(10)) == list(range(10)), "the queue is empty again"


def test_bytes_are_bounded_too_but_one_call_always_fits(made):
    model = Model()
    model.go.clear()
    batcher, lane, _ = made(model, bytes=5)
    batcher.submit(lane, [ImageSource(lambda: b"\1", 50, "image")], Caller())
    with pytest.raises(ResourceExhausted):
        batcher.submit(lane, [source(1)], Caller())
    model.go.set()


def test_who_left_is_dropped_before_the_pass(made):
    model = Model()
    model.go.clear()
    batcher, lane, run = made(model)
    batcher.submit(lane, [source(1)], Caller())
    until(lambda: model.passes == [[1]])
    gone, stays = Caller("gone"), Caller("stays")
    left = batcher.submit(lane, [source(50 + n) for n in range(30)], gone)
    kept = batcher.submit(lane, [source(2)], stays)
    began = time.monotonic()
    gone.end()
    with pytest.raises(Cancelled):
        left.wait()
    assert time.monotonic() - began < 0.25
    model.go.set()
    assert [int(item.vector[0]) for item in kept.wait()] == [2]
    assert all(number < 50 for numbers in model.passes for number in numbers)
    assert run(range(100)) == list(range(100)), "what was dropped is no longer counted"


def test_a_bad_image_is_its_own_error(made):
    batcher, lane, _ = made(Model())
    found = batcher.submit(lane, [source(1), source(2, lambda: b"bad"), source(3)], Caller()).wait()
    assert isinstance(found[1], InvalidArgument) and found[1].field == "images[2]"
    assert [type(item) for item in (found[0], found[2])] == [Embedded, Embedded]
    assert (found[0].width, found[0].height) == (10, 20)


def test_what_breaks_is_raised_where_it_is_waited_for_and_the_next_call_works(made):
    batcher, lane, run = made(Model())
    with pytest.raises(RuntimeError, match="the model broke"):
        run([255])

    def lost() -> bytes:
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        batcher.submit(lane, [source(1, lost)], Caller()).wait()
    assert run([4]) == [4]


@pytest.mark.slow
def test_closing_answers_those_who_wait(made):
    model = Model()
    model.go.clear()
    batcher, _, run = made(model)
    said: list = []

    def client(number):
        with suppress(Unavailable):
            run([number] * 12)
            said.append("served")
            return
        said.append("draining")

    threads = together(3, client)
    until(lambda: bool(model.passes))
    threading.Timer(0.1, model.go.set).start()
    batcher.close()
    for thread in threads:
        thread.join(5)
    assert said == ["draining"] * 3
    with pytest.raises(Unavailable):
        run([1])


def test_an_image_being_decoded_as_it_closes_is_answered_too():
    began, go = threading.Event(), threading.Event()

    def slowly(data, field, least):
        began.set()
        go.wait(10)
        return decode(data, field, least)

    batcher = Batcher(slowly, QueueLimits(batch=8, decoders=1, images=100, bytes=1000))
    request = batcher.submit(Lane(Model(), keep=False), [source(1)], Caller())
    assert began.wait(10)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    until(lambda: batcher._closed)
    go.set()
    closing.join(10)
    with pytest.raises(Unavailable):
        request.wait()


def test_kept_and_passing_images_do_not_share_a_pass(made):
    class Noting(Model):
        def __init__(self):
            super().__init__()
            self.kinds = []

        def embed(self, images, *, keep):
            self.kinds.append((keep, len(images)))
            return super().embed(images, keep=keep)

    model = Noting()
    batcher, _, _ = made(model)
    requests = [batcher.submit(Lane(model, keep), [source(1)] * 3, Caller()) for keep in (True, False)]
    for request in requests:
        request.wait()
    assert {keep for keep, _ in model.kinds} == {True, False} and sum(n for _, n in model.kinds) == 6
