"""A second embedder beside a taste's own: images are embedded with both, and held-out grades say which serves better.

Nothing changes over by itself. What is kept is a row of the database, and every vector as it comes, so a killed rater
goes on where it was. Images that came since are looked at after the next fit, or when the rater starts.
"""

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy
from sqlalchemy import text

from konomi.errors import Cancelled, FailedPrecondition, KonomiError, Unavailable
from konomi_chassis.storage.failpoints import failpoint
from konomi_rater.embedding.names import space_of
from konomi_rater.embedding.requests import Caller
from konomi_rater.preference import promotion
from konomi_rater.preference.fitting import Step, held_out_order
from konomi_rater.preference.promotion import EmbedderComparison
from konomi_rater.preference.training import Training
from konomi_rater.storage import tastes
from konomi_rater.storage.tastes import SecondEmbedder, TasteRow
from konomi_rater.usecases.embedders.unembedded import EmbeddingWork, embed_missing
from konomi_rater.usecases.fitting.versions import Versions
from konomi_rater.usecases.workspace import Workspace

MOST_LABELS = 500
"""Grades at most that are held out in turn, spread evenly: more narrow the doubt by less than they cost."""
DROPPED = 2000
"""Vectors dropped in one transaction: labels wait for so many at most."""


@dataclass(frozen=True)
class Compared:
    """A second embedder that was compared; `version` is the number of the version it stands beside, 0 for none."""

    taste: TasteRow
    version: int


class SecondEmbedders:
    """The use case behind ChangeEmbedder with `second`: one worker thread, one taste at a time."""

    def __init__(self, workspace: Workspace, versions: Versions) -> None:
        self._workspace, self._versions = workspace, versions
        self._state = threading.Condition()
        self._wanted: list[SecondEmbedder] = []
        self._doing: SecondEmbedder | None = None
        self._step: Step | None = None
        self._failed: dict[str, Exception] = {}
        self._worker: threading.Thread | None = None
        self._caller = Caller("second embedder", patient=True)

    def begin(self, taste_id: str, asked: str, seed: int) -> str:
        """Keeps a second embedder and starts the work; the taste's own ends that, and its vectors go.

        Args:
            taste_id: the taste.
            asked: the embedder; where it names no precision and is not one of the taste's, in that of this machine.
            seed: of folds and bootstrap.

        Returns:
            The whole name of the embedder; empty where none is kept now.

        Raises:
            NotFound: no such taste.
            InvalidArgument, FailedPrecondition: no such embedder, or its files are missing or unreadable.
        """
        workspace = self._workspace
        with workspace.reading() as connection:
            before = tastes.read(connection, taste_id)
        had = (before.embedder, before.second_embedder)
        embedder = asked if asked in had else workspace.embedders.settle(asked)
        if embedder not in had:
            workspace.embedders.open(embedder)
        with workspace.writing() as connection:
            before = tastes.read(connection, taste_id)
            if embedder == before.embedder:
                tastes.end_second(connection, taste_id)
                embedder = ""
            else:
                tastes.set_second(connection, SecondEmbedder(taste_id, embedder, seed), workspace.clock())
        if before.second_embedder not in ("", embedder):
            self._drop(taste_id, before.second_embedder)
        with self._state:
            self._failed.pop(taste_id, None)
        self.resume()
        return embedder

    def resume(self) -> None:
        """Looks at every second embedder once more, in a thread of its own; without any it ends at once."""
        with self._workspace.reading() as connection:
            kept = tastes.read_seconds(connection)
        if not kept:
            return
        with self._state:
            if self._caller.ended:
                return
            self._wanted = kept
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="second-embedder", daemon=True)
                self._worker.start()

    def watch(self, taste_id: str, embedder: str) -> Iterator[Step | Compared]:
        """Yields progress, then the outcome; nothing is undone when the caller stops listening.

        Raises:
            Cancelled: another second embedder was asked for meanwhile, or none.
            KonomiError: what stood against it.
        """
        seen: Step | None = None
        while True:
            with self._workspace.reading() as connection:
                taste = tastes.read(connection, taste_id)
            if taste.second_embedder != embedder:
                now = taste.second_embedder or "none"
                raise Cancelled(
                    f"the second embedder of tastes/{taste_id} was set on {now} meanwhile", reason="EMBEDDER_CHANGED"
                )
            with self._state:
                if self._caller.ended:
                    raise Unavailable("the rater stops; the work goes on when it starts again", reason="DRAINING")
                if taste_id in self._failed:
                    raise self._failed[taste_id]
                mine = self._doing is not None and self._doing.taste == taste_id
                busy = mine or any(second.taste == taste_id for second in self._wanted)
                step = self._step if mine else None
                if busy and step == seen:
                    self._state.wait(0.5)
            if not busy:
                break
            if step is not None and step != seen:
                seen = step
                yield step
        yield Compared(taste, taste.active)

    def close(self) -> None:
        """Ends the work after the images under way; it goes on when the rater starts again."""
        with self._state:
            self._caller.end()
            worker = self._worker
            self._state.notify_all()
        if worker is not None:
            worker.join(10.0)

    def _work(self) -> None:
        self._workspace.embedders.import_libraries()  # a fit that has nothing to embed would import beside them
        while True:
            with self._state:
                if not self._wanted or self._caller.ended:
                    self._worker = None
                    return
                self._doing, *self._wanted = self._wanted
                second = self._doing
            failure: Exception | None = None
            try:
                self._carry_out(second)
            except Exception as error:
                failure = error
                if not isinstance(error, KonomiError):
                    logging.getLogger(__name__).exception("second embedder of tastes/%s", second.taste)
            with self._state:
                self._step, self._doing = None, None
                self._failed.pop(second.taste, None)
                if failure is not None and not self._caller.ended:
                    self._failed[second.taste] = failure
                self._state.notify_all()

    def _carry_out(self, second: SecondEmbedder) -> None:
        work = EmbeddingWork(second.taste, second.embedder)
        unread: KonomiError | None = None
        try:
            embed_missing(
                self._workspace,
                work,
                self._caller,
                lambda connection: second in tastes.read_seconds(connection),
                self._say,
            )
        except FailedPrecondition as error:
            unread = error  # what can be read is compared all the same
        if not self._caller.ended:
            self._compare(second)
        if unread is not None:
            raise unread

    def _compare(self, second: SecondEmbedder) -> None:
        """Compares both embedders on the grades of now, unless that was done, and keeps it with the active version."""
        with self._workspace.reading() as connection:
            taste = tastes.read(connection, second.taste)
            if second not in tastes.read_seconds(connection) or not taste.active:
                return
            known = tastes.read_embedder_comparison(connection, taste.id, taste.active)
            digest, own, other = self._versions.trainings_of_both(connection, taste.id, second.embedder)
        if known is not None and (known.second, known.labels) == (second.embedder, digest):
            return
        self._say(Step("quality", 0, 1))
        both = EmbedderComparison(taste.embedder, second.embedder, digest, len(own.grades))
        found = compare_embedders(both, own, other, second.seed, self._caller)
        failpoint("second_embedder.before_comparison")
        with self._workspace.writing() as connection:
            now = tastes.read(connection, taste.id)
            if (now.embedder, now.uid) == (taste.embedder, taste.uid) and second in tastes.read_seconds(connection):
                tastes.put_embedder_comparison(connection, taste.id, taste.active, found)

    def _drop(self, taste_id: str, embedder: str) -> None:
        """Removes the vectors of an embedder a taste kept as its second, where nothing else of the home reads them."""
        space = space_of(embedder)
        while True:
            with self._workspace.writing() as connection:
                if space in map(space_of, tastes.embedders_in_use(connection)) or not _drop_some(
                    connection, taste_id, space
                ):
                    return

    def _say(self, step: Step) -> None:
        with self._state:
            self._step = step
            self._state.notify_all()


def compare_embedders(
    both: EmbedderComparison, own: Training, other: Training, seed: int, caller: Caller
) -> EmbedderComparison:
    """Returns a comparison with its figures; without where there are too few grades to tell, or all are alike.

    Args:
        both: the names, and the grades it rests on.
        own: the grades as the taste's embedder sees them.
        other: the same grades in the same order as the second one sees them.
        seed: of folds and bootstrap, the same for both.
        caller: for whom; its end ends the work.
    """
    count = len(own.grades)
    some = np.linspace(0, count - 1, min(count, MOST_LABELS)).astype(int)
    own, other = own.take(some), other.take(some)
    both = replace(both, n=len(some))
    if len(some) < promotion.LEAST_PANEL or len(set(own.grades.tolist())) < 2:
        return both
    first, second = (held_out_order(training, seed, caller.check) for training in (own, other))
    _, figures = promotion.compare(own.grades, first, second, np.random.default_rng(seed), own.groups)
    if not figures:
        return both
    return replace(both, srcc=figures["earlier_srcc"], second_srcc=figures["srcc"], gain=figures["gain"])


def _drop_some(connection: sqlalchemy.Connection, taste: str, space: str) -> int:
    """Removes some vectors of a taste's images in a space, and returns how many."""
    done = connection.execute(
        text(
            "DELETE FROM embeddings WHERE embedder = :space AND digest IN (SELECT i.digest FROM images AS i "
            "JOIN embeddings AS e ON e.digest = i.digest AND e.embedder = :space WHERE i.taste = :taste LIMIT :most)"
        ),
        {"space": space, "taste": taste, "most": DROPPED},
    )
    return done.rowcount
