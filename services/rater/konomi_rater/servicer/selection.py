"""The contract's messages of a set that grows by itself."""

from konomi.v1 import rater_pb2
from konomi_rater.selection.propagation import Growth
from konomi_rater.servicer.messages import image_filter
from konomi_rater.usecases.propagation import GrowthWish

POLICY = "propagate"


def wish(message: rater_pb2.SelectImagesRequest) -> GrowthWish:
    """Reads what a set shall grow from; what is not set takes the contract's default."""
    given = {
        name: getattr(message, name)
        for name in ("kappa", "near_copy_cosine", "duplicate_cosine", "typicality_percentile")
        if message.HasField(name)
    }
    if message.base_units:
        given["base_units"] = tuple(message.base_units)
    return GrowthWish(
        originals=tuple(dict.fromkeys(message.originals)),
        members=tuple(dict.fromkeys(message.members)),
        count=message.count,
        candidates=image_filter(message.candidates),
        **given,
    )


def growth(found: Growth) -> rater_pb2.Growth:
    """Returns the gate and how the candidates lay to it."""
    return rater_pb2.Growth(
        low=found.allowed.low,
        high=found.allowed.high,
        mean_cosine=found.mean_cosine,
        standard_error=found.standard_error,
        passed=found.passed,
        liked=found.liked,
        cosines=[float(found.cosines[row]) for row in found.taken],
    )
