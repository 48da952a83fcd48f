"""Objects of Amazon S3, and of any server that speaks its language, by s3fs; the only file that imports it.

What is asked is asked by exact key, never by a listing: fsspec's own `info` lists where a key is absent. A put is
conditional (`If-None-Match: *`) and carries its sha256, which the server checks before it answers; one of more than
64 MiB goes in parts. Each call is tried again by itself, so a line that breaks costs a part or a range, not the whole.
"""

import asyncio
import base64
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, TypeVar

import stamina
from botocore.exceptions import BotoCoreError, ClientError
from s3fs import S3FileSystem
from s3fs.core import S3_RETRYABLE_ERRORS

from konomi_chassis.storage.buckets.bucket import Stored
from konomi_chassis.storage.buckets.s3_refusals import answer_of, passes, refusal

MULTIPART_BYTES, PART_BYTES, MOST_PARTS = 64 << 20, 16 << 20, 10_000
PARTS_AT_ONCE = 4
PAGE_KEYS = 1000
SLOWEST_LINE = 128 << 10
"""Bytes a second at which a body is still waited for."""
CONNECTIONS = 64
MARK, MARK_CONTENT = "konomi-store", b"konomi's artifacts lie beside this file\n"
"""An object that says a store is here: reading it, or putting it at first, shows that one may."""
SAME = frozenset({"PreconditionFailed", "412"})
LINE = (*S3_RETRYABLE_ERRORS, ConnectionError, TimeoutError)
ANYTHING = (OSError, ClientError, BotoCoreError, *LINE)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class S3Server:
    """Which server, and how long it is waited for.

    Attributes:
        endpoint: address of one that is not Amazon's; empty for Amazon S3.
        region: of the bucket; empty where the environment or the server says it.
        timeout_seconds: a connection, or a part of an answer, may take.
        retry_seconds: for which a call is tried again.
    """

    endpoint: str = ""
    region: str = ""
    timeout_seconds: float = 20.0
    retry_seconds: float = 60.0

    @property
    def name(self) -> str:
        """What to call it."""
        return self.endpoint or "Amazon S3"


class S3Objects:
    """Objects of one server; credentials come from the environment, a profile or a role, as to every AWS tool."""

    def __init__(self, server: S3Server) -> None:
        self._server = server
        client = {"endpoint_url": server.endpoint, "region_name": server.region}
        self._system = S3FileSystem(
            client_kwargs={name: value for name, value in client.items() if value},
            config_kwargs={
                "max_pool_connections": CONNECTIONS,
                "connect_timeout": server.timeout_seconds,
                "read_timeout": server.timeout_seconds,
                "retries": {"total_max_attempts": 1},  # stamina's alone, so that nobody waits for the product of both
            },
            use_listings_cache=False,
        )
        self._system.retries = 1

    def check(self, root: str) -> None:
        """Reads the mark below the root, or leaves it there; raises what stands in the way, in words."""
        path = f"{root}/{MARK}"
        if self._get(path, 0, len(MARK_CONTENT)) is None:
            try:
                self._ask("put_object", path, Body=MARK_CONTENT, IfNoneMatch="*")
            except FileExistsError:
                return

    def read(self, path: str, start: int, end: int) -> bytes:
        """Returns the bytes of a range. Raises FileNotFoundError."""
        data = self._get(path, start, end)
        if data is None:
            raise FileNotFoundError(path)
        return data

    def stat(self, path: str) -> Stored | None:
        """Returns size and, of what was put whole by konomi, the sha256; None where there is no object."""
        try:
            head = self._ask("head_object", path, ChecksumMode="ENABLED")
        except FileNotFoundError:
            return None
        checksum = str(head.get("ChecksumSHA256") or "")
        whole = checksum and "-" not in checksum and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT"
        return Stored(int(head["ContentLength"]), base64.b64decode(checksum).hex() if whole else None)

    def put(self, path: str, file: IO[bytes], size: int, sha256: str | None, *, exclusive: bool) -> None:
        """Puts an object. Raises FileExistsError where one is there, it is to be none, and the server can tell."""
        condition = {"IfNoneMatch": "*"} if exclusive else {}
        if size > MULTIPART_BYTES:
            self._put_parts(path, file, size, condition)
            return
        checksum = {"ChecksumSHA256": base64.b64encode(bytes.fromhex(sha256)).decode()} if sha256 else {}
        self._ask("put_object", path, Body=file.read(), **checksum, **condition)

    def list(self, root: str) -> Iterator[str]:
        """Yields every path below a root, in order, a page at a time: S3 orders keys by their bytes."""
        bucket, _, prefix = root.partition("/")
        token: Mapping[str, str] = {}
        while True:
            page = self._ask(
                "list_objects_v2", f"{bucket}/", Prefix=f"{prefix}/" if prefix else "", MaxKeys=PAGE_KEYS, **token
            )
            yield from (f"{bucket}/{entry['Key']}" for entry in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _put_parts(self, path: str, file: IO[bytes], size: int, condition: Mapping[str, str]) -> None:
        length = max(PART_BYTES, -(-size // MOST_PARTS))
        upload = self._ask("create_multipart_upload", path)["UploadId"]
        try:
            parts: list[dict[str, Any]] = []
            with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="part") as pool:
                numbers = range(1, -(-size // length) + 1)
                for first in numbers[::PARTS_AT_ONCE]:
                    together = [n for n in range(first, first + PARTS_AT_ONCE) if n in numbers]
                    bodies = [file.read(length) for _ in together]
                    parts += pool.map(lambda n, body: self._put_part(path, upload, n, body), together, bodies)
            self._ask("complete_multipart_upload", path, UploadId=upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            self._abort(path, upload)
            raise

    def _put_part(self, path: str, upload: str, number: int, body: bytes) -> dict[str, Any]:
        answer = self._ask("upload_part", path, UploadId=upload, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    def _abort(self, path: str, upload: str) -> None:
        """Frees the parts of an upload; where that fails too, the bucket's rule for unfinished uploads frees them."""
        bucket, key = _split(path)
        try:
            self._wait(self._system._call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload))
        except ANYTHING:
            return

    def _get(self, path: str, start: int, end: int) -> bytes | None:
        """Returns the bytes of a range, None where there is no object."""
        try:
            return self._tried(
                path, lambda: bytes(self._wait(self._system._cat_file(path, start=start, end=end), end - start))
            )
        except FileNotFoundError:
            return None
        except EOFError:
            return b""

    def _ask(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        """Calls S3. Raises FileNotFoundError, FileExistsError, or what `refusal` makes of it."""
        bucket, key = _split(path)
        named = {"Bucket": bucket, **({"Key": key} if key else {})}
        size = len(arguments.get("Body", b""))
        return self._tried(path, lambda: self._wait(self._system._call_s3(method, **named, **arguments), size))

    def _wait(self, call: Coroutine[Any, Any, Answer], size: int = 0) -> Answer:
        """Returns what a call of so many bytes answers; cancels one that takes too long, with its connection.

        The library's own time limits are of connecting and of reading: a server that takes no more of a body would hold
        its caller for ever.

        Raises:
            TimeoutError: it took longer than two times the server's limit and what its bytes take on the slowest line.
        """
        limit = 2 * self._server.timeout_seconds + size / SLOWEST_LINE
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(call, limit), self._system.loop).result()

    def _tried(self, path: str, call: Callable[[], Answer]) -> Answer:
        try:
            seconds = self._server.retry_seconds
            for attempt in stamina.retry_context(
                on=_is_passing, attempts=None if seconds else 1, timeout=seconds or None, wait_max=5.0, wait_jitter=0.5
            ):
                with attempt:
                    return call()
        except ANYTHING as error:
            raise self._outcome(error, path) from None  # what is behind it can hold a signature
        raise AssertionError("an attempt returns or raises")

    def _outcome(self, error: Exception, path: str) -> Exception:
        code, status = answer_of(error)
        if code in ("NoSuchKey", "404") or (isinstance(error, FileNotFoundError) and code != "NoSuchBucket"):
            return FileNotFoundError(path)
        if isinstance(error, FileExistsError) or code in SAME or status == 412:
            return FileExistsError(path)
        if code == "InvalidRange" or status == 416:
            return EOFError(path)
        return refusal(error, _split(path)[0], self._server.name)


def _is_passing(error: Exception) -> bool:
    code, _ = answer_of(error)
    return passes(error) or (not code and isinstance(error, LINE))


def _split(path: str) -> tuple[str, str]:
    bucket, _, key = path.partition("/")
    return bucket, key
