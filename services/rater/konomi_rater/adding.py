"""Makes stored images known to a taste: each is decoded in a limited child, embedded once and remembered."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from konomi.errors import InvalidArgument, KonomiError
from konomi_chassis.storage.failpoints import failpoint
from konomi_rater import catalogue, consents, tastes
from konomi_rater.catalogue import ImageFacts
from konomi_rater.errands import Caller, Embedded
from konomi_rater.selection import CONSENTED, IMPORTED, SELF
from konomi_rater.workspace import Workspace

DIGEST = re.compile(r"[0-9a-f]{64}")
PROMPT_BYTES = 4096
TEXT_BYTES = 400
MOST_PARENTS = 16
MOST_PARAMETERS = 64


@dataclass(frozen=True)
class Added:
    """Result of one image."""

    digest: str
    already_known: bool = False
    error: KonomiError | None = None


class Adding:
    """The use case behind AddImages."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def add(self, taste_id: str, images: Sequence[ImageFacts], caller: Caller) -> list[Added]:
        """Adds a batch in one transaction; one bad image is that image's error.

        Raises:
            NotFound: no such taste.
            FailedPrecondition: its embedder is missing.
        """
        workspace = self._workspace
        refused: dict[int, KonomiError] = {}
        for place, facts in enumerate(images):
            try:
                check_facts(facts)
            except InvalidArgument as error:
                refused[place] = error
        with workspace.reading() as connection:
            taste = tastes.read(connection, taste_id)
            sizes = {
                f.digest: catalogue.known_size(connection, f.digest) for i, f in enumerate(images) if i not in refused
            }
            vectors = catalogue.read_embeddings(connection, taste.embedder, list(sizes))
        missing = list(dict.fromkeys(d for d in sizes if d not in vectors or sizes[d] is None))
        made = dict(zip(missing, workspace.vectors.keepable(taste.embedder, missing, caller), strict=True))
        fresh: dict[str, np.ndarray] = {}
        for place, facts in enumerate(images):
            result = made.get(facts.digest) if place not in refused else None
            if isinstance(result, Embedded):
                fresh[facts.digest], sizes[facts.digest] = result.vector, (result.width, result.height)
            elif result is not None:
                refused[place] = result
        stored = self._store(taste, images, refused, sizes, fresh)
        return stored if stored is not None else self.add(taste_id, images, caller)

    def _store(
        self,
        taste: tastes.TasteRow,
        images: Sequence[ImageFacts],
        refused: dict[int, KonomiError],
        sizes: dict[str, tuple[int, int] | None],
        fresh: dict[str, np.ndarray],
    ) -> list[Added] | None:
        results = []
        with self._workspace.writing() as connection:
            if tastes.read(connection, taste.id).embedder != taste.embedder:
                return None  # its embedder changed meanwhile: these vectors are of the one before
            revoked = consents.refusals(connection, taste.id, images)
            kept = {digest: vector for digest, vector in fresh.items() if digest not in revoked}
            catalogue.remember_embeddings(connection, taste.embedder, kept)
            failpoint("images.before_rows")
            for place, facts in enumerate(images):
                size = sizes.get(facts.digest)
                if place in refused or size is None or facts.digest in revoked:
                    results.append(Added(facts.digest, error=refused.get(place) or revoked[facts.digest]))
                else:
                    new = catalogue.add(connection, taste.id, facts, size, self._workspace.clock())
                    results.append(Added(facts.digest, already_known=not new))
        return results


def check_facts(facts: ImageFacts) -> None:
    """Raises InvalidArgument, with the field, for facts the catalogue does not take."""
    if not DIGEST.fullmatch(facts.digest):
        raise _wrong(
            "digest",
            "DIGEST_INVALID",
            f"a sha256 digest of 64 lower-case hexadecimal digits, found {facts.digest[:80]!r}",
        )
    if not SELF <= facts.source <= IMPORTED:
        raise _wrong("source", "SOURCE_REQUIRED", "a source (SELF, CONSENTED, SCRAPED or IMPORTED), found none")
    if facts.source == CONSENTED and not facts.consent:
        raise _wrong(
            "consent", "CONSENT_REQUIRED", "a reference to the consent record of a consented image, found none"
        )
    if len(facts.parents) > MOST_PARENTS or not all(DIGEST.fullmatch(parent) for parent in facts.parents):
        raise _wrong("parents", "DIGEST_INVALID", f"at most {MOST_PARENTS} sha256 digests of parents")
    for name, limit in (
        ("prompt", PROMPT_BYTES),
        ("unit", TEXT_BYTES),
        ("night", TEXT_BYTES),
        ("licence", TEXT_BYTES),
        ("consent", TEXT_BYTES),
    ):
        value = getattr(facts, name)
        if len(value.encode()) > limit:
            raise _wrong(name, "TEXT_TOO_LONG", f"at most {limit} bytes of UTF-8, found {len(value.encode())}")
        if any(unicodedata.category(letter) == "Cc" for letter in value):
            raise _wrong(name, "TEXT_CONTROL", "text without control characters, found one")
    if len(facts.parameters) > MOST_PARAMETERS or not all(
        len(k) <= 64 and np.isfinite(v) for k, v in facts.parameters.items()
    ):
        raise _wrong("parameters", "PARAMETERS_INVALID", f"at most {MOST_PARAMETERS} finite numbers under short names")


def _wrong(field: str, reason: str, expected: str) -> InvalidArgument:
    return InvalidArgument(
        f"expected {expected}; correct the image's {field} and send it again", reason=reason, field=f"image.{field}"
    )
