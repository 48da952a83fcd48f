"""The strangest images of a choice: the most novel ones a night made, and what became of each."""

from typing import Any

from konomi import errors
from konomi.client import Client
from konomi.v1 import rater_pb2

SHOWN = 12
LOOKED_AT = 256
"""Images looked at, most novel first: among so many some were chosen and some were not."""


def strangest(
    client: Client, taste: str, night: str, reply: rater_pb2.SelectImagesResponse, count: int = SHOWN
) -> list[dict[str, Any]]:
    """Returns "digest", "novelty" and "fate" of the night's most novel images, half of them chosen, most novel first.

    Args:
        client: the services.
        taste: "tastes/{taste}".
        night: id of the night.
        reply: the choice; a fate is "selected", "base", the reason of a rejection, or "passed_over".
        count: at most this many.
    """
    fates = {one.digest: _small(rater_pb2.RejectionReason.Name(one.reason)) for one in reply.rejections}
    for one in reply.selected:
        fates[one.digest] = "base" if one.role == rater_pb2.SELECTION_ROLE_BASE else "selected"
    own = rater_pb2.ImageFilter(nights=[night])
    try:
        page = client.rater.list_images(
            taste=taste, filter=own, order_by="novelty desc", page_size=LOOKED_AT, with_scores=True
        )
    except (errors.FailedPrecondition, errors.Unimplemented):
        return []
    found = [
        {
            "digest": image.digest,
            "novelty": round(image.score.novelty, 4),
            "fate": fates.get(image.digest, "passed_over"),
        }
        for image in page.images
    ]
    chosen = [one for one in found if one["fate"] in ("selected", "base")][: count // 2]
    turned_away = [one for one in found if one["fate"] not in ("selected", "base")][: count - len(chosen)]
    return sorted(chosen + turned_away, key=lambda one: -one["novelty"])


def _small(name: str) -> str:
    return name.removeprefix("REJECTION_REASON_").lower()
