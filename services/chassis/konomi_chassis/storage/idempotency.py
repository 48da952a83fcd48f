"""Request ids: the same request answered twice with the first answer, another request under its id refused."""

import hashlib

import sqlalchemy
from google.protobuf.message import Message

from konomi.errors import AlreadyExists

TABLE = """
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT PRIMARY KEY,
    rpc TEXT NOT NULL,
    payload_digest TEXT NOT NULL,
    reply BLOB NOT NULL
) STRICT
"""
"""Made in every konomi database, so that an answer is remembered in the very transaction it answers for."""


class Idempotency:
    """Remembers answers in the table `requests`; both methods run inside the caller's write transaction."""

    def replay(self, connection: sqlalchemy.Connection, rpc: str, request: Message) -> bytes | None:
        """Returns the serialized first answer to this very request, or None when it is new or carries no request id.

        Args:
            connection: the write transaction.
            rpc: name of the rpc, for example "RecordLabels".
            request: the request; its field `request_id` names it.

        Raises:
            AlreadyExists: the request id came before with another payload.
        """
        request_id = _request_id(request)
        if not request_id:
            return None
        row = connection.execute(
            sqlalchemy.text("SELECT payload_digest, reply FROM requests WHERE request_id = :request_id"),
            {"request_id": request_id},
        ).one_or_none()
        if row is None:
            return None
        if row.payload_digest != payload_digest(rpc, request):
            raise AlreadyExists(
                f"The request id {request_id} came before with another payload; take a new id for a new request.",
                reason="REQUEST_ID_REUSED",
                field="request_id",
            )
        return bytes(row.reply)

    def remember(self, connection: sqlalchemy.Connection, rpc: str, request: Message, reply: Message) -> None:
        """Keeps the answer for replay; does nothing when the request carries no request id."""
        request_id = _request_id(request)
        if not request_id:
            return
        connection.execute(
            sqlalchemy.text("INSERT INTO requests VALUES (:request_id, :rpc, :payload_digest, :reply)"),
            {
                "request_id": request_id,
                "rpc": rpc,
                "payload_digest": payload_digest(rpc, request),
                "reply": reply.SerializeToString(),
            },
        )


def payload_digest(rpc: str, request: Message) -> str:
    """Returns the sha256 over rpc name and request, its id aside; equal for equal requests."""
    payload = type(request)()
    payload.CopyFrom(request)
    payload.ClearField("request_id")
    return hashlib.sha256(rpc.encode() + b"\0" + payload.SerializeToString(deterministic=True)).hexdigest()


def _request_id(request: Message) -> str:
    return str(getattr(request, "request_id", "")).lower()
