"""A model that made images elsewhere reaches the rater, is evidence for a score, and none where models are compared."""

import io
import uuid

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import text

from konomi.v1 import rater_pb2 as pb
from konomi_chassis.storage.database import open_database
from konomi_rater.storage import image_records
from konomi_rater.storage.schema import MIGRATIONS
from tests.rater.conftest import png

LIKED, OTHER = "liked-v2", "other-v1"


def twin(data: bytes, name: str) -> bytes:
    """Returns the same pixels under another digest."""
    out, info = io.BytesIO(), PngInfo()
    info.add_text("name", name)
    Image.open(io.BytesIO(data)).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def scores(rater, taste: str, digests: list[str], **fields) -> list[pb.Score]:
    images = [pb.ImageInput(digest=digest) for digest in digests]
    reply = rater.call("ScoreImages", pb.ScoreImagesRequest(taste=taste, images=images, **fields))
    return [result.score for result in reply.results]


@pytest.fixture
def compared(rater) -> tuple[str, list[str]]:
    """A taste fitted on the images of two models, one graded higher, and digests of two of the same pixels."""
    taste, images, grades = rater.taste(), [], {}
    for row in range(48):
        liked = row % 2 == 0
        digest = rater.put(png((row * 5, 255 - row * 4, row * 7 % 255), row))
        images.append(pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, elsewhere_model=LIKED if liked else OTHER))
        grades[digest] = (3 if liked else 1) + row % 3
    pixels = png((115, 163, 161), 23)
    twins = [rater.put(twin(pixels, name)) for name in (LIKED, OTHER)]
    for digest, name in zip(twins, (LIKED, OTHER), strict=True):
        images.append(pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, elsewhere_model=name))
    assert not any(reply.HasField("error") for reply in rater.add(taste, images))
    rater.label(taste, grades)
    rater.fit(taste)
    return taste, twins


def test_the_model_is_kept_and_told(rater, compared):
    taste, twins = compared
    listed = rater.call("ListImages", pb.ListImagesRequest(taste=taste, page_size=100)).images
    named = {image.digest: image.elsewhere_model for image in listed}
    assert [named[digest] for digest in twins] == [LIKED, OTHER]


def test_scores_know_the_model_and_comparing_ones_do_not(rater, compared):
    taste, twins = compared
    liked, other = scores(rater, taste, twins)
    assert liked.utility > other.utility + 0.2
    liked, other = scores(rater, taste, twins, compares_models=True)
    assert (liked.utility, liked.std, list(liked.grade_probabilities)) == (
        other.utility,
        other.std,
        list(other.grade_probabilities),
    )


def test_a_training_set_is_chosen_without_names(rater, compared):
    taste, twins = compared
    request = pb.SelectImagesRequest(
        taste=taste,
        policy="converge",
        count=2,
        typicality_percentile=100,
        duplicate_cosine=1,
        quota=1000,
        candidates=pb.ImageFilter(digests=twins, sources=[pb.SOURCE_IMPORTED]),
    )
    reply = rater.call("SelectImages", request)
    members = {member.digest: member.score.utility for member in reply.selected if member.digest in twins}
    assert members, "nothing keeps both from being chosen"
    expected = scores(rater, taste, twins, compares_models=True)
    utilities = {digest: score.utility for digest, score in zip(twins, expected, strict=True)}
    assert members.items() <= utilities.items()


def test_a_name_that_is_too_long_is_refused(rater):
    taste, digest = rater.taste(), rater.put(png((1, 2, 3)))
    image = pb.Image(digest=digest, source=pb.SOURCE_IMPORTED, elsewhere_model="m" * 2000)
    (reply,) = rater.add(taste, [image])
    assert reply.error.reason == "TEXT_TOO_LONG" and "elsewhere_model" in reply.error.message


def test_an_older_home_knows_no_models(tmp_path):
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS[:14])
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tastes VALUES ('t', 'u', '', 'starter', 'starter', 0, 0)"))
        columns = (
            "taste, digest, source, prompt, seed, unit, night, parents, licence, consent, parameters, width, height"
        )
        values = "'t', :digest, 4, '', 0, '', '', '[]', '', '', '{}', 1, 1, 0"
        line = f"INSERT INTO images ({columns}, created) VALUES ({values})"
        connection.execute(text(line), {"digest": uuid.uuid4().hex})
    engine.dispose()
    engine = open_database(tmp_path / "rater.sqlite", MIGRATIONS)
    with engine.connect() as connection:
        row = connection.execute(text("SELECT * FROM images")).mappings().one()
        assert image_records.facts_of(row).elsewhere_model == ""
    engine.dispose()
