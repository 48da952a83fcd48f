"""The rpcs that fit, show and activate rater versions."""

from collections.abc import Iterator

import grpc
import sqlalchemy

from konomi.errors import NotFound
from konomi.v1 import rater_pb2
from konomi_chassis.rpc.pagination import page
from konomi_rater.preference.fitting import Step
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart, caller
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import tastes
from konomi_rater.storage.tastes import VersionRow
from konomi_rater.usecases.fitting.versions import NewVersion

NEWEST = 2**62
"""Above every version number."""


class VersionServicer(ServicerPart):
    """Serves the versions of the preference model."""

    def FitRater(
        self, request: rater_pb2.FitRaterRequest, context: grpc.ServicerContext
    ) -> Iterator[rater_pb2.FitRaterResponse]:
        """Fits a version: progress, then the version; it scores from then on unless the panel says it is worse."""
        first = self._first_answer("FitRater", request, rater_pb2.FitRaterResponse())
        if first is not None:
            yield first
            return
        waiting = caller(context)
        for step in self._rater.versions.fit(taste_id(request.taste), request.seed, check=waiting.check):
            if isinstance(step, Step):
                yield rater_pb2.FitRaterResponse(progress=messages.progress(step))
                continue
            self._rater.scoring.prepare(step.row.taste, step.row.artifact, waiting.check)

            def work(connection: sqlalchemy.Connection, new: NewVersion = step) -> rater_pb2.FitRaterResponse:
                row = self._rater.versions.keep(connection, new, activate=not request.keep_active)
                return rater_pb2.FitRaterResponse(rater_version=self._version(connection, row))

            yield self._answer_once("FitRater", request, rater_pb2.FitRaterResponse(), work)
            self._rater.second_embedders.resume()

    def GetRaterVersion(
        self, request: rater_pb2.GetRaterVersionRequest, context: grpc.ServicerContext
    ) -> rater_pb2.RaterVersion:
        """Returns a version, or the active one."""
        taste = messages.taste_in(request.name)
        with self._rater.workspace.reading() as connection:
            active = tastes.read(connection, taste).active
            if not active and request.name.endswith("/active"):
                raise NotFound(
                    f"expected tastes/{taste} to have a rater, found none yet: grade about 30 images (konomi label), "
                    "then let it learn from them (konomi rater fit)",
                    reason="RATER_NOT_FITTED",
                )
            number = active if request.name.endswith("/active") else messages.number_in(request.name, "raterVersions")
            return self._version(connection, tastes.read_version(connection, taste, number))

    def ListRaterVersions(
        self, request: rater_pb2.ListRaterVersionsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListRaterVersionsResponse:
        """Lists versions; the page token is the last number."""
        taste = taste_id(request.taste)
        before = messages.number_in(request.page_token, "raterVersions", "page_token") if request.page_token else NEWEST
        with self._rater.workspace.reading() as connection:
            tastes.read(connection, taste)
            listed = page(
                request.page_size,
                lambda limit: tastes.read_versions(connection, taste, before, limit),
                lambda row: str(row.number),
            )
            versions = [self._version(connection, row) for row in listed.rows]
        return rater_pb2.ListRaterVersionsResponse(rater_versions=versions, next_page_token=listed.next_token)

    def ActivateRaterVersion(
        self, request: rater_pb2.ActivateRaterVersionRequest, context: grpc.ServicerContext
    ) -> rater_pb2.RaterVersion:
        """Makes a version the one that scores."""
        taste, number = messages.taste_in(request.name), messages.number_in(request.name, "raterVersions")

        def work(connection: sqlalchemy.Connection) -> rater_pb2.RaterVersion:
            tastes.read(connection, taste)
            return self._version(connection, tastes.set_active(connection, taste, number))

        return self._answer_once("ActivateRaterVersion", request, rater_pb2.RaterVersion(), work)

    def _version(self, connection: sqlalchemy.Connection, row: VersionRow) -> rater_pb2.RaterVersion:
        return messages.rater_version(self._rater.versions.describe(connection, row))
