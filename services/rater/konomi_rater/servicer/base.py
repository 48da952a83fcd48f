"""What every part of the rater's servicer stands on: the use cases, who calls, and a request that is answered once."""

from collections.abc import Callable
from typing import TypeVar

import grpc
import sqlalchemy
from google.protobuf.message import Message

from konomi_chassis.auth.authentication import principal
from konomi_chassis.storage.failpoints import failpoint
from konomi_chassis.storage.idempotency import Idempotency
from konomi_rater.embedding.requests import Caller
from konomi_rater.usecases.rater import Rater

Reply = TypeVar("Reply", bound=Message)


class ServicerPart:
    """The rpcs of one noun; `RaterServicer` joins the parts."""

    def __init__(self, rater: Rater) -> None:
        self._rater, self._idempotency = rater, Idempotency()

    def _answer_once(
        self, rpc: str, request: Message, reply: Reply, work: Callable[[sqlalchemy.Connection], Reply]
    ) -> Reply:
        """Does the work in one durable transaction, or returns the first answer to the same request id.

        Args:
            rpc: name of the rpc.
            request: the request; its `request_id` names it.
            reply: an empty message of the answer's type; it is filled and returned.
            work: what is done, inside the transaction.

        Raises:
            AlreadyExists: the request id came before with another payload.
        """
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

    def _first_answer(self, rpc: str, request: Message, reply: Reply) -> Reply | None:
        """Returns the first answer to the same request id, None where it is new: for work too long to do twice."""
        with self._rater.workspace.writing() as connection:
            first = self._idempotency.replay(connection, rpc, request)
        if first is None:
            return None
        reply.ParseFromString(first)
        return reply

    def _keep_answer(self, rpc: str, request: Message, reply: Reply) -> Reply:
        """Keeps the answer to long work, or returns the one that was kept meanwhile."""
        return self._answer_once(rpc, request, type(reply)(), lambda connection: reply)


def caller(context: grpc.ServicerContext, *, patient: bool = False) -> Caller:
    """Returns who waits in this rpc; once it is over, what it asked for is dropped.

    Args:
        context: of the rpc.
        patient: wait where the queue of images is full, as a stream does, instead of being refused.
    """
    who = principal()
    waiting = Caller(who.name, patient=patient, confined=who.scope not in ("owner", "service"))
    if not context.add_callback(waiting.end):
        waiting.end()
    return waiting
