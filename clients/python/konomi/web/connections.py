"""Connections of the page: each is given so long for a request's head and body, and the slow make room for new ones."""

import asyncio
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0
"""From the first byte of a request, or from the connection where none came, to the end of its head."""

BODY_SECONDS = 10.0
LEAST_BYTES = 128 * 1024
"""A body that is not read slower than it comes has to bring so many bytes in so many seconds."""

ANSWER_SECONDS = 30.0
"""A reader may take nothing of its answer for so long."""

MOST = 384
"""Connections at once; for one more the longest one without a whole request is closed."""

HEAD, BODY, ANSWER, IDLE = "head", "body", "answer", "idle"


class TimedConnection(H11Protocol):
    """uvicorn's connection, with limits to what it may wait for.

    It is in one of four phases: the head of a request is awaited, its body, its answer, or the next request.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._phase, self._since, self._received, self._seen = ANSWER, time.monotonic(), 0, 0
        self._timer: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Starts the time of the first head; closes another connection where there are too many."""
        super().connection_made(transport)
        self._follow()
        if len(self.connections) > MOST:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clocks."""
        super().connection_lost(exc)
        for timer in (self._timer, self._stuck):
            if timer is not None:
                timer.cancel()
        self._timer = self._stuck = None

    def data_received(self, data: bytes) -> None:
        """Takes bytes in."""
        self._received += len(data)
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """Waits for the next request, or for the rest of a body nobody wanted."""
        super().on_response_complete()
        self._follow()

    def pause_writing(self) -> None:
        """Gives the reader so long to take some of its answer."""
        super().pause_writing()
        if self._stuck is None:
            self._stuck = self.loop.call_later(ANSWER_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """The reader reads."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _follow(self) -> None:
        phase = self._current()
        if phase == self._phase:
            return
        self._phase, self._since, self._seen = phase, time.monotonic(), self._received
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if phase == HEAD:
            self._timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)
        elif phase == BODY:
            self._timer = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _current(self) -> str:
        if self.conn.their_state is h11.SEND_BODY:
            return BODY
        if self.conn.their_state is not h11.IDLE:
            return ANSWER
        return HEAD if self.cycle is None or self.conn.trailing_data[0] else IDLE

    def _look_at_body(self) -> None:
        """Closes the connection where too little came; a server that does not read is not the caller's fault."""
        unwanted = self.cycle is not None and self.cycle.response_complete
        if unwanted or (not self.flow.read_paused and self._received - self._seen < LEAST_BYTES):
            self.transport.close()
            return
        self._seen = self._received
        self._timer = self.loop.call_later(BODY_SECONDS, self._look_at_body)

    def _make_room(self) -> None:
        others = [other for other in self.connections if isinstance(other, TimedConnection) and other is not self]
        for phases in ((HEAD, IDLE), (BODY,)):
            waiting = [other for other in others if other._phase in phases and not other.transport.is_closing()]
            if waiting:
                min(waiting, key=lambda other: other._since).transport.abort()
                return
