"""The contract's messages of rater versions."""

from konomi.v1 import rater_pb2
from konomi_rater.messages import timestamp, version_name
from konomi_rater.metrics import Estimate
from konomi_rater.verdict import Diff
from konomi_rater.versions import Described


def version(found: Described) -> rater_pb2.RaterVersion:
    """Returns a rater version."""
    row = found.row
    message = rater_pb2.RaterVersion(
        name=version_name(row.taste, row.number),
        create_time=timestamp(row.created),
        label_count=row.label_count,
        head=row.head,
        embedder=row.embedder,
        metrics={name: _estimate(figure) for name, figure in row.metrics.items()},
        active=found.active,
        artifact_digest=row.artifact,
        label_digest=row.label_digest,
        candidates=dict(row.candidates),
        alarms=found.alarms,
    )
    if found.diff is not None:
        message.diff.CopyFrom(_diff(found.diff, row.taste))
    if found.pressure is not None:
        spent = found.pressure
        message.pressure.CopyFrom(
            rater_pb2.Pressure(nats=spent.nats, best_of_n_nats=spent.best_of_n_nats, selections=spent.selections)
        )
    return message


def _diff(found: Diff, taste: str) -> rater_pb2.VersionDiff:
    message = rater_pb2.VersionDiff(
        against=version_name(taste, found.against),
        verdict=rater_pb2.VersionVerdict.ValueType(int(found.verdict)),
        labels_changed=found.labels_changed,
    )
    for name in ("srcc", "earlier_srcc", "gain"):
        figure = getattr(found, name)
        if figure is not None:
            getattr(message, name).CopyFrom(_estimate(figure))
    return message


def _estimate(figure: Estimate) -> rater_pb2.Estimate:
    return rater_pb2.Estimate(value=figure.value, low=figure.low, high=figure.high, n=figure.n)
