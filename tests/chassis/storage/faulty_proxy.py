"""A TCP proxy on this machine that is a bad line: late, lossy and cut; and that writes down what HTTP was asked."""

import asyncio
import contextlib
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

REQUEST = re.compile(rb"^(GET|PUT|HEAD|POST|DELETE) (\S+) HTTP/1\.1\r\n")
PIECE = 256 * 1024


@dataclass
class Line:
    """What the line does to each message, a request or an answer, by a seed.

    Attributes:
        delay: seconds by which its pieces come later.
        drop: share of messages of which no more comes from some piece on, and nothing after them.
        cut: share of messages in which the connection is cut, in the middle of some piece.
        lose_answers_to: how many answers to PUT are cut off before their first byte.
    """

    delay: float = 0.0
    drop: float = 0.0
    cut: float = 0.0
    seed: int = 0
    lose_answers_to: int = 0
    requests: list[str] = field(default_factory=list)
    dropped: int = 0
    cuts: int = 0


@contextmanager
def proxied(port: int, line: Line) -> Iterator[int]:
    """Runs the proxy to a port of this machine in a thread; yields its own port."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    proxy = _Proxy(port, line)

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(proxy.start())
        started.set()
        loop.run_forever()

    thread = threading.Thread(target=run, name="proxy", daemon=True)
    thread.start()
    assert started.wait(10)
    try:
        yield proxy.port
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


class _Proxy:
    def __init__(self, target: int, line: Line) -> None:
        self._target, self._line, self._random = target, line, random.Random(line.seed)
        self.port = 0
        self._running: set[asyncio.Task] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._running.add(asyncio.current_task())
        ways, ends = [], [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            ends.append(back)
            state = {"put": False, "silent": False, "outward": None, "fate": "", "pieces": 0}
            ways = [
                asyncio.ensure_future(self._carry(reader, back, state, outward=True)),
                asyncio.ensure_future(self._carry(there, writer, state, outward=False)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            for end in ends:
                end.transport.abort()
            self._running.discard(asyncio.current_task())

    async def _carry(self, source, target, state, *, outward: bool) -> None:
        """Passes pieces on, each `delay` after it came; pieces overlap, as on a real line."""
        loop, line, waiting = asyncio.get_running_loop(), self._line, asyncio.Queue()

        async def send() -> None:
            while True:
                due, piece = await waiting.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                if piece is None:
                    return
                target.write(piece)
                await target.drain()

        sender = asyncio.ensure_future(send())
        try:
            with contextlib.suppress(ConnectionError):
                while piece := await source.read(PIECE):
                    self._note(piece, state, outward=outward)
                    fate = self._fate(state, outward=outward)
                    if not outward and state["put"] and line.lose_answers_to:
                        line.lose_answers_to -= 1
                        return
                    if fate == "cut":
                        line.cuts += 1
                        target.write(piece[: len(piece) // 2])
                        return
                    if fate == "drop" and not state["silent"]:
                        line.dropped += 1
                        state["silent"] = True
                    if not state["silent"]:
                        waiting.put_nowait((loop.time() + line.delay, piece))
            waiting.put_nowait((loop.time() + line.delay, None))
            await sender
        finally:
            sender.cancel()

    def _fate(self, state: dict, *, outward: bool) -> str:
        """Says what becomes of a piece: "cut", "drop", or nothing; each message has one fate, at one piece of it."""
        if state["outward"] is not outward:
            drawn, line = self._random.random(), self._line
            state["outward"], state["pieces"] = outward, self._random.randrange(3) if line.cut < 1 else 0
            state["fate"] = "cut" if drawn < line.cut else "drop" if drawn < line.cut + line.drop else ""
        state["pieces"] -= 1
        return state["fate"] if state["pieces"] < 0 else ""

    def _note(self, piece: bytes, state: dict, *, outward: bool) -> None:
        found = REQUEST.match(piece) if outward else None
        if found:
            self._line.requests.append(f"{found[1].decode()} {found[2].decode()}")
            state["put"] = found[1] == b"PUT"
