"""The images of a taste that have no vector under an embedder yet, and the work that makes them."""

from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import text

from konomi.errors import FailedPrecondition, KonomiError
from konomi_chassis.storage.failpoints import failpoint
from konomi_rater.embedding.names import space_of
from konomi_rater.embedding.requests import Caller, Embedded
from konomi_rater.preference.fitting import Step
from konomi_rater.storage import image_records, tastes
from konomi_rater.usecases.workspace import Workspace

BATCH = 64
"""Images embedded between two commits, by this process alone; more where many machines embed them."""
_MISSING = (
    "FROM images AS i WHERE i.taste = :taste AND NOT EXISTS "
    "(SELECT 1 FROM embeddings AS e WHERE e.digest = i.digest AND e.embedder = :space) "
    "AND NOT EXISTS (SELECT 1 FROM images_without_pixels AS w WHERE w.taste = i.taste AND w.digest = i.digest)"
)


@dataclass(frozen=True)
class EmbeddingWork:
    """All images of a taste under an embedder."""

    taste: str
    embedder: str


def missing(connection: sqlalchemy.Connection, work: EmbeddingWork, most: int) -> list[str]:
    """Returns up to `most` images with pixels and without a vector, oldest first."""
    bound = {"taste": work.taste, "space": space_of(work.embedder), "most": most}
    rows = connection.execute(text(f"SELECT i.digest {_MISSING} ORDER BY i.row LIMIT :most"), bound)
    return [row.digest for row in rows]


def count_missing(connection: sqlalchemy.Connection, work: EmbeddingWork) -> int:
    """Returns how many images have pixels and no vector."""
    bound = {"taste": work.taste, "space": space_of(work.embedder)}
    return int(connection.execute(text(f"SELECT COUNT(*) {_MISSING}"), bound).scalar_one())


def embed_missing(
    workspace: Workspace,
    work: EmbeddingWork,
    caller: Caller,
    standing: Callable[[sqlalchemy.Connection], bool],
    say: Callable[[Step], None],
) -> None:
    """Embeds what is missing, some dozens at a time, each kept as it comes: a kill costs one batch.

    Args:
        workspace: the workspace.
        work: what is embedded.
        caller: for whom; its end ends the work after the images under way.
        standing: whether the work is still wanted; asked before every batch, and again where its vectors are kept.
        say: hears how far it is.

    Raises:
        FailedPrecondition: images that cannot be read stand against it.
    """
    portion = workspace.vectors.portion(BATCH)
    while not caller.ended:
        with workspace.reading() as connection:
            if not standing(connection):
                return
            total = tastes.read(connection, work.taste).image_count
            todo, left = missing(connection, work, portion), count_missing(connection, work)
        say(Step("embedding", total - left, total))
        if not todo:
            return
        made = workspace.vectors.keepable(work.embedder, todo, caller)
        good = {digest: one.vector for digest, one in zip(todo, made, strict=True) if isinstance(one, Embedded)}
        with workspace.writing() as connection:
            if not standing(connection):
                return
            image_records.remember_embeddings(connection, work.embedder, good)
        failpoint("reembedding.batch")
        if not good:
            why = next(one for one in made if isinstance(one, KonomiError))
            raise _unreadable(work, left, todo[0], why)


def _unreadable(work: EmbeddingWork, left: int, first: str, why: KonomiError) -> FailedPrecondition:
    return FailedPrecondition(
        f"expected to embed every image of tastes/{work.taste} anew, but {left} cannot be read, the "
        f"first {first}: {why.message}; put its artifact back, then change the embedder again",
        reason="IMAGES_UNREADABLE",
    )
