"""Changes a taste's embedder beside the running rater.

A change embeds all images anew, fits on the standing labels and switches. It is a row of the database, and every
vector is kept as it comes, so a killed rater goes on where it was. Until the one transaction that switches, the taste
scores with its old embedder.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy
from sqlalchemy import text

from konomi.errors import Cancelled, FailedPrecondition, KonomiError, Unavailable
from konomi_chassis.storage.failpoints import failpoint
from konomi_rater.embedding import names
from konomi_rater.embedding.requests import Caller
from konomi_rater.preference.fitting import Step
from konomi_rater.storage import collected, tastes
from konomi_rater.storage.tastes import TasteRow
from konomi_rater.usecases.embedders.unembedded import EmbeddingWork, embed_missing, missing
from konomi_rater.usecases.fitting.versions import NewVersion, Versions
from konomi_rater.usecases.workspace import Workspace


@dataclass(frozen=True)
class Changed:
    """A change that is done; `version` is the number of the rater version fitted, 0 where there were too few labels."""

    taste: TasteRow
    version: int


@dataclass(frozen=True)
class _EmbedderChange:
    taste: str
    embedder: str
    seed: int


class Reembedding:
    """The use case behind ChangeEmbedder: one worker thread, one change at a time."""

    def __init__(self, workspace: Workspace, versions: Versions) -> None:
        self._workspace, self._versions = workspace, versions
        self._state = threading.Condition()
        self._steps: dict[str, Step] = {}
        self._failed: dict[str, Exception] = {}
        self._worker: threading.Thread | None = None
        self._caller = Caller("re-embedding", patient=True)

    def begin(self, taste_id: str, asked: str, seed: int) -> str:
        """Writes the change down and starts the work; the embedder a taste already has ends a change under way.

        Args:
            taste_id: the taste.
            asked: the embedder; where it names no precision and is not the taste's own, in that of this machine.
            seed: of the fit.

        Returns:
            The whole name of the embedder.

        Raises:
            NotFound: no such taste.
            InvalidArgument, FailedPrecondition: no such embedder, or its files are missing or unreadable.
        """
        with self._workspace.reading() as connection:
            had = tastes.read(connection, taste_id).embedder
        embedder = had if asked == had else self._workspace.embedders.settle(asked)
        if had != embedder:
            self._workspace.embedders.open(embedder)
        with self._workspace.writing() as connection:
            connection.execute(text("DELETE FROM embedder_changes WHERE taste = :taste"), {"taste": taste_id})
            if tastes.read(connection, taste_id).embedder != embedder:
                bound = {"taste": taste_id, "embedder": embedder, "seed": seed, "now": self._workspace.clock()}
                connection.execute(text("INSERT INTO embedder_changes VALUES (:taste, :embedder, :seed, :now)"), bound)
        with self._state:
            self._failed.pop(taste_id, None)
        self.resume()
        return embedder

    def resume(self) -> None:
        """Goes on with the changes that are written down, in a thread of its own."""
        with self._state:
            if self._caller.ended or (self._worker is not None and self._worker.is_alive()) or not self._changes():
                return
            self._worker = threading.Thread(target=self._work, name="re-embedding", daemon=True)
            self._worker.start()

    def watch(self, taste_id: str, embedder: str) -> Iterator[Step | Changed]:
        """Yields progress, then the outcome; nothing is undone when the caller stops listening.

        Raises:
            Cancelled: the taste was set on another embedder meanwhile.
            KonomiError: what stood against the change.
        """
        seen: Step | None = None
        while True:
            with self._workspace.reading() as connection:
                taste = tastes.read(connection, taste_id)
            if taste.embedder == embedder:
                yield Changed(taste, taste.active)
                return
            with self._state:
                if self._caller.ended:
                    raise Unavailable("the rater stops; the change goes on when it starts again", reason="DRAINING")
                if taste_id in self._failed:
                    raise self._failed[taste_id]
                step = self._steps.get(taste_id)
                if step == seen:
                    self._state.wait(0.5)
                    step = self._steps.get(taste_id)
            if taste.next_embedder != embedder and not self._done(taste_id, embedder):
                now = taste.next_embedder or taste.embedder
                raise Cancelled(f"tastes/{taste_id} was set on {now} meanwhile", reason="EMBEDDER_CHANGED")
            if step is not None and step != seen:
                seen = step
                yield step

    def _done(self, taste_id: str, embedder: str) -> bool:
        """Says whether a change that is no longer written down has come about, or failed."""
        with self._workspace.reading() as connection:
            changed = tastes.read(connection, taste_id).embedder == embedder
        with self._state:
            return changed or taste_id in self._failed

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
        while not self._caller.ended:
            with self._state:
                changes = [change for change in self._changes() if change.taste not in self._failed]
                if not changes:
                    self._worker = None
                    return
            try:
                self._carry_out(changes[0])
            except KonomiError as error:
                self._give_up(changes[0], error)
            except Exception as error:
                self._give_up(changes[0], error)
                raise

    def _carry_out(self, change: _EmbedderChange) -> None:
        while self._standing(change) and not self._caller.ended:
            self._embed(change)
            if not self._standing(change) or self._caller.ended:
                return
            version = self._fit(change)
            failpoint("reembedding.before_switch")
            if self._switch(change, version):
                return

    def _embed(self, change: _EmbedderChange) -> None:
        """Embeds what is missing; ends early where the change stands no longer."""
        embed_missing(
            self._workspace,
            EmbeddingWork(change.taste, change.embedder),
            self._caller,
            lambda connection: change in _read(connection),
            lambda step: self._say(change, step),
        )

    def _fit(self, change: _EmbedderChange) -> NewVersion | None:
        try:
            for step in self._versions.fit(change.taste, change.seed, change.embedder, self._caller.check):
                if isinstance(step, NewVersion):
                    return step
                self._say(change, step)
        except FailedPrecondition as error:
            if error.reason != "TOO_FEW_LABELS":
                raise
        return None

    def _switch(self, change: _EmbedderChange, version: NewVersion | None) -> bool:
        """Changes embedder and rater version at once; returns False where images came meanwhile."""
        with self._workspace.writing() as connection:
            before, work = tastes.read(connection, change.taste), EmbeddingWork(change.taste, change.embedder)
            if before.next_embedder != change.embedder or missing(connection, work, 1):
                return False
            tastes.set_embedder(connection, change.taste, change.embedder)
            if before.second_embedder == change.embedder:
                tastes.end_second(connection, change.taste)
            collected.mark_unembedded(connection, change.taste, names.space_of(change.embedder))
            if version is not None:
                self._versions.keep(connection, version, activate=True)
            connection.execute(text("DELETE FROM embedder_changes WHERE taste = :taste"), {"taste": change.taste})
        self._workspace.release(before)
        with self._state:
            self._steps.pop(change.taste, None)
            self._state.notify_all()
        return True

    def _standing(self, change: _EmbedderChange) -> bool:
        with self._workspace.reading() as connection:
            return change in _read(connection)

    def _changes(self) -> list[_EmbedderChange]:
        with self._workspace.reading() as connection:
            return _read(connection)

    def _say(self, change: _EmbedderChange, step: Step) -> None:
        with self._state:
            self._steps[change.taste] = step
            self._state.notify_all()

    def _give_up(self, change: _EmbedderChange, error: Exception) -> None:
        if self._caller.ended:
            return  # the rater stops: the change stays
        with self._state:  # whoever hears of the failure finds the change gone
            with self._workspace.writing() as connection:
                connection.execute(text("DELETE FROM embedder_changes WHERE taste = :taste"), {"taste": change.taste})
            self._failed[change.taste] = error
            self._steps.pop(change.taste, None)
            self._state.notify_all()


def _read(connection: sqlalchemy.Connection) -> list[_EmbedderChange]:
    rows = connection.execute(text("SELECT taste, embedder, seed FROM embedder_changes ORDER BY created, taste"))
    return [_EmbedderChange(row.taste, row.embedder, row.seed) for row in rows]
