"""Certifies a golden set by a blind audit: members drawn at random, a person's answers, and the promise they carry."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import sqlalchemy

from konomi.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied
from konomi_rater.selection import certificate
from konomi_rater.selection.certificate import AuditOutcome, Sample
from konomi_rater.storage import audits, collected, image_records, tastes
from konomi_rater.storage.audits import Answer, AuditRow, Terms
from konomi_rater.usecases.workspace import Workspace

SET_SCHEMA, CERTIFICATE_SCHEMA = "konomi.set/1", "konomi.certificate/1"
CERTIFICATE_TYPE = "application/vnd.konomi.certificate+json"


@dataclass(frozen=True)
class Audit:
    """An audit as it stands.

    Attributes:
        row: its record.
        members: digests of the set, in the order its nested sets refer to.
        samples: what is drawn of each nested set.
        outcome: what the answers say.
        answers: digest to the answer that counts.
    """

    row: AuditRow
    members: tuple[str, ...]
    samples: tuple[Sample, ...]
    outcome: AuditOutcome
    answers: Mapping[str, Answer]

    @property
    def shown(self) -> list[str]:
        """Images of the nested sets begun so far, in the order to show them."""
        rows = dict.fromkeys(row for sample in self.samples[: self.outcome.begun] for row in sample.rows)
        return [self.members[row] for row in rows]

    @property
    def pending(self) -> list[str]:
        """Shown images without an answer."""
        return [digest for digest in self.shown if digest not in self.answers]


class Certifying:
    """The use cases behind CertifySet and RecordAudit; both work inside the caller's transaction."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def open(
        self, connection: sqlalchemy.Connection, taste_id: str, digests: Sequence[str], terms: Terms, seed: int
    ) -> Audit:
        """Draws the audit of a set, or returns the one this set has under these terms.

        Args:
            connection: the caller's write transaction.
            taste_id: the taste.
            digests: the members; with several stages, best first.
            terms: what shall be promised; no stages means the whole set at once.
            seed: of the draw.

        Raises:
            InvalidArgument: limits at 0 or 1, a member named twice, or stages that are not nested sets.
            NotFound: a member the taste does not know.
        """
        taste = tastes.read(connection, taste_id)
        terms = Terms(terms.limits, terms.threshold, _checked(digests, terms))
        _check_known(connection, taste_id, digests)
        members = _ordered(digests, terms.stages)
        listing = _canonical({"schema": SET_SCHEMA, "taste": taste.uid, "digests": members})
        set_digest = self._workspace.store.put(listing, "application/json").digest
        row = audits.find(connection, taste_id, set_digest, terms)
        if row is None:
            now = self._workspace.clock()
            new = AuditRow(taste_id, 0, set_digest, terms, seed, taste.active, now, artifact="")
            row = audits.add(connection, new)
        return self._read(connection, row)

    def answer(
        self,
        connection: sqlalchemy.Connection,
        taste_id: str,
        number: int,
        given: Sequence[tuple[str, int, str]],
        by: str | None = None,
    ) -> Audit:
        """Records answers durably and returns what they certify; the last one makes the certificate an artifact.

        Args:
            connection: the caller's write transaction.
            taste_id: the taste.
            number: of the certificate.
            given: (digest, grade 1..5, labeller) of shown images; none only reads.
            by: whose answers may be replaced; None for anybody's.

        Raises:
            PermissionDenied: an answer of somebody else would be replaced; nothing is written.
            NotFound: no such certificate.
            InvalidArgument: an image that is not shown.
            FailedPrecondition: the audit has ended with another answer.
        """
        before = self._read(connection, audits.read(connection, taste_id, number))
        _check_answers(before, given, by, f"certificate {number} of tastes/{taste_id}")
        if before.outcome.ended or not given:
            return before
        now = self._workspace.clock()
        audits.record(connection, before.row, [Answer(digest, grade, who, now) for digest, grade, who in given])
        after = self._read(connection, before.row)
        return self._ended(connection, after, now) if after.outcome.ended else after

    def vouched(self, connection: sqlalchemy.Connection, taste_id: str, number: int) -> list[str]:
        """Returns the members a certificate vouches for, without those that were rejected when it was made.

        Raises:
            NotFound: no such certificate.
            FailedPrecondition: it certifies nothing.
        """
        audit = self._read(connection, audits.read(connection, taste_id, number))
        if not audit.outcome.certified:
            raise FailedPrecondition(
                f"expected a certificate that holds, found number {number} of tastes/{taste_id} that certifies nothing "
                "so far; finish its audit, or certify another set (konomi rater certify)",
                reason="NOT_CERTIFIED",
            )
        size = audit.samples[audit.outcome.certified - 1].size
        rejected = {d for d, answer in audit.answers.items() if answer.grade < audit.row.terms.threshold}
        return [digest for digest in audit.members[:size] if digest not in rejected]

    def _ended(self, connection: sqlalchemy.Connection, audit: Audit, now: float) -> Audit:
        artifact = self._workspace.store.put(self._document(connection, audit, now), CERTIFICATE_TYPE)
        return self._read(connection, audits.end(connection, audit.row, artifact.digest, now))

    def _document(self, connection: sqlalchemy.Connection, audit: Audit, now: float) -> bytes:
        row = audit.row
        version = tastes.read_version(connection, row.taste, row.version) if row.version else None
        return _canonical(
            {
                "schema": CERTIFICATE_SCHEMA,
                "name": f"tastes/{row.taste}/certificates/{row.number}",
                "taste": tastes.read(connection, row.taste).uid,
                "set_digest": row.set_digest,
                "terms": json.loads(row.terms.to_json()),
                "rater_version": row.version,
                "rater_artifact": version.artifact if version else "",
                "label_digest": version.label_digest if version else "",
                "drawn_at": row.created,
                "ended_at": now,
                "samples": [[audit.members[at] for at in sample.rows] for sample in audit.samples],
                "allowed_rejections": [sample.allowed for sample in audit.samples],
                "answers": {digest: answer.grade for digest, answer in audit.answers.items()},
                "stages": [asdict(stage) for stage in audit.outcome.stages],
            }
        )

    def _read(self, connection: sqlalchemy.Connection, row: AuditRow) -> Audit:
        members = tuple(json.loads(self._workspace.store.get(row.set_digest))["digests"])
        rng = np.random.default_rng((row.seed % 2**63, int(row.set_digest[:16], 16)))
        samples = tuple(certificate.draw(row.terms.stages, row.terms.limits, rng))
        answers = audits.answers_of(connection, row.taste, row.number)
        at = {digest: place for place, digest in enumerate(members)}
        rejected = {at[digest]: answer.grade < row.terms.threshold for digest, answer in answers.items()}
        outcome = certificate.judge(samples, rejected, row.terms.limits.delta)
        return Audit(row, members, samples, outcome, answers)


def _checked(digests: Sequence[str], terms: Terms) -> tuple[int, ...]:
    for name in ("alpha", "delta"):
        value = getattr(terms.limits, name)
        if not 0 < value < 1:
            raise InvalidArgument(
                f"expected {name} above 0 and below 1, found {value:g}; usual are alpha 0.2 and delta 0.05",
                reason="LIMIT_INVALID",
                field=name,
            )
    if len(set(digests)) < len(digests):
        raise InvalidArgument(
            f"expected every member once, found {len(digests) - len(set(digests))} named twice; send each digest once",
            reason="MEMBER_TWICE",
            field="digests",
        )
    stages = terms.stages or (len(digests),)
    rising = all(low < high for low, high in zip((0, *stages), stages, strict=False))
    if not rising or stages[-1] != len(digests):
        raise InvalidArgument(
            f"expected increasing sizes up to all {len(digests)} digests, found {list(stages)}; "
            f"for example [{max(1, len(digests) // 2)}, {len(digests)}]",
            reason="STAGES_INVALID",
            field="stages",
        )
    return stages


def _check_known(connection: sqlalchemy.Connection, taste_id: str, digests: Sequence[str]) -> None:
    known = image_records.known(connection, taste_id, digests)
    for digest in digests:
        if digest not in known:
            raise NotFound(
                f"expected members tastes/{taste_id} knows, found {digest[:80]!r}; add the image with AddImages first",
                reason="IMAGE_NOT_FOUND",
            )
    gone = collected.without_pixels(connection, taste_id, digests)
    missing = [digest for digest in digests if digest in gone]
    if missing:
        raise FailedPrecondition(
            f"expected members with pixels, but those of {len(missing)} were collected by the storage policy, the "
            f"first {missing[0]}; nobody can look at them: leave them out, or put them again",
            reason="PIXELS_COLLECTED",
        )


def _ordered(digests: Sequence[str], stages: tuple[int, ...]) -> list[str]:
    """Sorts the members within what each stage adds: the same nested sets, the same list."""
    starts = (0, *stages[:-1])
    return [digest for start, end in zip(starts, stages, strict=True) for digest in sorted(digests[start:end])]


def _canonical(facts: object) -> bytes:
    return json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()


def _check_answers(before: Audit, given: Sequence[tuple[str, int, str]], by: str | None, what: str) -> None:
    shown = set(before.shown)
    for digest, grade, _ in given:
        if digest not in shown:
            raise InvalidArgument(
                f"expected grades of images this audit shows, found {digest[:80]!r}; grade those in `pending`",
                reason="NOT_SHOWN",
                field="labels",
            )
        earlier = before.answers.get(digest)
        if by is not None and earlier is not None and earlier.labeller != by:
            raise PermissionDenied(
                f"image {digest} was answered by {earlier.labeller}; {by} may change only what {by} answered, "
                "the owner anything",
                reason="ANSWER_OF_ANOTHER",
            )
        if before.outcome.ended and before.answers[digest].grade != grade:
            raise FailedPrecondition(
                f"{what} has ended, its answers cannot change any more; begin another one (konomi rater certify)",
                reason="AUDIT_ENDED",
            )
