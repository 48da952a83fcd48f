"""What a night measures of a unit beside its scores: distance to unit 0, reach of known likes, near-copies."""

from collections.abc import Sequence

from konomi import errors
from konomi.client import Client
from konomi.client.paging import models
from konomi.night.gateway import manifests
from konomi.night.records.state import GradedLikeness, Measures, StrangeImage
from konomi.v1 import rater_pb2

ENOUGH = 500
"""Images on each side from which KID and CMMD are a claim; below, the log says how few there were."""

MOST_SOURCES = 10_000
"""Training sources one set is compared with."""

MOST_EARLIER = 50_000
"""Training sources a choice looks at, those of the newest models first."""


def measure(
    client: Client, taste: str, digests: Sequence[str], reference: Sequence[str], sources: Sequence[str]
) -> Measures:
    """Returns the measures of a unit's images; nothing is set where the rater cannot measure them.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        digests: images of the unit, two or more.
        reference: images of unit 0 of the same prompts and seeds; none for unit 0 itself.
        sources: what the unit was trained on.
    """
    try:
        reply = client.rater.measure_images(
            taste=taste, digests=digests, reference=reference, training_sources=sources[:MOST_SOURCES]
        )
    except (errors.Unimplemented, errors.FailedPrecondition):
        return Measures()
    return _measures(reply)


def _measures(reply: rater_pb2.ImageMeasures) -> Measures:
    """Returns measures as a night keeps them; "enough" says whether KID and CMMD rest on enough images."""
    known = {"graded": graded_measures(reply)} if reply.HasField("graded") else {}
    return Measures(
        n=reply.n,
        reference_n=reply.reference_n,
        enough=min(reply.n, reply.reference_n) >= ENOUGH,
        kid={"value": reply.kid.value, "low": reply.kid.low, "high": reply.kid.high, "n": reply.kid.n},
        cmmd=reply.cmmd,
        precision=reply.precision,
        recall=reply.recall,
        density=reply.density,
        coverage=reply.coverage,
        liked_cells=reply.liked_cells,
        likes_covered=reply.likes_covered,
        likes_covered_reference=reply.reference_likes_covered,
        near_copies=reply.near_copies,
        near_copies_reference=reply.reference_near_copies,
        largest_cell_share=reply.largest_cell_share,
        cell_entropy=reply.cell_entropy,
        **known,
    )


def graded_measures(reply: rater_pb2.ImageMeasures) -> GradedLikeness:
    """Returns how a set lies to what was graded."""
    return GradedLikeness(**{field.name: value for field, value in reply.graded.ListFields()})


def graded_of(client: Client, taste: str, digests: Sequence[str]) -> GradedLikeness | None:
    """Returns how images lie to what was graded; None where too little is graded to say, or the rater cannot.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        digests: stored images, whoever made them.
    """
    different = list(dict.fromkeys(digests))
    if len(different) < 2:
        return None
    try:
        reply = client.rater.measure_images(taste=taste, digests=different, reference=different)
    except errors.Unimplemented:
        return None
    return graded_measures(reply) if reply.HasField("graded") else None


def guarded(measures: Measures) -> dict[str, float]:
    """Returns the fields of UnitNumbers that measures decide; none where there are no measures."""
    if not measures.model_fields_set:
        return {}
    before = measures.likes_covered_reference
    return {
        "likes_kept": measures.likes_covered / before if before else 1.0,
        "liked_cells": measures.liked_cells,
        "near_copies": measures.near_copies,
        "near_copies_by_chance": measures.near_copies_reference,
    }


def sources_of(client: Client, manifest: str) -> list[str]:
    """Returns the digests of a manifest's images, but those it turns away from; none where no manifest is named."""
    return [item.digest for item in manifests.items_of(client, manifest) if item.role != manifests.AVOIDED]


def earlier_sources(client: Client, taste: str) -> list[str]:
    """Returns the digests every model of a taste was trained on, those of the newest models first, none twice."""
    sources: dict[str, None] = {}
    for manifest in dict.fromkeys(model.manifest_digest for model in models(client, taste)):
        sources.update(dict.fromkeys(sources_of(client, manifest)))
        if len(sources) >= MOST_EARLIER:
            break
    return list(sources)[:MOST_EARLIER]


SHOWN = 12
LOOKED_AT = 256
"""Images looked at, most novel first: among so many some were chosen and some were not."""


def strangest(
    client: Client, taste: str, night: str, reply: rater_pb2.SelectImagesResponse, count: int = SHOWN
) -> list[StrangeImage]:
    """Returns the night's most novel images with what became of them, half of them chosen, most novel first.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        night: id of the night.
        reply: the choice; a fate is "selected", "base", "avoided", the reason of a rejection, or "passed_over".
        count: at most this many.
    """
    fates = {image.digest: _small(rater_pb2.RejectionReason.Name(image.reason)) for image in reply.rejections}
    fates |= {image.digest: manifests.AVOIDED for image in reply.avoided}
    for image in reply.selected:
        fates[image.digest] = "base" if image.role == rater_pb2.SELECTION_ROLE_BASE else "selected"
    own = rater_pb2.ImageFilter(nights=[night])
    try:
        page = client.rater.list_images(
            taste=taste, filter=own, order_by="novelty desc", page_size=LOOKED_AT, with_scores=True
        )
    except (errors.FailedPrecondition, errors.Unimplemented):
        return []
    strange = [
        StrangeImage(
            digest=listed.digest,
            novelty=round(listed.score.novelty, 4),
            fate=fates.get(listed.digest, "passed_over"),
        )
        for listed in page.images
    ]
    chosen = [each for each in strange if each.fate in ("selected", "base")][: count // 2]
    turned_away = [each for each in strange if each.fate not in ("selected", "base")][: count - len(chosen)]
    return sorted(chosen + turned_away, key=lambda each: -each.novelty)


def _small(name: str) -> str:
    return name.removeprefix("REJECTION_REASON_").lower()
