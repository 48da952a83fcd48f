"""Actors that are there while there is work, and how many of each kind a cluster is divided into; without a cluster."""

import threading
from contextlib import nullcontext

import pytest

from konomi_chassis.cluster.pool import ActorPool
from konomi_chassis.cluster.settings import ScaleSettings


class Place:
    """A stand-in for a cluster: numbers for handles."""

    def __init__(self) -> None:
        self.joined, self.left, self.started, self.ended, self.idle = 0, 0, 0, [], threading.Event()
        self.lost = False

    def pool(self, idle_seconds: float) -> ActorPool:
        return ActorPool(self.join, self.start, idle_seconds)

    def join(self) -> "Place":
        self.joined += 1
        return self

    def start(self, cluster: "Place") -> int:
        assert cluster is self
        self.started += 1
        return self.started

    def in_use(self) -> nullcontext[None]:
        return nullcontext()

    def end(self, actor: int) -> None:
        self.ended.append(actor)

    def close(self) -> None:
        self.left += 1
        self.idle.set()


def test_actors_are_started_as_far_as_they_are_needed_and_kept_while_anybody_needs_them() -> None:
    place = Place()
    pool = place.pool(3600.0)
    assert place.joined == 0, "nobody needs it yet"
    with pool.at_work() as cluster:
        assert cluster is place and pool.actors(1) == [1]
        with pool.at_work():
            assert pool.actors(3) == [1, 2, 3]
    with pool.at_work():
        assert pool.actors(2) == [1, 2]
    assert (place.joined, place.left, place.started, place.ended) == (1, 0, 3, [])
    pool.close()
    assert sorted(place.ended) == [1, 2, 3] and place.left == 1


def test_they_end_some_time_after_the_last_work_and_come_back_with_the_next() -> None:
    place = Place()
    pool = place.pool(0.0)
    with pool.at_work():
        pool.actors(2)
    assert place.idle.wait(60) and sorted(place.ended) == [1, 2] and place.left == 1
    with pool.at_work():
        assert pool.actors(1) == [3] and place.joined == 2
    pool.close()


def test_whoever_comes_before_they_end_keeps_them() -> None:
    place = Place()
    pool = place.pool(3600.0)
    with pool.at_work():
        pool.actors(1)
    uses = pool._uses
    with pool.at_work():
        pool._end_idle(uses)
        pool._end_idle(uses + 1)
        assert not place.ended
    pool._end_idle(uses)
    assert not place.ended and not place.left, "the wait began anew"
    pool._end_idle(pool._uses)
    assert place.ended == [1] and place.left == 1
    pool.close()


def test_where_there_is_no_cluster_nobody_is_at_work_and_the_next_tries_again() -> None:
    place, missing = Place(), [OSError("no cluster")]

    def join() -> Place:
        if missing:
            raise missing.pop()
        return place.join()

    pool = ActorPool(join, place.start, 3600.0)
    with pytest.raises(OSError, match="no cluster"), pool.at_work():
        pass
    with pool.at_work():
        assert pool.actors(1) == [1]
    pool._end_idle(pool._uses)
    assert place.ended == [1] and place.left == 1
    pool.close()


def test_where_the_head_was_lost_the_next_joins_anew_and_starts_new_actors() -> None:
    place = Place()
    pool = place.pool(3600.0)
    with pool.at_work():
        pool.actors(2)
        place.lost = True
    with pool.at_work():
        place.lost = False
        assert pool.actors(1) == [3] and (place.joined, place.left) == (2, 1)
    pool.close()


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
