"""What a sitting says it has done: an image shown again to check on a grade is no grade more."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from konomi.cli import label
from konomi.client import Client
from konomi.taste.labelling import Session
from konomi.v1 import rater_pb2 as rater

SHOWN = [
    rater.Suggestion(image=rater.Image(digest=name * 64), reason=reason)
    for name, reason in (
        ("a", rater.SUGGESTION_REASON_RANDOM),
        ("b", rater.SUGGESTION_REASON_REPEAT_CHECK),
        ("c", rater.SUGGESTION_REASON_UNCERTAIN),
    )
]


def sitting() -> Session:
    """A sitting on a rater that shows three images, the second of them for the second time."""
    answers = {
        "suggest_images": lambda **_: rater.SuggestImagesResponse(suggestions=SHOWN),
        "record_labels": lambda **_: rater.RecordLabelsResponse(),
    }
    client = Client({})
    client.__dict__["rater"] = SimpleNamespace(**answers)  # a cached property of a client without a service
    return Session(client, "default")


def test_a_repeat_is_counted_apart_and_a_cleared_one_is_none():
    session = sitting()
    session.current()
    for number in (5, 4, 0):
        session.grade(number)
    assert session.counts() == {"labels": 3, "undone": 0, "skipped": 0, "checks": 1}
    session = sitting()
    session.current()
    session.grade(1)
    session.grade(0)
    assert session.counts()["checks"] == 0


@pytest.mark.parametrize(("checks", "words"), [(0, ""), (1, "1 of them was shown"), (2, "2 of them were shown")])
def test_what_was_shown_twice_is_said_where_there_was_any(monkeypatch, capsys, checks, words):
    counts = {"labels": 9, "undone": 0, "skipped": 0, "checks": checks}
    monkeypatch.setattr(label, "grade", lambda *_, **__: counts)
    monkeypatch.setattr(label, "attached", nullcontext)
    label.label(terminal=True)
    first, *then = capsys.readouterr().out.splitlines()
    assert first == "9 graded, 0 undone, 0 skipped"
    assert [line[: len(words)] for line in then] == ([words] if words else [])
