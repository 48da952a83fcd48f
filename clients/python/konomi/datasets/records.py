"""Images of a taste as they leave it: bytes, caption and facts of each, the owner's grade and the prediction apart."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

from konomi.client import Client
from konomi.client.messages import GRADES
from konomi.client.paging import pages
from konomi.client.services import taste_name
from konomi.datasets.media import ENDINGS, media_type_of
from konomi.errors import GONE, NotFound
from konomi.v1 import rater_pb2 as rater

PAGE = 200
SOURCES = {
    rater.SOURCE_SELF: "self",
    rater.SOURCE_CONSENTED: "consented",
    rater.SOURCE_SCRAPED: "scraped",
    rater.SOURCE_IMPORTED: "imported",
}
QUALITY = {"UR": "masterpiece", "SSR": "best quality", "SR": "good quality", "R": "low quality", "N": "worst quality"}
"""Grade to the quality word Danbooru-captioned base models know."""


class Prediction(TypedDict):
    """What the rater expects of an image."""

    grade: str
    utility: float
    std: float
    lower_bound: float
    grade_probabilities: list[float]
    typicality: float
    novelty: float
    rater_version: str


class RecordFacts(TypedDict):
    """What is known of an image, as JSON has it: `grade` is the owner's, `prediction` the rater's."""

    digest: str
    prompt: str
    seed: int
    grade: str | None
    prediction: Prediction | None
    source: str
    licence: str
    consent: str
    unit: str
    night: str
    parents: list[str]
    width: int
    height: int
    parameters: dict[str, float]
    path: str


@dataclass(frozen=True)
class DatasetRecord:
    """One image on its way out; `facts` is what every format says of it, ready for JSON."""

    data: bytes
    ending: str
    caption: str
    facts: RecordFacts

    @property
    def digest(self) -> str:
        """The sha256 of the bytes."""
        return str(self.facts["digest"])

    @property
    def grade(self) -> str:
        """The owner's grade, empty where there is none; never a prediction."""
        return str(self.facts["grade"] or "")


def records(
    client: Client, taste: str, grades: Sequence[str], unit: str, quality_words: bool
) -> Iterator[DatasetRecord]:
    """Yields the images of a taste that have pixels, oldest first.

    Args:
        client: the services.
        taste: its id or name.
        grades: only images the owner gave one of these, for example "UR"; all where empty.
        unit: only images of this unit; of any where empty.
        quality_words: begin the captions of graded images with a quality word.
    """
    image_filter = rater.ImageFilter(grades=[rater.Grade.Value(f"GRADE_{grade}") for grade in grades])
    if unit:
        image_filter.units.append(unit)
    listing = {"taste": taste_name(taste), "filter": image_filter, "page_size": PAGE, "with_scores": True}
    for page in pages(client.rater.list_images, **listing):
        for image in page.images:
            if image.pixels_collected:
                continue
            try:
                data = client.artifacts.get(image.digest)
            except NotFound as error:
                if error.reason in GONE:  # since the page was listed
                    continue
                raise
            facts = facts_of(image)
            words = [QUALITY[facts["grade"]]] if quality_words and facts["grade"] else []
            caption = ", ".join([*words, *([image.prompt] if image.prompt else [])])
            yield DatasetRecord(data, ENDINGS.get(media_type_of(data[:12]), ".bin")[1:], caption, facts)


def count(client: Client, taste: str, grades: Sequence[str], unit: str) -> int:
    """Returns how many images `records` looks at: it yields them without those whose pixels were collected."""
    image_filter = rater.ImageFilter(grades=[rater.Grade.Value(f"GRADE_{grade}") for grade in grades])
    if unit:
        image_filter.units.append(unit)
    return int(client.rater.list_images(taste=taste_name(taste), filter=image_filter, page_size=1).total_size)


def facts_of(image: rater.Image) -> RecordFacts:
    """Returns what is known of an image: `grade` is the owner's, `prediction` the rater's; None where missing."""
    return {
        "digest": image.digest,
        "prompt": image.prompt,
        "seed": image.seed,
        "grade": GRADES[image.grade - 1] if image.grade else None,
        "prediction": _prediction(image.score) if image.HasField("score") else None,
        "source": SOURCES.get(image.source, ""),
        "licence": image.licence,
        "consent": image.consent,
        "unit": image.unit,
        "night": image.night,
        "parents": list(image.parents),
        "width": image.width,
        "height": image.height,
        "parameters": dict(sorted(image.parameters.items())),
        "path": image.path,
    }


def _prediction(score: rater.Score) -> Prediction:
    chances = list(score.grade_probabilities)
    return {
        "grade": GRADES[chances.index(max(chances))] if len(chances) == len(GRADES) else "",
        "utility": score.utility,
        "std": score.std,
        "lower_bound": score.lower_bound,
        "grade_probabilities": chances,
        "typicality": score.typicality,
        "novelty": score.novelty,
        "rater_version": score.rater_version,
    }
