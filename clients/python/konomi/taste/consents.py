"""The ledger of sources: where images came from, on whose word, with what weight, and what was revoked."""

import json
from collections.abc import Sequence
from typing import TypedDict

from konomi.client import Client
from konomi.client.paging import models, pages
from konomi.v1 import rater_pb2

NAMES = ("self", "consented", "scraped", "imported")
"""Every source, by the contract's names in small letters."""


class SourceLine(TypedDict):
    """One source: its images, those graded UR, and its weight in the loss."""

    images: int
    ur: int
    weight: float


class ForeignImage(TypedDict):
    """One image that was not made here."""

    digest: str
    source: str
    licence: str
    consent: str
    grade: int
    weight: float


class ConsentLine(TypedDict):
    """One consent; times as ISO 8601, empty where there is none."""

    reference: str
    giver: str
    licence: str
    recorded: str
    revoked: str
    images: int
    images_revoked: int


class RevocationLine(TypedDict):
    """One image that left a taste for good."""

    digest: str
    source: str
    licence: str
    consent: str
    why: str
    time: str


class AffectedModel(TypedDict):
    """A model that was trained on revoked images, how many, and of how many."""

    model: str
    display_name: str
    current: bool
    images: int
    of: int


class Ledger(TypedDict):
    """The whole ledger of a taste, as JSON has it."""

    taste: str
    sources: dict[str, SourceLine]
    consents: list[ConsentLine]
    images: list[ForeignImage]
    revocations: list[RevocationLine]
    affected: list[AffectedModel]


def name_of(source: int) -> str:
    """Returns a source's name in small letters."""
    return rater_pb2.Source.Name(rater_pb2.Source.ValueType(source)).removeprefix("SOURCE_").lower()


def ledger(client: Client, taste: str, weights: dict[str, float]) -> Ledger:
    """Returns the whole ledger of a taste.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        weights: weight in the loss of each source, as golden uses it.
    """
    per_source: dict[str, SourceLine] = {
        name: {"images": 0, "ur": 0, "weight": weights.get(name, 1.0)} for name in NAMES
    }
    images: list[ForeignImage] = []
    for image in (image for page in pages(client.rater.list_images, taste=taste) for image in page.images):
        source = name_of(image.source)
        per_source[source]["images"] += 1
        per_source[source]["ur"] += image.grade == rater_pb2.GRADE_UR
        if image.source != rater_pb2.SOURCE_SELF:
            images.append(
                {
                    "digest": image.digest,
                    "source": source,
                    "licence": image.licence,
                    "consent": image.consent,
                    "grade": int(image.grade),
                    "weight": weights.get(source, 1.0),
                }
            )
    gone = revocations(client, taste)
    return {
        "taste": taste,
        "sources": per_source,
        "consents": [
            _consent(consent) for page in pages(client.rater.list_consents, taste=taste) for consent in page.consents
        ],
        "images": images,
        "revocations": gone,
        "affected": affected(client, taste, [revocation["digest"] for revocation in gone]),
    }


def revocations(client: Client, taste: str) -> list[RevocationLine]:
    """Returns what left a taste for good, oldest first."""
    replies = pages(client.rater.list_revocations, taste=taste)
    return [_revocation(revocation) for page in replies for revocation in page.revocations]


def affected(client: Client, taste: str, revoked: Sequence[str]) -> list[AffectedModel]:
    """Returns the models that were trained on some of these images, newest first, each with how many."""
    gone = set(revoked)
    trained: list[AffectedModel] = []
    for model in models(client, taste) if gone else ():
        if not model.manifest_digest:
            continue
        items = json.loads(client.artifacts.get(model.manifest_digest))["items"]
        count = sum(item["digest"] in gone for item in items)
        if count:
            trained.append(
                {
                    "model": model.name.removeprefix("models/"),
                    "display_name": model.display_name,
                    "current": model.current,
                    "images": count,
                    "of": len(items),
                }
            )
    return trained


def _consent(consent: rater_pb2.Consent) -> ConsentLine:
    return {
        "reference": consent.reference,
        "giver": consent.giver,
        "licence": consent.licence,
        "recorded": consent.create_time.ToJsonString() if consent.HasField("create_time") else "",
        "revoked": consent.revoke_time.ToJsonString() if consent.HasField("revoke_time") else "",
        "images": consent.image_count,
        "images_revoked": consent.revoked_count,
    }


def _revocation(revocation: rater_pb2.Revocation) -> RevocationLine:
    return {
        "digest": revocation.digest,
        "source": name_of(revocation.source),
        "licence": revocation.licence,
        "consent": revocation.consent,
        "why": revocation.why,
        "time": revocation.create_time.ToJsonString(),
    }
