"""The errors of konomi, and the one table between them and gRPC statuses.

KonomiError
├── InvalidArgument      a field, an image or a digest is wrong; fix the request
├── Unauthenticated      no token, or one nobody knows
├── PermissionDenied     the token may not do this
├── NotFound             no such resource in what the token may see
├── AlreadyExists        the same request id came with another payload
├── Aborted              the resource changed meanwhile; read it again
├── FailedPrecondition   something must be put right first
├── ResourceExhausted    a queue, a quota or the disk is full; try later
├── DeadlineExceeded     the deadline passed
├── Cancelled            the caller went away
├── Unavailable          the service drains or cannot be reached; try again
├── Unimplemented        not served yet
├── DataLoss             stored bytes differ from their digest
└── Internal             a bug; the message carries an id to look up in the log
"""

import errno
from collections.abc import Iterable, Mapping
from typing import Any

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

DOMAIN = "konomi"
GONE = ("ARTIFACT_COLLECTED", "ARTIFACT_REVOKED")
"""Reasons of NotFound for bytes that were let go on purpose, by the storage policy or with a consent: no damage."""


class KonomiError(Exception):
    """A failure a caller can understand: what was expected, what came, what to do.

    Attributes:
        reason: upper-case machine-readable reason, for example "IMAGE_UNREADABLE".
        field: path of the request field at fault, for InvalidArgument.
        retry_after: seconds after which a retry makes sense, for ResourceExhausted and Unavailable.
        served: whether a service said it, which writes English; what the client says is in the reader's language.
    """

    served = False
    code = grpc.StatusCode.INTERNAL
    default_reason = "INTERNAL"

    def __init__(
        self, message: str, *, reason: str | None = None, field: str | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.field = field
        self.retry_after = retry_after


class InvalidArgument(KonomiError):
    """A field, an image or a digest is wrong; fix the request."""

    code, default_reason = grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"


class Unauthenticated(KonomiError):
    """No token, or one nobody knows."""

    code, default_reason = grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"


class PermissionDenied(KonomiError):
    """The token may not do this."""

    code, default_reason = grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"


class NotFound(KonomiError):
    """No such resource in what the token may see."""

    code, default_reason = grpc.StatusCode.NOT_FOUND, "NOT_FOUND"


class AlreadyExists(KonomiError):
    """The same request id came with another payload."""

    code, default_reason = grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"


class Aborted(KonomiError):
    """The resource changed meanwhile; read it again."""

    code, default_reason = grpc.StatusCode.ABORTED, "ABORTED"


class FailedPrecondition(KonomiError):
    """Something must be put right first."""

    code, default_reason = grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION"


class ResourceExhausted(KonomiError):
    """A queue, a quota or the disk is full; try later."""

    code, default_reason = grpc.StatusCode.RESOURCE_EXHAUSTED, "RESOURCE_EXHAUSTED"


class DeadlineExceeded(KonomiError):
    """The deadline passed."""

    code, default_reason = grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"


class Cancelled(KonomiError):
    """The caller went away."""

    code, default_reason = grpc.StatusCode.CANCELLED, "CANCELLED"


class Unavailable(KonomiError):
    """The service drains or cannot be reached; try again."""

    code, default_reason = grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"


class Unimplemented(KonomiError):
    """Not served yet."""

    code, default_reason = grpc.StatusCode.UNIMPLEMENTED, "UNIMPLEMENTED"


class DataLoss(KonomiError):
    """Stored bytes differ from their digest."""

    code, default_reason = grpc.StatusCode.DATA_LOSS, "DATA_LOSS"


class Internal(KonomiError):
    """A bug; the message carries an id to look up in the log."""


BY_CODE: Mapping[grpc.StatusCode, type[KonomiError]] = {cls.code: cls for cls in (*KonomiError.__subclasses__(),)}
"""The one table: gRPC status code to error class; the way back is the class's own `code`."""


def to_status(error: KonomiError) -> status_pb2.Status:
    """Returns the google.rpc.Status with ErrorInfo always, and BadRequest or RetryInfo where they apply."""
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN))
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=error.message)
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    if error.retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if isinstance(error, FailedPrecondition):
        failure = error_details_pb2.PreconditionFailure.Violation(type=error.reason, description=error.message)
        status.details.add().Pack(error_details_pb2.PreconditionFailure(violations=[failure]))
    return status


def from_rpc_error(error: grpc.RpcError) -> KonomiError:
    """Returns the error a failed rpc of grpc or grpc.aio stands for, with reason, field and delay where it has them."""
    call = error if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
    code = grpc.StatusCode.UNKNOWN if call is None else call.code()
    message = (str(error) if call is None else call.details()) or code.name
    reason, field, retry_after = None, None, None
    status = None if call is None else rpc_status.from_call(call)
    details: Iterable[Any] = status.details if status is not None else ()
    for detail in details:
        info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad) and bad.field_violations:
            field = bad.field_violations[0].field
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    failure = BY_CODE.get(code, Internal)(message, reason=reason, field=field, retry_after=retry_after)
    failure.served = status is not None
    return failure


def from_item(code: int, reason: str, message: str) -> KonomiError:
    """Returns the konomi error of one failed item of a batch."""
    by_number = {status.value[0]: cls for status, cls in BY_CODE.items()}
    error = by_number.get(code, Internal)(message, reason=reason or None)
    error.served = True
    return error


DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL_MESSAGES = ("database or disk is full", "No space left on device", "disk I/O error")
"""What SQLite says, also where another library's error quotes it."""


def is_full(error: BaseException) -> bool:
    """Says whether an error means that the disk has no room."""
    if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
        return True
    return any(message in str(error) for message in DISK_FULL_MESSAGES)


DISK_FULL = "The disk of the home is full: No space left on device. Free some; the same command then goes on."
"""What to do, and that nothing is lost."""


def disk_full_error(message: str = DISK_FULL) -> ResourceExhausted:
    """Returns the error of a full disk, with its message in the reader's language where one is given."""
    return ResourceExhausted(message, reason="DISK_FULL")
