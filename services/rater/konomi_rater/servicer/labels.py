"""The part of RaterService that writes a person's judgements: labels, undos and comparisons, each once and durably."""

from collections.abc import Callable

import grpc
import sqlalchemy
from google.protobuf.message import Message

from konomi.errors import InvalidArgument
from konomi.v1 import rater_pb2, rater_pb2_grpc
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.idempotency import Idempotency
from konomi_rater.servicer import messages
from konomi_rater.servicer.base import Reply
from konomi_rater.servicer.messages import taste_id
from konomi_rater.storage import comparisons, image_records, labels, panel, tastes
from konomi_rater.storage.comparisons import Comparison
from konomi_rater.usecases.rater import Rater


class LabelServicer(rater_pb2_grpc.RaterServiceServicer):
    """Records what people say about images."""

    def __init__(self, rater: Rater) -> None:
        self._rater, self._idempotency = rater, Idempotency()

    def RecordLabels(
        self, request: rater_pb2.RecordLabelsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.RecordLabelsResponse:
        """Records grades; the answer leaves only after the commit."""
        taste = taste_id(request.taste)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.RecordLabelsResponse:
            tastes.read(connection, taste)
            new = [messages.new_label(label) for label in request.labels]
            now = self._rater.workspace.clock()
            entries = labels.record(connection, taste, new, now)
            panel.set_aside(connection, taste, entries, self._panel_rule(), now)
            return rater_pb2.RecordLabelsResponse(labels=[messages.label(entry, taste) for entry in entries])

        return self._once("RecordLabels", request, rater_pb2.RecordLabelsResponse(), work)

    def UndoLabel(self, request: rater_pb2.UndoLabelRequest, context: grpc.ServicerContext) -> rater_pb2.Label:
        """Undoes a label."""
        taste = taste_id(request.taste)
        sequence = _own_number(request.name, taste, "labels")

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Label:
            tastes.read(connection, taste)
            return messages.label(labels.undo(connection, taste, sequence, self._rater.workspace.clock()), taste)

        return self._once("UndoLabel", request, rater_pb2.Label(), work)

    def ListLabels(
        self, request: rater_pb2.ListLabelsRequest, context: grpc.ServicerContext
    ) -> rater_pb2.ListLabelsResponse:
        """Lists labels; the page token is the last sequence."""
        taste, size = taste_id(request.taste), request.page_size or messages.DEFAULT_PAGE
        after = messages.number_in(request.page_token, "labels", "page_token") if request.page_token else 0
        with self._rater.workspace.reading() as connection:
            tastes.read(connection, taste)
            entries = labels.read(connection, taste, after, size + 1, request.in_force)
        token = str(entries[size - 1].sequence) if len(entries) > size else ""
        return rater_pb2.ListLabelsResponse(
            labels=[messages.label(entry, taste) for entry in entries[:size]], next_page_token=token
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

        said = Comparison(given.winner_digest, given.loser_digest, given.tie, given.labeller or labels.OWNER)

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Comparison:
            tastes.read(connection, taste)
            for digest in (said.winner, said.loser):
                image_records.read(connection, taste, digest)
            entry = comparisons.record(connection, taste, said, self._rater.workspace.clock())
            return messages.comparison(entry, taste)

        return self._once("RecordComparison", request, rater_pb2.Comparison(), work)

    def UndoComparison(
        self, request: rater_pb2.UndoComparisonRequest, context: grpc.ServicerContext
    ) -> rater_pb2.Comparison:
        """Undoes a comparison."""
        taste = taste_id(request.taste)
        sequence = _own_number(request.name, taste, "comparisons")

        def work(connection: sqlalchemy.Connection) -> rater_pb2.Comparison:
            tastes.read(connection, taste)
            entry = comparisons.undo(connection, taste, sequence, self._rater.workspace.clock())
            return messages.comparison(entry, taste)

        return self._once("UndoComparison", request, rater_pb2.Comparison(), work)

    def _panel_rule(self) -> panel.PanelRule:
        settings = self._rater.workspace.settings
        return panel.PanelRule(settings.panel_start, settings.panel_size, settings.panel_share)

    def _once(self, rpc: str, request: Message, reply: Reply, work: Callable[[sqlalchemy.Connection], Reply]) -> Reply:
        """Does the work in one durable transaction, or returns the first answer to the same request id."""
        with self._rater.workspace.writing() as connection:
            first = self._idempotency.replay(connection, rpc, request)
            if first is not None:
                reply.ParseFromString(first)
                return reply
            reply.CopyFrom(work(connection))
            self._idempotency.remember(connection, rpc, request, reply)
            failpoint("rater.before_commit")
        failpoint("rater.after_commit")
        return reply


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
