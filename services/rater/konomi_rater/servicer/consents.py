"""The rpcs that record consents and revoke images."""

import grpc
import sqlalchemy

from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2
from konomi_chassis.rpc.pagination import page
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import consents, tastes
from konomi_rater.storage.consents import ConsentRow, RevocationRow


class ConsentServicer(ServicerPart):
    """Serves the record of sources."""

    def RecordConsent(
        self, request: rater_pb2.RecordConsentRequest, context: grpc.ServicerContext
    ) -> rater_pb2.Consent:
        """Records a consent; the answer leaves only after the commit."""
        taste, given = taste_id(request.taste), request.consent

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Consent:
            tastes.read(connection, taste)
            row = ConsentRow(given.reference, given.giver, given.licence, 0.0, 0.0, 0, 0)
            return _consent(consents.record(connection, taste, row, self._rater.workspace.clock()))

        return self._answer_once("RecordConsent", request, rater_pb2.Consent(), work)

    def ListConsents(
        self, request: rater_pb2.ListConsentsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListConsentsResponse:
        """Lists consents; the page token is the last reference."""
        taste = taste_id(request.taste)
        with self._rater.workspace.reading() as connection:
            tastes.read(connection, taste)
            listed = page(
                request.page_size,
                lambda limit: consents.read_all(connection, taste, request.page_token, limit),
                lambda row: row.reference,
            )
        return rater_pb2.ListConsentsResponse(
            consents=[_consent(row) for row in listed.rows], next_page_token=listed.next_token
        )

    def RevokeImages(
        self, request: rater_pb2.RevokeImagesRequest, context: grpc.ServicerContext
    ) -> rater_pb2.RevokeImagesResponse:
        """Takes images out of a taste for good; their pixels are gone when the answer comes."""
        if bool(request.consent) == bool(request.digests):
            raise InvalidArgument(
                "expected either a consent or digests to revoke, found both or neither; name one of them",
                reason="REVOKE_WHAT",
                field="consent",
            )
        taste = taste_id(request.taste)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.RevokeImagesResponse:
            tastes.read(connection, taste)
            now = self._rater.workspace.clock()
            if request.consent:
                gone = consents.revoke_consent(connection, taste, request.consent, request.why, now)
            else:
                gone = consents.revoke_images(connection, taste, request.digests, request.why, now)
            return rater_pb2.RevokeImagesResponse(revocations=[_revocation(row) for row in gone])

        reply = self._answer_once("RevokeImages", request, rater_pb2.RevokeImagesResponse(), work)
        self._rater.collecting.finish_revocations()
        return reply

    def ListRevocations(
        self, request: rater_pb2.ListRevocationsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListRevocationsResponse:
        """Lists revocations; the page token is the last one's number."""
        taste = taste_id(request.taste)
        after = messages.number_in(request.page_token, "revocations", "page_token") if request.page_token else 0
        with self._rater.workspace.reading() as connection:
            tastes.read(connection, taste)
            listed = page(
                request.page_size,
                lambda limit: consents.revocations(connection, taste, after, limit),
                lambda row: str(row.sequence),
            )
        return rater_pb2.ListRevocationsResponse(
            revocations=[_revocation(row) for row in listed.rows], next_page_token=listed.next_token
        )


def _consent(row: ConsentRow) -> rater_pb2.Consent:
    message = rater_pb2.Consent(
        reference=row.reference,
        giver=row.giver,
        licence=row.licence,
        image_count=row.images,
        revoked_count=row.gone,
    )
    if row.created:
        message.create_time.CopyFrom(messages.timestamp(row.created))
    if row.revoked:
        message.revoke_time.CopyFrom(messages.timestamp(row.revoked))
    return message


def _revocation(row: RevocationRow) -> rater_pb2.Revocation:
    return rater_pb2.Revocation(
        digest=row.digest,
        source=rater_pb2.Source.ValueType(row.source),
        licence=row.licence,
        consent=row.consent,
        why=row.why,
        create_time=messages.timestamp(row.created),
    )
