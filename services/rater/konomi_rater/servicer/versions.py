"""The part of RaterService that fits, shows and activates rater versions."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.v1 import rater_pb2
from konomi_rater.preference.fitting import Step
from konomi_rater.preference.metrics import Estimate
from konomi_rater.preference.promotion import Diff
from konomi_rater.servicer import messages
from konomi_rater.servicer.audits import AuditServicer
from konomi_rater.servicer.messages import taste_id, timestamp, version_name
from konomi_rater.storage import tastes
from konomi_rater.storage.tastes import VersionRow
from konomi_rater.usecases.versions import Described, NewVersion


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


NEWEST = 2**62


class VersionServicer(AuditServicer):
    """Serves the versions of the preference model."""

    def FitRater(
        self, request: rater_pb2.FitRaterRequest, context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.FitRaterResponse]:
        """Fits a version: progress, then the version; it scores from then on unless the panel says it is worse."""
        with self._rater.workspace.writing() as connection:
            first = self._idempotency.replay(connection, "FitRater", request)
        if first is not None:
            yield rater_pb2.FitRaterResponse.FromString(first)
            return
        for step in self._rater.versions.fit(taste_id(request.taste), request.seed):
            if isinstance(step, Step):
                yield rater_pb2.FitRaterResponse(
                    progress=rater_pb2.Progress(phase=step.phase, done=step.done, total=step.total)
                )
                continue
            self._rater.scoring.prepare(step.row.taste, step.row.artifact)

            def work(connection: sqlalchemy.Connection, new: NewVersion = step) -> rater_pb2.FitRaterResponse:
                row = self._rater.versions.keep(connection, new, activate=not request.keep_active)
                return rater_pb2.FitRaterResponse(rater_version=self._version(connection, row))

            yield self._once("FitRater", request, rater_pb2.FitRaterResponse(), work)

    def GetRaterVersion(
        self, request: rater_pb2.GetRaterVersionRequest, context: grpc.ServicerContext
    ) -> rater_pb2.RaterVersion:
        """Returns a version, or the active one."""
        taste = messages.taste_in(request.name)
        with self._rater.workspace.reading() as connection:
            active = tastes.read(connection, taste).active
            number = active if request.name.endswith("/active") else messages.number_in(request.name, "raterVersions")
            return self._version(connection, tastes.read_version(connection, taste, number))

    def ListRaterVersions(
        self, request: rater_pb2.ListRaterVersionsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListRaterVersionsResponse:
        """Lists versions; the page token is the last number."""
        taste, size = taste_id(request.taste), request.page_size or messages.DEFAULT_PAGE
        before = messages.number_in(request.page_token, "raterVersions", "page_token") if request.page_token else NEWEST
        with self._rater.workspace.reading() as connection:
            tastes.read(connection, taste)
            rows = tastes.read_versions(connection, taste, before, size + 1)
            versions = [self._version(connection, row) for row in rows[:size]]
        token = str(rows[size - 1].number) if len(rows) > size else ""
        return rater_pb2.ListRaterVersionsResponse(rater_versions=versions, next_page_token=token)

    def ActivateRaterVersion(
        self, request: rater_pb2.ActivateRaterVersionRequest, context: grpc.ServicerContext
    ) -> rater_pb2.RaterVersion:
        """Makes a version the one that scores."""
        taste, number = messages.taste_in(request.name), messages.number_in(request.name, "raterVersions")

        def work(connection: sqlalchemy.Connection) -> rater_pb2.RaterVersion:
            tastes.read(connection, taste)
            return self._version(connection, tastes.set_active(connection, taste, number))

        return self._once("ActivateRaterVersion", request, rater_pb2.RaterVersion(), work)

    def _version(self, connection: sqlalchemy.Connection, row: VersionRow) -> rater_pb2.RaterVersion:
        return version(self._rater.versions.describe(connection, row))
