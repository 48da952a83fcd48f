"""One call as it is served: its messages are read within a time limit, and it is ended once, whoever ends it.

Every rpc, unary ones too, is given to grpc as a stream of requests, so that a call is refused before its first message
is asked for. It answers through grpc's callback (`experimental_non_blocking`), so that another thread, the one that
keeps time, can end it with a reason while this one still waits for the message.
"""

import threading
from collections.abc import Callable, Iterator

import grpc
from grpc_status import rpc_status

from konomi.errors import Cancelled, DeadlineExceeded, InvalidArgument, KonomiError
from konomi_chassis.rpc.deadlines import DeadlineWatch
from konomi_chassis.rpc.error_translation import status_of

Send = Callable[[bytes | None], None]
"""grpc's callback: bytes are one answer, None ends the call with the status that stands in its context."""


class ServedCall:
    """One call.

    Args:
        requests: its messages, as grpc reads them: asking for one waits until it came.
        context: of grpc.
        send: of grpc.
        watch: keeps the time.
        seconds: a caller is given to send its first message, and to take the answer of an rpc that has only one.
    """

    def __init__(
        self,
        requests: Iterator[bytes],
        context: grpc.ServicerContext,
        send: Send,
        watch: DeadlineWatch,
        seconds: float,
    ) -> None:
        self.context = context
        self._requests, self._send, self._watch, self._seconds = requests, send, watch, seconds
        self._lock = threading.Lock()
        self._unread, self._ended = True, False
        self._failure: KonomiError | None = None

    def message(self) -> bytes:
        """Returns the one message of the call.

        Raises:
            DeadlineExceeded: it did not come in time (reason MESSAGE_SLOW).
            InvalidArgument: the caller ended the call without one (reason MESSAGE_MISSING).
        """
        message = next(self.messages(), None)
        if message is None:
            raise InvalidArgument("The call carries no message; this rpc takes one.", reason="MESSAGE_MISSING")
        return message

    def messages(self) -> Iterator[bytes]:
        """Yields the messages of the call as they come; only the first has to come in time."""
        stop = self._watch.after(self._seconds, self._too_slow)
        try:
            message = next(self._requests, None)
        finally:
            stop()
            self._unread = False
        if self._failure is not None:
            raise self._failure
        if message is None:
            return
        yield message
        yield from self._requests

    def answer(self, data: bytes) -> None:
        """Sends one of several answers; waits while the caller takes none.

        Raises:
            Cancelled: the caller went away.
        """
        self._send(data)
        if not self.context.is_active():
            raise Cancelled("The caller went away.", reason="CANCELLED")

    def answer_once(self, data: bytes) -> None:
        """Sends the only answer; a caller that does not take it in time is cut off."""
        stop = self._watch.after(self._seconds, self.context.cancel)
        try:
            self._send(data)
        finally:
            stop()

    def end(self, error: KonomiError | None) -> None:
        """Ends the call, with an error or well; does nothing where it has ended."""
        if error is not None:
            self.fail(error)
        elif self._end(None):
            self._send(None)

    def fail(self, error: KonomiError) -> None:
        """Ends the call with an error, unless it has ended."""
        if not self._end(error):
            return
        status = rpc_status.to_status(status_of(error))
        self.context.set_code(status.code)
        self.context.set_details(status.details)
        self.context.set_trailing_metadata(status.trailing_metadata)
        self._send(None)

    @property
    def unread(self) -> bool:
        """Whether its first message is still to come."""
        return self._unread

    def _end(self, error: KonomiError | None) -> bool:
        with self._lock:
            if self._ended:
                return False
            self._ended, self._failure = True, error
            return True

    def _too_slow(self) -> None:
        self.fail(
            DeadlineExceeded(
                f"No message came within {self._seconds:g} seconds of the call; send it right after opening the call.",
                reason="MESSAGE_SLOW",
            )
        )
