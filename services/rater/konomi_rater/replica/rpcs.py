"""Which rpcs a rater that only reads serves: what is not named here is refused, so a new rpc is until it is placed."""

from collections.abc import Callable

from konomi.errors import KonomiError
from konomi_rater.replica.following import read_only

READS = frozenset(
    {
        "GetTaste",
        "ListTastes",
        "ListImages",
        "GetImage",
        "ListLabels",
        "GetRaterVersion",
        "ListRaterVersions",
        "ListPopulations",
        "ScoreImages",
        "ScoreImageStream",
        "SuggestImages",
        "SearchImages",
        "ExploreNovelty",
        "MapImages",
        "ListFavourites",
        "MeasureImages",
        "AdviseEmbedder",
        "ListConsents",
        "ListRevocations",
        "GetArtifact",
    }
)
"""Rpcs that keep nothing, in the database or in the store. Of SuggestImages a slate does, and is refused by itself."""


def refusing(writer: str) -> Callable[[str], KonomiError | None]:
    """Returns what says why a replica does not serve an rpc, by its full name; None where it does.

    Args:
        writer: address of the rater that writes; empty where nobody said it.
    """
    return lambda rpc: None if rpc.rpartition("/")[2] in READS else read_only(writer)
