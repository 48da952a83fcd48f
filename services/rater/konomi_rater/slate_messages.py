"""The contract's messages of slates and of what they have found."""

from collections.abc import Sequence

from konomi.v1 import rater_pb2
from konomi_rater import messages
from konomi_rater.acquisition import Reason
from konomi_rater.catalogue import ImageRow
from konomi_rater.slating import Discovery


def slate(found: Sequence[tuple[ImageRow, Reason, int]], taste: str) -> rater_pb2.SuggestImagesResponse:
    """Returns a slate."""
    suggestions = [
        rater_pb2.Suggestion(
            image=messages.image(row, taste), reason=rater_pb2.SuggestionReason.ValueType(int(reason)), region=region
        )
        for row, reason, region in found
    ]
    return rater_pb2.SuggestImagesResponse(suggestions=suggestions)


def discovery(found: Discovery, taste: str) -> rater_pb2.Discovery:
    """Returns what slates have found."""
    return rater_pb2.Discovery(
        islands=[
            rater_pb2.Island(
                region=island.region,
                predicted=found.bets[island.region].predicted,
                median=found.bets[island.region].median,
                shown=island.shown,
                liked=len(island.liked),
                label=f"tastes/{taste}/labels/{island.sequence}",
                digests=island.liked,
            )
            for island in found.tail.islands
        ],
        regions=found.regions,
        registered=len(found.bets),
        unseen_likes=found.tail.unseen_likes,
        liked_showings=found.tail.liked_showings,
        labels_since_island=found.labels_since_island,
    )
