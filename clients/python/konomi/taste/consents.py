"""The ledger of sources: where images came from, on whose word, with what weight, and what was revoked."""

import json
from collections.abc import Sequence
from typing import Any

from konomi.client import Client
from konomi.client.paging import models, pages
from konomi.v1 import rater_pb2

NAMES = ("self", "consented", "scraped", "imported")
"""Every source, by the contract's names in small letters."""


def name_of(source: int) -> str:
    """Returns a source's name in small letters."""
    return rater_pb2.Source.Name(rater_pb2.Source.ValueType(source)).removeprefix("SOURCE_").lower()


def ledger(client: Client, taste: str, weights: dict[str, float]) -> dict[str, Any]:
    """Returns the whole ledger of a taste as plain JSON.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        weights: weight in the loss of each source, as golden uses it.

    Returns:
        "sources" (per source: images, UR, weight), "consents", "images" (those not made here: digest, source, licence,
        consent, grade, weight), "revocations" and "affected", the models trained on what was revoked.
    """
    per_source = {name: {"images": 0, "ur": 0, "weight": weights.get(name, 1.0)} for name in NAMES}
    images = []
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
        "consents": [_consent(one) for page in pages(client.rater.list_consents, taste=taste) for one in page.consents],
        "images": images,
        "revocations": gone,
        "affected": affected(client, taste, [one["digest"] for one in gone]),
    }


def revocations(client: Client, taste: str) -> list[dict[str, Any]]:
    """Returns what left a taste for good, oldest first."""
    replies = pages(client.rater.list_revocations, taste=taste)
    return [_revocation(one) for page in replies for one in page.revocations]


def affected(client: Client, taste: str, revoked: Sequence[str]) -> list[dict[str, Any]]:
    """Returns the models that were trained on some of these images, newest first, each with how many."""
    gone = set(revoked)
    trained = []
    for model in models(client, taste) if gone else ():
        if not model.manifest_digest:
            continue
        items = json.loads(client.artifacts.get(model.manifest_digest))["items"]
        count = sum(item["digest"] in gone for item in items)
        if count:
            facts = {"model": model.name.removeprefix("models/"), "display_name": model.display_name}
            trained.append(facts | {"current": model.current, "images": count, "of": len(items)})
    return trained


def _consent(one: rater_pb2.Consent) -> dict[str, Any]:
    return {
        "reference": one.reference,
        "giver": one.giver,
        "licence": one.licence,
        "recorded": one.create_time.ToJsonString() if one.HasField("create_time") else "",
        "revoked": one.revoke_time.ToJsonString() if one.HasField("revoke_time") else "",
        "images": one.image_count,
        "images_revoked": one.revoked_count,
    }


def _revocation(one: rater_pb2.Revocation) -> dict[str, Any]:
    return {
        "digest": one.digest,
        "source": name_of(one.source),
        "licence": one.licence,
        "consent": one.consent,
        "why": one.why,
        "time": one.create_time.ToJsonString(),
    }
