"""What a server of buckets refuses, in words: which setting, which right, which name, and whether to try again."""

from typing import Any

from konomi.errors import FailedPrecondition, KonomiError, Unavailable

CREDENTIALS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "InvalidClientTokenId",
        "TokenRefreshRequired",
    }
)
DENIED = frozenset({"AccessDenied", "AllAccessDisabled", "AccountProblem", "InvalidSecurity", "403"})
ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"}
)
CLOCK = frozenset({"RequestTimeTooSkewed"})
PASSING = frozenset(
    {
        "SlowDown",
        "InternalError",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        "ConditionalRequestConflict",
        "IncompleteBody",
        "BadDigest",
        "XAmzContentSHA256Mismatch",
    }
)
"""What passes by itself, or was the line's fault."""
RETRY_AFTER_SECONDS = 10.0


def answer_of(error: BaseException) -> tuple[str, int]:
    """Returns a server's error code and HTTP status; an empty code and 0 where no server answered."""
    for one in (error, error.__cause__):
        response: Any = getattr(one, "response", None)
        if isinstance(response, dict):
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            return str(response.get("Error", {}).get("Code", "")), int(status)
    return "", 0


def passes(error: BaseException) -> bool:
    """Says whether what a server answered may be otherwise the next time."""
    code, status = answer_of(error)
    return code in PASSING or status >= 500


def refusal(error: BaseException, bucket: str, server: str) -> KonomiError:
    """Returns what to tell whoever asked; never a key, a signature, or the server's own text, which can hold them.

    Args:
        error: what s3fs, botocore or the line raised.
        bucket: name of the bucket.
        server: address of the server, "Amazon S3" where no other is set.
    """
    code, _ = answer_of(error)
    kind = type(error).__name__
    if code in CREDENTIALS or "Credential" in kind or kind in ("ProfileNotFound", "TokenRetrievalError"):
        return FailedPrecondition(
            f"{server} does not know the credentials for bucket {bucket} ({code or kind}). Set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or the profile or role that brings them, then restart.",
            reason="STORE_CREDENTIALS",
        )
    if code in DENIED or isinstance(error, PermissionError):
        return FailedPrecondition(
            f"{server} denies access to bucket {bucket}. The credentials need s3:GetObject, s3:PutObject, "
            "s3:AbortMultipartUpload and s3:ListBucket there.",
            reason="STORE_PERMISSION",
        )
    return _of_the_place(code, bucket, server) or _of_the_line(code or kind, bucket, server, answered=bool(code))


def _of_the_place(code: str, bucket: str, server: str) -> KonomiError | None:
    """Returns what is wrong with the bucket's name, its region or this machine's clock; None where nothing is."""
    if code == "NoSuchBucket":
        return FailedPrecondition(
            f"{server} has no bucket {bucket}. Make it, or name another in [store] url.", reason="STORE_BUCKET"
        )
    if code in ELSEWHERE:
        return FailedPrecondition(
            f"Bucket {bucket} is in another region than the one asked. Set [store] region to its region.",
            reason="STORE_REGION",
        )
    if code in CLOCK:
        return FailedPrecondition(
            f"{server} finds the clock of this machine wrong by more than it allows. Set the clock.",
            reason="STORE_CLOCK",
        )
    return None


def _of_the_line(what: str, bucket: str, server: str, *, answered: bool) -> KonomiError:
    """Returns what may pass by itself."""
    if answered:
        return Unavailable(
            f"{server} answered {what} for bucket {bucket}. Try again later; the artifact was not stored or read.",
            reason="STORE_REFUSED",
            retry_after=RETRY_AFTER_SECONDS,
        )
    return Unavailable(
        f"{server} cannot be reached for bucket {bucket} ({what}). Check the network and [store] endpoint.",
        reason="STORE_UNREACHABLE",
        retry_after=RETRY_AFTER_SECONDS,
    )
