"""The record of where images came from and on whose word: consents given, consents and images revoked, all durable.

A revoked image leaves its taste: the row goes, and with it vector, score and place in every index; its labels stay in
the append-only log and count no more (`labels_in_force`). What is fitted or chosen afterwards is what it would
have been had the image never been there.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from konomi.errors import FailedPrecondition, InvalidArgument, KonomiError, NotFound
from konomi_chassis.storage.dialects import listed
from konomi_rater.selection.selection import CONSENTED
from konomi_rater.storage import collected
from konomi_rater.storage.image_records import ImageFacts


@dataclass(frozen=True)
class ConsentRow:
    """One consent; `created` and `revoked` are Unix times, 0.0 where it was not.

    Attributes:
        reference: as images name it.
        giver: who gave it.
        licence: licence it gives.
        created: when it was recorded.
        revoked: when it was revoked.
        images: images of the taste that name it now.
        gone: images that left when it was revoked.
    """

    reference: str
    giver: str
    licence: str
    created: float
    revoked: float
    images: int
    gone: int


@dataclass(frozen=True)
class RevocationRow:
    """One image that left; `sequence` counts them within the taste, from 1."""

    sequence: int
    digest: str
    source: int
    licence: str
    consent: str
    why: str
    created: float


_REFERENCES = """
SELECT reference FROM consents WHERE taste = :taste
UNION SELECT consent FROM images WHERE taste = :taste AND source = :consented AND consent > ''
UNION SELECT reference FROM revoked_consents WHERE taste = :taste
"""

_CONSENT = f"""
SELECT r.reference, COALESCE(c.giver, '') AS giver, COALESCE(c.licence, '') AS licence,
COALESCE(c.created, 0.0) AS created, COALESCE(v.created, 0.0) AS revoked,
(SELECT COUNT(*) FROM images AS i WHERE i.taste = :taste AND i.consent = r.reference AND i.consent > '') AS images,
(SELECT COUNT(*) FROM revoked_images AS g WHERE g.taste = :taste AND g.consent = r.reference) AS gone
FROM ({_REFERENCES}) AS r
LEFT JOIN consents AS c ON c.taste = :taste AND c.reference = r.reference AND c.sequence = (
    SELECT MAX(sequence) FROM consents AS l WHERE l.taste = :taste AND l.reference = r.reference
)
LEFT JOIN revoked_consents AS v ON v.taste = :taste AND v.reference = r.reference
"""


def record(connection: Connection, taste: str, consent: ConsentRow, now: float) -> ConsentRow:
    """Records a consent; what was said of the same reference before is superseded, never deleted.

    Raises:
        InvalidArgument: it has no reference or no giver.
        FailedPrecondition: it was revoked.
    """
    for name in ("reference", "giver"):
        if not getattr(consent, name).strip():
            raise InvalidArgument(
                f"expected the {name} of the consent, found none; a consent says what it is called and who gave it",
                reason="CONSENT_INCOMPLETE",
                field=f"consent.{name}",
            )
    bound = {
        "taste": taste,
        "reference": consent.reference,
        "giver": consent.giver,
        "licence": consent.licence,
        "now": now,
    }
    if _revoked(connection, taste, [consent.reference]):
        raise FailedPrecondition(_gone(consent.reference), reason="CONSENT_REVOKED")
    connection.execute(
        text(
            "INSERT INTO consents SELECT :taste, COALESCE(MAX(sequence), 0) + 1, :reference, :giver, :licence, :now "
            "FROM consents WHERE taste = :taste"
        ),
        bound,
    )
    return read(connection, taste, consent.reference)


def read(connection: Connection, taste: str, reference: str) -> ConsentRow:
    """Returns one consent.

    Raises:
        NotFound: nobody recorded it and no image names it.
    """
    result = connection.execute(
        text(_CONSENT + "WHERE r.reference = :reference"),
        {"taste": taste, "consented": CONSENTED, "reference": reference},
    )
    row = result.mappings().first()
    if row is None:
        raise NotFound(
            f"expected a consent of tastes/{taste}, found none called {reference[:120]!r}; "
            "konomi sources list shows them",
            reason="CONSENT_NOT_FOUND",
        )
    return ConsentRow(**row)


def read_all(connection: Connection, taste: str, after: str, limit: int) -> list[ConsentRow]:
    """Returns up to `limit` consents past the reference `after`, by reference."""
    rows = connection.execute(
        text(_CONSENT + "WHERE r.reference > :after ORDER BY r.reference LIMIT :limit"),
        {"taste": taste, "consented": CONSENTED, "after": after, "limit": limit},
    )
    return [ConsentRow(**row) for row in rows.mappings()]


def revoke_consent(connection: Connection, taste: str, reference: str, why: str, now: float) -> list[RevocationRow]:
    """Revokes a consent, and with it every image that names it; revoking it again takes what came in between.

    Raises:
        NotFound: nobody recorded it and no image names it.
    """
    read(connection, taste, reference)
    bound = {"taste": taste, "reference": reference, "why": why, "now": now}
    connection.execute(
        text("INSERT INTO revoked_consents VALUES (:taste, :reference, :why, :now) ON CONFLICT DO NOTHING"), bound
    )
    rows = connection.execute(
        text("SELECT digest FROM images WHERE taste = :taste AND consent = :reference AND consent > '' ORDER BY +row"),
        bound,
    )
    return revoke_images(connection, taste, [row.digest for row in rows], why, now)


def revoke_images(
    connection: Connection, taste: str, digests: Sequence[str], why: str, now: float
) -> list[RevocationRow]:
    """Takes images out of the taste for good; one that left before is returned as it left.

    Raises:
        NotFound: the taste never knew one of them; then none leaves.
    """
    bound = {"taste": taste, "digests": json.dumps(list(digests)), "why": why, "now": now}
    among = f"digest IN {listed(connection, 'digests')}"
    connection.execute(
        text(
            "INSERT INTO revoked_images SELECT i.taste, i.digest, "
            "(SELECT COALESCE(MAX(sequence), 0) FROM revoked_images WHERE taste = :taste) "
            "+ ROW_NUMBER() OVER (ORDER BY i.row), i.source, i.licence, i.consent, :why, :now "
            f"FROM images AS i WHERE i.taste = :taste AND i.{among}"
        ),
        bound,
    )
    connection.execute(text(f"DELETE FROM images WHERE taste = :taste AND {among}"), bound)
    revocations = _revocations(connection, f"{among} ORDER BY sequence", bound)
    collected.leave(connection, [row.digest for row in revocations], now)
    unknown = set(digests) - {row.digest for row in revocations}
    if unknown:
        raise NotFound(
            f"expected images tastes/{taste} knows, found none with digest {min(unknown)[:80]!r}; nothing was revoked",
            reason="IMAGE_NOT_FOUND",
        )
    return revocations


def revocations(connection: Connection, taste: str, after: int, limit: int) -> list[RevocationRow]:
    """Returns up to `limit` revocations past sequence `after`, oldest first."""
    bound = {"taste": taste, "after": after, "limit": limit}
    return _revocations(connection, "sequence > :after ORDER BY sequence LIMIT :limit", bound)


def refusals(connection: Connection, taste: str, images: Sequence[ImageFacts]) -> dict[str, KonomiError]:
    """Returns why images cannot be added, by digest: they were revoked, or the consent they name was."""
    digests = json.dumps([facts.digest for facts in images])
    gone = {
        row.digest
        for row in _revocations(
            connection,
            f"digest IN {listed(connection, 'digests')}",
            {"taste": taste, "digests": digests},
        )
    }
    revoked = _revoked(connection, taste, [facts.consent for facts in images if facts.consent])
    errors: dict[str, KonomiError] = {}
    for facts in images:
        if facts.digest in gone:
            message = f"expected an image that was not revoked, found {facts.digest[:16]}…; it left this taste for good"
            errors[facts.digest] = FailedPrecondition(message, reason="IMAGE_REVOKED")
        elif facts.consent in revoked:
            errors[facts.digest] = FailedPrecondition(_gone(facts.consent), reason="CONSENT_REVOKED")
    return errors


def _revoked(connection: Connection, taste: str, references: Sequence[str]) -> set[str]:
    rows = connection.execute(
        text(
            "SELECT reference FROM revoked_consents WHERE taste = :taste "
            f"AND reference IN {listed(connection, 'references')}"
        ),
        {"taste": taste, "references": json.dumps(list(references))},
    )
    return {row.reference for row in rows}


def _revocations(connection: Connection, where: str, bound: dict[str, object]) -> list[RevocationRow]:
    rows = connection.execute(text(f"SELECT * FROM revoked_images WHERE taste = :taste AND {where}"), bound)
    return [
        RevocationRow(**{key: value for key, value in row.items() if key != "taste"})  # type: ignore[arg-type]
        for row in rows.mappings()
    ]


def _gone(reference: str) -> str:
    return (
        f"expected a consent that stands, found {reference[:120]!r}, which was revoked; a new one needs a new reference"
    )


@dataclass(frozen=True)
class RevokedTeaching:
    """What was revoked of a population's images since it was learnt; 0 where its images are not known.

    A population keeps what an image taught it: it is a mean of many, and nobody can take one of them out again. So that
    its owner hears of it, the home notes the images by the digest of the population's file, which may be passed on.
    """

    images: int = 0
    ratings: int = 0


NOTHING = RevokedTeaching()


def remember_taught(
    connection: Connection, population: str, images: Sequence[str], ratings: Sequence[int], learnt: float
) -> None:
    """Notes the images of a population; what is noted already stays.

    Args:
        connection: a transaction.
        population: digest of its file.
        images: digests.
        ratings: how many ratings each of them has.
        learnt: when, Unix time.
    """
    rows = [
        {"population": population, "image": image, "ratings": int(count), "learnt": learnt}
        for image, count in zip(images, ratings, strict=True)
    ]
    if rows:
        line = "INSERT INTO population_images VALUES (:population, :image, :ratings, :learnt) ON CONFLICT DO NOTHING"
        connection.execute(text(line), rows)


def forget_taught(connection: Connection, population: str) -> None:
    """Forgets the images of a population that was removed."""
    connection.execute(text("DELETE FROM population_images WHERE population = :digest"), {"digest": population})


def revoked_teaching(connection: Connection, population: str) -> RevokedTeaching:
    """Returns what any taste of this home revoked of a population's images after it was learnt."""
    row = connection.execute(
        text(
            "SELECT COUNT(*) AS images, COALESCE(SUM(ratings), 0) AS ratings FROM population_images AS p "
            "WHERE population = :digest AND EXISTS (SELECT 1 FROM tastes AS t CROSS JOIN revoked_images AS r "
            "WHERE r.taste = t.id AND r.digest = p.image AND r.created > p.learnt)"
        ),
        {"digest": population},
    ).one()
    return RevokedTeaching(int(row.images), int(row.ratings))
