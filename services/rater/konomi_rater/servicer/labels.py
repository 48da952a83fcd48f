"""The rpcs that write a person's judgements: labels, undos and comparisons, each once and durably."""

import grpc
import sqlalchemy

from konomi.errors import InvalidArgument, PermissionDenied
from konomi.v1 import rater_pb2
from konomi_chassis.auth.authentication import acting_for
from konomi_chassis.rpc.pagination import page
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import ServicerPart
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import comparisons, image_records, labels, panel, tastes
from konomi_rater.storage.comparisons import ComparisonEntry
from konomi_rater.storage.labels import OWNER, LabelEntry, NewLabel


class LabelServicer(ServicerPart):
    """Records what people say about images."""

    def RecordLabels(
        self, request: rater_pb2.RecordLabelsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.RecordLabelsResponse:
        """Records grades; the answer leaves only after the commit."""
        taste = taste_id(request.taste)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.RecordLabelsResponse:
            tastes.read(connection, taste)
            new = [_new_label(label) for label in request.labels]
            now = self._rater.workspace.clock()
            graded = panel.graded_images(connection, taste)
            entries = labels.record(connection, taste, new, now, acting_for())
            panel.set_aside(connection, taste, entries, self._panel_rule(), now, graded)
            return rater_pb2.RecordLabelsResponse(labels=[_label(entry, taste) for entry in entries])

        return self._answer_once("RecordLabels", request, rater_pb2.RecordLabelsResponse(), work)

    def UndoLabel(self, request: rater_pb2.UndoLabelRequest, context: grpc.ServicerContext) -> rater_pb2.Label:
        """Undoes a label."""
        taste = taste_id(request.taste)
        sequence = _own_number(request.name, taste, "labels")

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Label:
            tastes.read(connection, taste)
            entry = labels.undo(connection, taste, sequence, self._rater.workspace.clock(), acting_for())
            return _label(entry, taste)

        return self._answer_once("UndoLabel", request, rater_pb2.Label(), work)

    def ListLabels(
        self, request: rater_pb2.ListLabelsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListLabelsResponse:
        """Lists labels; the page token is the last sequence."""
        taste = taste_id(request.taste)
        after = messages.number_in(request.page_token, "labels", "page_token") if request.page_token else 0
        with self._rater.workspace.reading() as connection:
            tastes.read(connection, taste)
            listed = page(
                request.page_size,
                lambda limit: labels.read(connection, taste, after, limit, request.in_force),
                lambda entry: str(entry.sequence),
            )
        return rater_pb2.ListLabelsResponse(
            labels=[_label(entry, taste) for entry in listed.rows], next_page_token=listed.next_token
        )

    def RecordComparison(
        self, request: rater_pb2.RecordComparisonRequest, context: grpc.ServicerContext
    ) -> rater_pb2.Comparison:
        """Records a comparison."""
        taste, given = taste_id(request.taste), request.comparison
        if given.winner_digest == given.loser_digest:
            raise InvalidArgument(
                "expected two different images to compare, found one twice",
                reason="SAME_IMAGE",
                field="comparison.loser_digest",
            )

        new = ComparisonEntry(given.winner_digest, given.loser_digest, given.tie, given.labeller or OWNER)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Comparison:
            tastes.read(connection, taste)
            for digest in (new.winner, new.loser):
                image_records.read(connection, taste, digest)
            entry = comparisons.record(connection, taste, new, self._rater.workspace.clock())
            return _comparison(entry, taste)

        return self._answer_once("RecordComparison", request, rater_pb2.Comparison(), work)

    def UndoComparison(
        self, request: rater_pb2.UndoComparisonRequest, context: grpc.ServicerContext
    ) -> rater_pb2.Comparison:
        """Undoes a comparison."""
        taste = taste_id(request.taste)
        sequence = _own_number(request.name, taste, "comparisons")

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Comparison:
            tastes.read(connection, taste)
            entry = comparisons.undo(connection, taste, sequence, self._rater.workspace.clock(), acting_for())
            return _comparison(entry, taste)

        return self._answer_once("UndoComparison", request, rater_pb2.Comparison(), work)

    def _panel_rule(self) -> panel.PanelRule:
        settings = self._rater.workspace.settings
        return panel.PanelRule(settings.panel_start, settings.panel_size, settings.panel_share)


def _own_number(name: str, taste: str, kind: str) -> int | None:
    """Returns the number of a taste's own entry, None where none is named.

    Raises:
        InvalidArgument: the entry is another taste's, or its name has no number.
    """
    if name and not name.startswith(f"tastes/{taste}/"):
        raise InvalidArgument(
            f"expected one of the {kind} of tastes/{taste}, found {name[:120]!r}", reason="NAME_INVALID", field="name"
        )
    return messages.number_in(name, kind) if name else None


def _new_label(message: rater_pb2.Label) -> NewLabel:
    """Reads a grade to record.

    Raises:
        PermissionDenied: somebody else than the owner says when it was given.
    """
    given = None
    if message.HasField("grade_time"):
        if acting_for() is not None:
            raise PermissionDenied(
                "Only the owner may say when a label was given; leave grade_time empty.", reason="GRADE_TIME_DENIED"
            )
        given = message.grade_time.ToMicroseconds() / 1e6
    return NewLabel(message.image_digest, int(message.grade), message.labeller or OWNER, int(message.reason), given)


def _label(entry: LabelEntry, taste: str) -> rater_pb2.Label:
    """Returns one entry of the log."""
    return rater_pb2.Label(
        name=f"tastes/{taste}/labels/{entry.sequence}",
        image_digest=entry.digest,
        grade=rater_pb2.Grade.ValueType(entry.grade),
        labeller=entry.labeller,
        create_time=messages.timestamp(entry.created),
        sequence=entry.sequence,
        undoes=f"tastes/{taste}/labels/{entry.undoes}" if entry.undoes is not None else "",
        undone=entry.undone,
        reason=rater_pb2.SuggestionReason.ValueType(entry.reason),
    )


def _comparison(entry: ComparisonEntry, taste: str) -> rater_pb2.Comparison:
    """Returns one entry of the log of comparisons."""
    return rater_pb2.Comparison(
        name=f"tastes/{taste}/comparisons/{entry.sequence}",
        winner_digest=entry.winner,
        loser_digest=entry.loser,
        tie=entry.tie,
        labeller=entry.labeller,
        create_time=messages.timestamp(entry.created),
        undoes=f"tastes/{taste}/comparisons/{entry.undoes}" if entry.undoes is not None else "",
    )
