"""Actors that are there while there is work, and how many of each kind a cluster is divided into; without a cluster."""

import threading

import pytest

from konomi_chassis.cluster.pool import ActorPool
from konomi_chassis.cluster.settings import ScaleSettings


class Actors:
    """A stand-in for a cluster: numbers for handles."""

    def __init__(self) -> None:
        self.started, self.ended, self.all_ended = 0, [], threading.Event()

    def start(self) -> int:
        self.started += 1
        return self.started

    def end(self, handle: int) -> None:
        self.ended.append(handle)
        if len(self.ended) == self.started:
            self.all_ended.set()


def test_actors_are_started_as_far_as_they_are_needed_and_kept_while_anybody_needs_them() -> None:
    actors = Actors()
    pool = ActorPool(actors.start, actors.end, 3600.0)
    with pool.at_work(1) as one:
        with pool.at_work(3) as three:
            assert one == [1] and three == [1, 2, 3]
        assert not actors.ended
    with pool.at_work(2) as again:
        assert again == [1, 2] and actors.started == 3
    pool.close()
    assert sorted(actors.ended) == [1, 2, 3]


def test_they_end_some_time_after_the_last_work_and_come_back_with_the_next() -> None:
    actors = Actors()
    pool = ActorPool(actors.start, actors.end, 0.0)
    with pool.at_work(2):
        pass
    assert actors.all_ended.wait(60) and sorted(actors.ended) == [1, 2]
    with pool.at_work(1) as fresh:
        assert fresh == [3]
    pool.close()


def test_whoever_comes_before_they_end_keeps_them() -> None:
    actors = Actors()
    pool = ActorPool(actors.start, actors.end, 3600.0)
    with pool.at_work(1):
        pass
    uses = pool._uses
    with pool.at_work(1):
        pool._end_idle(uses)
        pool._end_idle(uses + 1)
        assert not actors.ended
    pool._end_idle(uses)
    assert not actors.ended, "the wait began anew"
    pool._end_idle(pool._uses)
    assert actors.ended == [1]
    pool.close()


def test_a_start_that_fails_leaves_nobody_at_work() -> None:
    actors = Actors()

    def fails() -> int:
        if actors.started:
            raise OSError("no cluster")
        return actors.start()

    pool = ActorPool(fails, actors.end, 3600.0)
    with pytest.raises(OSError, match="no cluster"), pool.at_work(2):
        pass
    pool._end_idle(pool._uses)
    assert actors.ended == [1]


@pytest.mark.parametrize(
    ("settings", "drawing", "embedding"),
    [
        ({"executor": "ray"}, 8, 1),
        ({"embed_executor": "ray"}, 1, 8),
        ({"executor": "ray", "embed_executor": "ray"}, 7, 1),
        ({"executor": "ray", "embed_executor": "ray", "embed_actors": 3}, 5, 3),
        ({"executor": "ray", "embed_executor": "ray", "embed_actors": 9}, 1, 9),
        ({"executor": "ray", "embed_executor": "ray", "actors": 8, "embed_actors": 2}, 8, 2),
    ],
)
def test_drawing_leaves_room_for_what_embeds(tmp_path, settings, drawing, embedding) -> None:
    scale = ScaleSettings(home=tmp_path, **settings)
    if scale.executor == "ray":
        assert scale.drawing_actors(8) == drawing
    assert scale.embed_executor == "local" or scale.embedding_actors(8) == embedding
    alone = ScaleSettings(home=tmp_path, executor="ray", embed_executor="ray")
    assert alone.drawing_actors(1) == 1, "with a single place somebody must wait"
