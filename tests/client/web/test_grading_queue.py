"""The queue of a sitting: grades go on while it is filled up, and nothing that was answered meanwhile comes back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from konomi.errors import Unavailable
from konomi.v1 import rater_pb2 as rater
from konomi.web.grading_queue import FULL, LOW, Sitting

TASTE = "tastes/default"


class Slow:
    """A rater that takes as long to choose as the test wants: `chosen` says when it may answer."""

    def __init__(self, images: int = 100):
        self.rater = self
        self.labels: list[rater.Label] = []
        self.images = [f"{n:064x}" for n in range(images)]
        self.asked, self.chosen = threading.Event(), threading.Event()
        self.chosen.set()
        self.away = False

    def get_taste(self, name):
        return rater.Taste(name=name, label_count=len(self.labels), image_count=len(self.images))

    def list_labels(self, taste, page_size, page_token):
        return rater.ListLabelsResponse(labels=[one for one in self.labels if one.sequence > int(page_token or 0)])

    def suggest_images(self, taste, count, seed):
        graded = {label.image_digest for label in self.labels}
        self.asked.set()
        if self.away:
            raise Unavailable("the rater is away")
        assert self.chosen.wait(30)
        free = [digest for digest in self.images if digest not in graded][:count]
        found = [rater.Suggestion(image=rater.Image(digest=digest)) for digest in free]
        return rater.SuggestImagesResponse(suggestions=found)

    def list_images(self, taste, filter, page_size):
        return rater.ListImagesResponse(images=[rater.Image(digest=digest) for digest in filter.digests])

    def grade(self, digest: str) -> rater.Label:
        self.labels.append(rater.Label(image_digest=digest, grade=4, sequence=len(self.labels) + 1))
        return self.labels[-1]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def sitting(slow, tmp_path):
    with ThreadPoolExecutor(1) as workers:
        yield Sitting(lambda: slow, TASTE, tmp_path / "sitting.json", workers)
        slow.chosen.set()


def due(sitting: Sitting, count: int = FULL) -> list[str]:
    return [item["image"]["digest"] for item in sitting.show(count)["images"]]


def test_a_grade_never_waits_for_what_is_shown_after_it(slow, sitting):
    first = due(sitting)
    assert len(first) == FULL
    slow.chosen.clear()
    slow.asked.clear()
    for digest in first[: FULL - LOW]:
        sitting.recorded(slow.grade(digest))
    assert slow.asked.wait(30), "a short queue is filled up before anybody asks"
    late = first[FULL - LOW]
    sitting.recorded(slow.grade(late))  # the rater is still choosing, from what it knew before this grade
    assert due(sitting, LOW - 1) == first[FULL - LOW + 1 :], "and neither does a look at what is due"
    slow.chosen.set()
    then = due(sitting)
    assert then[: LOW - 1] == first[FULL - LOW + 1 :], "the order stands"
    assert late not in then and len(set(then)) == len(then) > LOW


def test_what_is_skipped_comes_back_once_nothing_else_is_left(tmp_path):
    slow = Slow(images=5)
    with ThreadPoolExecutor(1) as workers:
        sitting = Sitting(lambda: slow, TASTE, tmp_path / "sitting.json", workers)
        first = due(sitting)
        sitting.skip(first[0])
        for digest in first[1:]:
            assert due(sitting, 1) == [digest]
            sitting.recorded(slow.grade(digest))
        assert due(sitting) == first[:1]


def test_grades_that_came_while_the_page_was_away_are_caught_up_with(slow, sitting, tmp_path):
    first = due(sitting)
    slow.grade(first[0])  # by another program, while no page ran
    last = slow.grade(first[1])
    with ThreadPoolExecutor(1) as workers:
        again = Sitting(lambda: slow, TASTE, tmp_path / "sitting.json", workers)
        again.recorded(last)  # the first word after the restart is no look, but a grade
        assert due(again)[: FULL - 2] == first[2:]


def test_a_rater_that_is_away_fails_who_asks_and_not_who_grades(slow, sitting):
    first = due(sitting)
    slow.away = True
    for digest in first:
        sitting.recorded(slow.grade(digest))
    with pytest.raises(Unavailable, match="away"):
        sitting.show(1)
    slow.away = False
    assert due(sitting, 1) == [slow.images[FULL]]
