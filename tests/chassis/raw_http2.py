"""A caller that speaks HTTP/2 by hand: it opens calls and sends no message, only part of one, or reads no answer."""

import contextlib
import socket
import struct
import threading
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING = 0, 1, 3, 4, 6
ACKNOWLEDGED, END_STREAM, END_HEADERS = 1, 1, 4
INITIAL_WINDOW_SIZE = 4
FRAME_BYTES = 16_384


class RawConnection:
    """One connection; calls are numbered 1, 3, 5 and so on, as HTTP/2 numbers them.

    Args:
        address: "HOST:PORT" of a server without TLS.
        window: bytes of answer the server may send for a call before it has to wait; 0 blocks the first one.
    """

    def __init__(self, address: str, window: int = 65_535) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host.strip("[]"), int(port)))
        self._address, self._next = address, 1
        self._ended: set[int] = set()
        self._socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))
        threading.Thread(target=self._read, daemon=True).start()

    def open(self, rpc: str, *metadata: tuple[str, str], body: bytes = b"", complete: bool = False) -> int:
        """Opens a call, sends `body` as it is, and ends the request only where it is complete; returns its number."""
        number, self._next = self._next, self._next + 2
        pseudo = ((":method", "POST"), (":scheme", "http"), (":path", rpc), (":authority", self._address))
        fields = (*pseudo, ("te", "trailers"), ("content-type", "application/grpc"), *metadata)
        frames = _frame(HEADERS, END_HEADERS, number, b"".join(_literal(*field) for field in fields))
        for start in range(0, len(body), FRAME_BYTES):
            last = complete and start + FRAME_BYTES >= len(body)
            frames += _frame(DATA, END_STREAM if last else 0, number, body[start : start + FRAME_BYTES])
        self._socket.sendall(frames)
        return number

    @property
    def ended(self) -> int:
        """How many of its calls the server has ended."""
        return len(self._ended)

    def close(self) -> None:
        """Drops the connection and every call on it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _read(self) -> None:
        try:
            while True:
                length, kind, flags, number = _head(self._exactly(9))
                payload = self._exactly(length)
                if kind in (SETTINGS, PING) and not flags & ACKNOWLEDGED:
                    self._socket.sendall(_frame(kind, ACKNOWLEDGED, 0, payload if kind == PING else b""))
                if kind == RESET or (kind in (HEADERS, DATA) and flags & END_STREAM):
                    self._ended.add(number)
        except OSError:
            return

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._socket.recv(count - len(data))
            if not part:
                raise ConnectionError("the server closed the connection")
            data += part
        return data


def open_many(
    address: str, count: int, rpc: str, *metadata: tuple[str, str], body: bytes = b"", each: int = 100
) -> list[RawConnection]:
    """Opens so many calls that stall, `each` on a connection."""
    connections = []
    for start in range(0, count, each):
        connection = RawConnection(address)
        for _ in range(min(each, count - start)):
            connection.open(rpc, *metadata, body=body)
        connections.append(connection)
    return connections


def ended(connections: list[RawConnection], expected: int, seconds: float = 60.0) -> int:
    """Returns how many calls of these connections the server has ended; waits until it is as many as expected."""
    deadline = time.monotonic() + seconds
    while sum(connection.ended for connection in connections) < expected and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # one more than expected would show now
    return sum(connection.ended for connection in connections)


def message(data: bytes) -> bytes:
    """Returns a message as gRPC frames it."""
    return b"\0" + struct.pack(">I", len(data)) + data


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", number) + payload


def _head(data: bytes) -> tuple[int, int, int, int]:
    return int.from_bytes(data[:3], "big"), data[3], data[4], int.from_bytes(data[5:], "big") & 0x7FFFFFFF


def _literal(name: str, value: str) -> bytes:
    """A header that enters no table, without Huffman coding (RFC 7541, 6.2.2)."""
    return b"\0" + _text(name) + _text(value)


def _text(value: str) -> bytes:
    data = value.encode()
    if len(data) < 127:
        return bytes((len(data),)) + data
    length, rest = b"\x7f", len(data) - 127
    while rest >= 128:
        length, rest = length + bytes((rest % 128 + 128,)), rest // 128
    return length + bytes((rest,)) + data
