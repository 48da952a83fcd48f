"""The file an image was imported from: kept with it, listed by it, and gained by homes of an earlier konomi."""

from pathlib import Path

import pytest
from sqlalchemy import text

from konomi.datasets.media import path_below
from konomi_chassis.storage.database import open_database, reading
from konomi_rater.storage import image_records
from konomi_rater.storage.image_records import ImageFacts
from konomi_rater.storage.schema import MIGRATIONS
from tests.rater.conftest import pb, png

PATHS = ("holiday/2024/IMG_1.HEIC", "holiday/img_2.jpg", "old.zip!猫.png", "")


def test_an_image_keeps_its_file_and_is_listed_by_it(rater):
    taste = rater.taste()
    digests = [rater.put(png((9, 9, shade), seed=shade)) for shade in range(len(PATHS))]
    images = [pb.Image(digest=d, source=pb.SOURCE_IMPORTED, path=p) for d, p in zip(digests, PATHS, strict=True)]
    assert not any(answer.HasField("error") for answer in rater.add(taste, images))
    assert [rater.call("GetImage", pb.GetImageRequest(taste=taste, digest=d)).path for d in digests] == list(PATHS)

    def listed(part: str, **fields) -> list[str]:
        criteria = pb.ImageFilter(path_contains=part, **fields)
        reply = rater.call("ListImages", pb.ListImagesRequest(taste=taste, filter=criteria, page_size=10))
        assert reply.total_size == len(reply.images)
        return [image.path for image in reply.images]

    assert listed("img_") == list(PATHS[:2]) and listed("HOLIDAY/2024") == list(PATHS[:1])
    assert listed("猫") == [PATHS[2]] and listed("") == list(PATHS) and listed("%") == []
    rater.label(taste, {digests[1]: 5})
    assert listed("img", grades=[pb.GRADE_UR]) == [PATHS[1]]

    again = [pb.Image(digest=d, source=pb.SOURCE_IMPORTED, path="elsewhere.png") for d in (digests[0], digests[3])]
    assert all(answer.already_known for answer in rater.add(taste, again))
    paths = [rater.call("GetImage", pb.GetImageRequest(taste=taste, digest=d)).path for d in digests]
    assert paths == [*PATHS[:3], "elsewhere.png"], "the first name stays; who had none gets one"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("x" * 1025, "TEXT_TOO_LONG"),
        ("a\nb.png", "TEXT_CONTROL"),
        *((path, "PATH_OUTSIDE") for path in ("/home/a.png", "C:\\a.png", "c:/a.png", "\\\\server\\a.png")),
        *((path, "PATH_OUTSIDE") for path in ("..", "../a.png", "a/../../b.png", "a/..")),
    ],
)
def test_a_path_no_image_may_have_is_that_image_s_error(rater, path, reason):
    image = pb.Image(digest=rater.put(png((1, 2, 3))), source=pb.SOURCE_IMPORTED, path=path)
    (answer,) = rater.add(rater.taste(), [image])
    assert answer.error.reason == reason and "image's path" in answer.error.message


def test_what_leads_out_is_said_and_what_only_looks_like_it_is_taken(rater):
    taste, digest = rater.taste(), rater.put(png((1, 2, 3)))
    (answer,) = rater.add(taste, [pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, path="../a.png")])
    assert "expected a path within what was imported, found one that leads out of it" in answer.error.message
    for shade, path in enumerate(("..a/b...png", "a/C:/b.png", "a..", "a\\..\\b.png")):
        image = pb.Image(digest=rater.put(png((9, 9, shade))), source=pb.SOURCE_IMPORTED, path=path)
        assert not any(answer.HasField("error") for answer in rater.add(taste, [image])), path


@pytest.mark.parametrize("name", ["../../a.png", "C:\\D:/\\../a.png", "x" * 1024 + "/C:/../a.png", "\\../../a.png"])
def test_how_an_import_tells_of_a_hostile_name_is_taken(rater, name):
    image = pb.Image(digest=rater.put(png((1, 2, 3))), source=pb.SOURCE_IMPORTED, path=path_below(name, Path("/x")))
    assert not any(answer.HasField("error") for answer in rater.add(rater.taste(), [image]))


def test_an_older_home_has_no_paths_and_takes_them(tmp_path: Path):
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS[:10])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tastes VALUES ('t', 'u', '', 'starter', 'starter', 0, 0)"))
        connection.execute(
            text(
                "INSERT INTO images (taste, digest, source, prompt, seed, unit, night, parents, licence, consent, "
                "parameters, width, height, created) VALUES ('t', 'd', 4, '', 0, '', '', '[]', '', '', '{}', 1, 1, 0)"
            )
        )
    engine.dispose()
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    with engine.begin() as connection:
        assert image_records.read(connection, "t", "d").facts.path == ""
        assert not image_records.add(connection, "t", ImageFacts("d", 4, path="a/b.png"), (1, 1), 0.0)
    with reading(engine) as connection:
        assert image_records.read(connection, "t", "d").facts.path == "a/b.png"
    engine.dispose()
