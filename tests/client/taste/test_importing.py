"""`konomi import` on a real rater: a kill loses no rating, a copy's counts, the owner's own acts stand."""

import json

import pytest

from konomi.cli.images.import_images import add_all
from konomi.client import Client
from konomi.datasets.reader import find_images
from konomi.datasets.records import records
from konomi.errors import ResourceExhausted, Unavailable
from konomi.taste.importing import BATCH, ImportRun, ImportSummary
from konomi.v1 import rater_pb2 as pb
from tests.client.datasets.test_beside import XMP, write
from tests.rater.conftest import home, models, png, rater  # noqa: F401

IMPORTED = pb.Image(source=pb.SOURCE_IMPORTED)
pytestmark = pytest.mark.slow


def of(seed: int) -> bytes:
    return png((seed * 7 % 255, 40, 90), seed=seed)


@pytest.fixture
def client(rater):  # noqa: F811
    rater.taste("default")
    with Client.from_addresses({"rater": rater.address}, home=rater.home) as client:
        yield client


@pytest.fixture
def pictures(tmp_path):
    """A folder apart from the rater's home, whose artifacts are images too."""
    return tmp_path / "pictures"


def grades(client) -> dict[bytes, str]:
    return {record.data: record.grade for record in records(client, "default", [], "", False)}


def imported(client, *paths):
    return add_all(client, "default", list(paths), IMPORTED, lambda done: None)


def test_an_import_killed_between_adding_and_grading_is_finished_by_the_same_command(client, pictures, monkeypatch):
    write(pictures, {f"{n:02}.png": of(n) for n in range(72)})
    write(pictures, {f"{n:02}.png.xmp": XMP.format(n % 5 + 1) for n in range(72)})

    def killed(**_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(client.rater, "record_labels", killed)
        imported(client, pictures)
    assert list(grades(client).values()) == [""] * 64, "what was under way was added and not graded"
    again = imported(client, pictures)
    assert (again.added, again.already_known, again.rated) == (8, 64, 72)
    assert grades(client) == {of(n): ("N", "R", "SR", "SSR", "UR")[n % 5] for n in range(72)}
    assert imported(client, pictures).rated == 0


def test_an_import_that_ends_by_an_error_has_the_ratings_of_what_was_sent(client, pictures):
    write(pictures, {f"{n:02}.png": of(n) for n in range(BATCH + 8)})
    write(pictures, {f"{n:02}.png.xmp": XMP.format(n % 5 + 1) for n in range(BATCH + 8)})
    summary = ImportSummary()

    def too_many():
        for number, file in enumerate(find_images([pictures], summary.tally)):
            if number == BATCH + 3:
                raise ResourceExhausted("this is more than the page takes at once", reason="TOO_MANY_IMAGES")
            yield file

    with pytest.raises(ResourceExhausted, match="more than the page takes"):
        ImportRun(client, "default", IMPORTED, summary).add_all(too_many(), lambda done: None)
    assert (summary.added, summary.rated, summary.already_known) == (BATCH, BATCH, 0)
    assert grades(client) == {of(n): ("N", "R", "SR", "SSR", "UR")[n % 5] for n in range(BATCH)}


def test_what_cannot_be_graded_is_counted_once_and_graded_the_next_time(client, pictures, monkeypatch):
    write(pictures, {f"{n:02}.png": of(n) for n in range(BATCH + 2)})
    write(pictures, {f"{n:02}.png.xmp": XMP.format(5) for n in range(BATCH + 2)})
    (pictures / "00.png").write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    summary, asked = ImportSummary(), []

    def away(**_):
        asked.append(1)
        raise Unavailable("the rater is away")

    with monkeypatch.context() as patch, pytest.raises(Unavailable, match="the rater is away"):
        patch.setattr(client.rater, "record_labels", away)
        files = find_images([pictures], summary.tally)
        ImportRun(client, "default", IMPORTED, summary).add_all(files, lambda done: None)
    assert (summary.added, len(summary.failed), summary.rated, len(asked)) == (BATCH - 1, 1, 0, 1)
    assert imported(client, pictures).rated == BATCH + 1


def test_what_the_owner_did_here_stands_also_where_it_was_taken_back(client, pictures):
    write(pictures, {f"{n}.png": of(n) for n in range(4)})
    imported(client, pictures)
    digests = [image.digest for image in client.rater.list_images(taste="tastes/default").images]
    by_data = {client.artifacts.get(digest): digest for digest in digests}

    def grade(n: int, value: int) -> None:
        label = pb.Label(image_digest=by_data[of(n)], grade=pb.Grade.ValueType(value))
        client.rater.record_labels(taste="tastes/default", labels=[label])

    grade(0, 2)
    grade(1, 3)
    client.rater.undo_label(taste="tastes/default")
    grade(2, 4)
    grade(2, 0)
    write(pictures, {f"{n}.png.xmp": XMP.format(5) for n in range(4)})
    assert imported(client, pictures).rated == 1
    assert grades(client) == {of(0): "R", of(1): "", of(2): "", of(3): "UR"}


def test_a_second_copys_rating_counts_and_a_contradiction_is_named(client, pictures):
    write(pictures, {"a/plain.png": of(1), "b/rated.png": of(1), "b/rated.png.xmp": XMP.format(4)})
    write(
        pictures, {"a/five.png": of(2), "a/five.png.xmp": XMP.format(5), "b/two.png": of(2), "b/two.xmp": XMP.format(2)}
    )
    summary = imported(client, pictures)
    assert (summary.added, summary.already_known, summary.rated) == (2, 2, 2)
    assert grades(client) == {of(1): "SSR", of(2): "UR"}
    (unread,) = summary.tally.unread
    assert (unread.path, unread.reason) == (str(pictures / "b/two.png"), "RATING_CONTRADICTED")
    assert unread.message == "a copy of this image was rated 5 before; 2 was not taken over"


def test_a_copy_in_a_later_batch_counts_as_well(client, pictures):
    write(pictures, {f"{n:02}.png": of(n) for n in range(40)})
    write(
        pictures,
        {"z/copy.png": of(0), "z/copy.png.xmp": XMP.format(1), "z/more.png": of(0), "z/more.xmp": XMP.format(3)},
    )
    summary = imported(client, pictures)
    assert (summary.rated, grades(client)[of(0)]) == (1, "N")
    assert [unread.reason for unread in summary.tally.unread] == ["RATING_CONTRADICTED"]


def test_seeds_prompts_and_ratings_that_say_none_stay_so(client, pictures):
    rows = [
        {"file_name": "0.png", "text": "", "seed": "7", "grade": 0},
        {"file_name": "1.png", "text": "one", "seed": 0, "grade": "5"},
        {"file_name": "2.png", "text": "two", "seed": 2**64 - 1, "grade": True},
    ]
    write(pictures, {f"{n}.png": of(n) for n in range(3)} | {"metadata.jsonl": "\n".join(map(json.dumps, rows))})
    write(pictures, {"0.png.xmp": XMP.format(5)})
    summary = imported(client, pictures)
    got = {
        record.data: (record.caption, record.facts["seed"], record.grade)
        for record in records(client, "default", [], "", False)
    }
    assert got == {of(0): ("", 7, ""), of(1): ("one", 0, "UR"), of(2): ("two", 0, "")}
    assert sorted((unread.what, unread.message) for unread in summary.tally.unread) == [
        ("rating", "expected a rating of 1 to 5, got True"),
        ("seed", "expected a whole number below 2^63 as its seed, got 18446744073709551615"),
    ]
