"""The rpcs that record blind audits: of golden sets, which they certify, and of units."""

from collections.abc import Sequence

import grpc
import sqlalchemy

from konomi.errors import GONE, InvalidArgument, NotFound
from konomi.v1 import rater_pb2
from konomi_chassis.auth.authentication import acting_for
from konomi_rater.selection.certificate import AuditLimits, CertificateStage, Sample
from konomi_rater.selection.selection import SSR
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import audits, image_records, labels, tastes
from konomi_rater.storage.audits import BlindAudit, Terms
from konomi_rater.usecases.certification import Audit


class AuditServicer(ServicerPart):
    """Serves audits and the certificates they end in."""

    def CertifySet(self, request: rater_pb2.CertifySetRequest, context: grpc.ServicerContext) -> rater_pb2.Certificate:
        """Draws the audit of a set, or returns the one it has."""
        taste, terms = taste_id(request.taste), _terms(request)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Certificate:
            return _certificate(
                self._rater.certifying.open(connection, taste, request.digests, terms, request.seed % 2**63)
            )

        return self._answer_once("CertifySet", request, rater_pb2.Certificate(), work)

    def RecordAudit(
        self, request: rater_pb2.RecordAuditRequest, context: grpc.ServicerContext
    ) -> rater_pb2.Certificate:
        """Records answers of an audit; the answer leaves only after the commit."""
        taste, number = messages.taste_in(request.name), messages.number_in(request.name, "certificates")
        given = [(label.image_digest, int(label.grade), label.labeller or labels.OWNER) for label in request.labels]
        if any(not grade for _, grade, _ in given):
            raise InvalidArgument(
                "expected a grade N to UR with every answer, found one without; grade the image or leave it out",
                reason="GRADE_MISSING",
                field="labels",
            )

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Certificate:
            return _certificate(self._rater.certifying.answer(connection, taste, number, given, acting_for()))

        return self._answer_once("RecordAudit", request, rater_pb2.Certificate(), work)

    def RecordBlindAudit(
        self, request: rater_pb2.RecordBlindAuditRequest, context: grpc.ServicerContext
    ) -> rater_pb2.BlindAudit:
        """Records a finished blind audit of a unit, all its answers in one durable transaction."""
        taste, given = taste_id(request.taste), request.audit
        if not request.HasField("audit"):
            raise InvalidArgument(
                "expected the audit with its pairs, found none", reason="AUDIT_MISSING", field="audit"
            )
        if given.unit == given.against:
            raise InvalidArgument(
                f"expected two models to compare, found {given.unit!r} twice",
                reason="SAME_MODEL",
                field="audit.against",
            )
        pairs = audits.pairs_of([(p.unit_digest, p.against_digest, p.choice) for p in given.pairs])
        new = BlindAudit(taste, given.night, given.unit, given.against, pairs, given.labeller or labels.OWNER)
        self._check_stored(new)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.BlindAudit:
            tastes.read(connection, taste)
            return _blind(audits.record_unit(connection, new, self._rater.workspace.clock()))

        return self._answer_once("RecordBlindAudit", request, rater_pb2.BlindAudit(), work)

    def _check_stored(self, audit: BlindAudit) -> None:
        """Refuses pairs of images nobody can have seen: they must be stored, two different ones a pair."""
        for place, pair in enumerate(audit.pairs):
            if pair.unit == pair.against:
                raise InvalidArgument(
                    "expected two different images in a pair, found one twice; leave the pair out",
                    reason="SAME_IMAGE",
                    field=f"audit.pairs[{place}]",
                )
            for digest in (pair.unit, pair.against):
                if not self._may_see(audit.taste, digest):
                    gone = self._rater.workspace.store.missing(digest)
                    if gone.reason in GONE and acting_for() is None:
                        raise gone
                    raise NotFound(
                        f"expected stored images, found {digest}, which is not in the store; send PutArtifact first",
                        reason="IMAGE_NOT_FOUND",
                    )

    def _may_see(self, taste: str, digest: str) -> bool:
        if acting_for() is None:
            return self._rater.workspace.store.exists(digest)
        with self._rater.workspace.reading() as connection:
            return digest in image_records.known(connection, taste, [digest])


def _blind(audit: BlindAudit) -> rater_pb2.BlindAudit:
    return rater_pb2.BlindAudit(
        name=f"tastes/{audit.taste}/blindAudits/{audit.number}",
        night=audit.night,
        unit=audit.unit,
        against=audit.against,
        pairs=[
            rater_pb2.BlindPair(
                unit_digest=pair.unit,
                against_digest=pair.against,
                choice=rater_pb2.BlindChoice.ValueType(int(pair.choice)),
            )
            for pair in audit.pairs
        ],
        labeller=audit.labeller,
        create_time=messages.timestamp(audit.created),
        win_rate=messages.estimate(audit.win_rate()),
    )


def _terms(request: rater_pb2.CertifySetRequest) -> Terms:
    given = {name: getattr(request, name) for name in ("alpha", "delta") if request.HasField(name)}
    if request.HasField("allowed_rejections"):
        given["rejections"] = request.allowed_rejections
    return Terms(AuditLimits(**given), int(request.threshold) or SSR, tuple(request.stages))


def _certificate(audit: Audit) -> rater_pb2.Certificate:
    row, outcome = audit.row, audit.outcome
    last = outcome.begun - 1
    decisive = outcome.stages[outcome.certified - 1 if outcome.certified else last]
    return rater_pb2.Certificate(
        name=f"tastes/{row.taste}/certificates/{row.number}",
        shown=audit.shown,
        allowed_rejections=audit.samples[last].allowed,
        rejections=outcome.stages[last].rejections,
        certified=outcome.certified > 0,
        upper_bound=decisive.upper_bound,
        pending=audit.pending,
        ended=outcome.ended,
        set_size=len(audit.members),
        certified_size=audit.samples[outcome.certified - 1].size if outcome.certified else 0,
        alpha=row.terms.limits.alpha,
        delta=row.terms.limits.delta,
        threshold=rater_pb2.Grade.ValueType(row.terms.threshold),
        stages=_stages(audit.samples, outcome.stages),
        set_digest=row.set_digest,
        rater_version=messages.version_name(row.taste, row.version) if row.version else "",
        artifact_digest=row.artifact,
        create_time=messages.timestamp(row.created),
    )


def _stages(samples: Sequence[Sample], stages: Sequence[CertificateStage]) -> list[rater_pb2.CertificateStage]:
    return [
        rater_pb2.CertificateStage(
            size=sample.size,
            shown=len(sample.rows),
            allowed_rejections=sample.allowed,
            answered=stage.answered,
            rejections=stage.rejections,
            upper_bound=stage.upper_bound,
            certified=stage.certified,
        )
        for sample, stage in zip(samples, stages, strict=True)
    ]
