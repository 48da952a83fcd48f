"""What every servicer of the rater stands on: who calls, and a request that is answered once."""

from typing import TypeVar

import grpc
from google.protobuf.message import Message

from konomi_chassis.auth.authentication import principal
from konomi_rater.embedding.requests import Caller

Reply = TypeVar("Reply", bound=Message)


def _caller(context: grpc.ServicerContext, *, patient: bool = False) -> Caller:
    """Returns who waits in this rpc; once it is over, what it asked for is dropped."""
    caller = Caller(principal().name, patient=patient)
    if not context.add_callback(caller.end):
        caller.end()
    return caller
