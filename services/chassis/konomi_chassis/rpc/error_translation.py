"""Any exception of a handler as the konomi error its caller may see: no trace, path, SQL or token gets out."""

import errno
import secrets

import grpc
from google.rpc import error_details_pb2, status_pb2

from konomi.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    KonomiError,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
    to_status,
)
from konomi_chassis.memory_shortage import is_broken_device, is_shortage, shortage
from konomi_chassis.rpc.validation import InvalidFields

DEVICE_FAILED = "DEVICE_FAILED"


def to_error(error: BaseException, rpc: str, context: grpc.ServicerContext) -> tuple[KonomiError, str | None]:
    """Returns the error to answer with, and the id under which to log the exception when it was a bug.

    Args:
        error: what the handler raised.
        rpc: full rpc name.
        context: the call, asked whether it is over and whether a generated base method ended it.
    """
    if isinstance(error, KonomiError):
        return error, None
    if isinstance(error, GeneratorExit) or not context.is_active():
        return Cancelled("The caller went away.", reason="CANCELLED"), None
    if (
        isinstance(error, NotImplementedError)
        and getattr(context, "code", lambda: None)() == grpc.StatusCode.UNIMPLEMENTED
    ):
        return unimplemented(rpc), None
    translation = _translate(error)
    if translation is not None:
        return translation, None
    error_id = secrets.token_hex(8)
    if is_broken_device(error):
        return _device_failed(error_id), error_id
    return Internal(f"Something went wrong inside konomi. The server's log tells more under {error_id}."), error_id


def unimplemented(rpc: str) -> Unimplemented:
    """Returns the answer to an rpc this server knows of but does not serve."""
    return Unimplemented(
        f"{rpc.lstrip('/')} is not served here: ask the role that owns it, or a newer version.",
        reason="NOT_SERVED",
    )


def status_of(error: KonomiError) -> status_pb2.Status:
    """Returns the google.rpc.Status of an error, with every field violation when there are several."""
    status = to_status(error)
    if isinstance(error, InvalidFields):
        details = [detail for detail in status.details if not detail.Is(error_details_pb2.BadRequest.DESCRIPTOR)]
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            for field, text in error.violations
        ]
        del status.details[:]
        status.details.extend(details)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    return status


def _translate(error: BaseException) -> KonomiError | None:
    text = str(getattr(error, "orig", ""))
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT) or "disk is full" in text:
        return ResourceExhausted(
            "The disk is full; nothing was stored. Free some space, then try again.",
            reason="DISK_FULL",
            retry_after=60.0,
        )
    if is_shortage(error):
        return shortage(error, "in this call", "close programs that hold memory, or ask for less at once")
    if "database is locked" in text:
        return Unavailable("The database is busy; try again.", reason="DATABASE_BUSY", retry_after=1.0)
    if number == errno.EIO or "disk I/O error" in text or "readonly database" in text:
        return FailedPrecondition(
            "The disk failed; nothing was stored. Check the disk, then restart the server.", reason="STORE_READ_ONLY"
        )
    return None


def _device_failed(error_id: str) -> Unavailable:
    return Unavailable(
        "The GPU failed in a way that only a new process gets over, so this server ends; start it again, or wait where "
        f"something does that for you. The server's log tells more under {error_id}.",
        reason=DEVICE_FAILED,
        retry_after=10.0,
    )
