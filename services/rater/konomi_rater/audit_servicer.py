"""The part of RaterService that certifies a golden set by a blind audit."""

from collections.abc import Sequence

import grpc
import sqlalchemy

from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2
from konomi_rater import labels, messages
from konomi_rater.audits import Terms
from konomi_rater.certificate import Limits, Sample, Stage
from konomi_rater.certifying import Audit
from konomi_rater.label_servicer import LabelServicer
from konomi_rater.messages import taste_id

SSR = 4


class AuditServicer(LabelServicer):
    """Serves audits and the certificates they end in."""

    def CertifySet(self, request: rater_pb2.CertifySetRequest, context: grpc.ServicerContext) -> rater_pb2.Certificate:
        """Draws the audit of a set, or returns the one it has."""
        taste, terms = taste_id(request.taste), _terms(request)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Certificate:
            return _certificate(
                self._rater.certifying.open(connection, taste, request.digests, terms, request.seed % 2**63)
            )

        return self._once("CertifySet", request, rater_pb2.Certificate(), work)

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
            return _certificate(self._rater.certifying.answer(connection, taste, number, given))

        return self._once("RecordAudit", request, rater_pb2.Certificate(), work)


def _terms(request: rater_pb2.CertifySetRequest) -> Terms:
    given = {name: getattr(request, name) for name in ("alpha", "delta") if request.HasField(name)}
    if request.HasField("allowed_rejections"):
        given["rejections"] = request.allowed_rejections
    return Terms(Limits(**given), int(request.threshold) or SSR, tuple(request.stages))


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


def _stages(samples: Sequence[Sample], stages: Sequence[Stage]) -> list[rater_pb2.CertificateStage]:
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
