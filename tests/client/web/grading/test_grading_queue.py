"""The queue of a queue: grades go on while it is filled up, and nothing that was answered meanwhile comes back."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from konomi.errors import FailedPrecondition, Unavailable
from konomi.v1 import rater_pb2 as rater
from konomi.web.grading_queue import FULL, LOW, GradingQueue

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
        graded = {label.image_digest: label.grade for label in self.labels}
        images = [rater.Image(digest=digest, grade=graded.get(digest, 0)) for digest in filter.digests]
        return rater.ListImagesResponse(images=images)

    def grade(self, digest: str) -> rater.Label:
        self.labels.append(rater.Label(image_digest=digest, grade=4, sequence=len(self.labels) + 1))
        return self.labels[-1]


@pytest.fixture
def slow():
    return Slow()


@pytest.fixture
def queue(slow, tmp_path):
    with ThreadPoolExecutor(1) as workers:
        yield GradingQueue(lambda: slow, TASTE, tmp_path / "sitting.json", workers)
        slow.chosen.set()


def due(queue: GradingQueue, count: int = FULL) -> list[str]:
    return [item["image"]["digest"] for item in queue.show(count)["images"]]


def test_a_grade_never_waits_for_what_is_shown_after_it(slow, queue):
    first = due(queue)
    assert len(first) == FULL
    slow.chosen.clear()
    slow.asked.clear()
    for digest in first[: FULL - LOW]:
        queue.recorded(slow.grade(digest))
    assert slow.asked.wait(30), "a short queue is filled up before anybody asks"
    late = first[FULL - LOW]
    queue.recorded(slow.grade(late))  # the rater is still choosing, from what it knew before this grade
    assert due(queue, LOW - 1) == first[FULL - LOW + 1 :], "and neither does a look at what is due"
    slow.chosen.set()
    then = due(queue)
    assert then[: LOW - 1] == first[FULL - LOW + 1 :], "the order stands"
    assert late not in then and len(set(then)) == len(then) > LOW


def test_what_is_skipped_comes_back_once_nothing_else_is_left(tmp_path):
    slow = Slow(images=5)
    with ThreadPoolExecutor(1) as workers:
        queue = GradingQueue(lambda: slow, TASTE, tmp_path / "sitting.json", workers)
        first = due(queue)
        queue.skip(first[0])
        for digest in first[1:]:
            assert due(queue, 1) == [digest]
            queue.recorded(slow.grade(digest))
        assert due(queue) == first[:1]


def test_grades_that_came_while_the_page_was_away_are_caught_up_with(slow, queue, tmp_path):
    first = due(queue)
    slow.grade(first[0])  # by another program, while no page ran
    last = slow.grade(first[1])
    with ThreadPoolExecutor(1) as workers:
        again = GradingQueue(lambda: slow, TASTE, tmp_path / "sitting.json", workers)
        again.recorded(last)  # the first word after the restart is no look, but a grade
        assert due(again)[: FULL - 2] == first[2:]


def test_a_rater_that_is_away_fails_who_asks_and_not_who_grades(slow, queue):
    first = due(queue)
    slow.away = True
    for digest in first:
        queue.recorded(slow.grade(digest))
    with pytest.raises(Unavailable, match="away"):
        queue.show(1)
    slow.away = False
    assert due(queue, 1) == [slow.images[FULL]]


def test_what_a_night_asks_about_is_due_first_and_once(slow, tmp_path):
    wanted: list[str] = []

    def asked(taste: str) -> list[str]:
        assert taste == TASTE
        return wanted

    with ThreadPoolExecutor(1) as workers:
        queue = GradingQueue(lambda: slow, TASTE, tmp_path / "sitting.json", workers, asked)
        before = due(queue)
        slow.grade(slow.images[90])
        wanted += [slow.images[90], slow.images[91], before[3]]
        assert due(queue)[:3] == [slow.images[91], before[3], before[0]], "what has a grade is asked about no more"
        assert len(set(due(queue))) == len(due(queue)), "what was due already is due once"
        queue.skip(slow.images[91])
        assert due(queue)[0] == before[3], "and a night asks once"


def test_a_night_that_cannot_be_read_keeps_nobody_from_grading(slow, tmp_path):
    def damaged(taste: str) -> list[str]:
        raise FailedPrecondition("the night is damaged", reason="NIGHT_DAMAGED")

    with ThreadPoolExecutor(1) as workers:
        queue = GradingQueue(lambda: slow, TASTE, tmp_path / "sitting.json", workers, damaged)
        assert due(queue, 1) == [slow.images[0]]
