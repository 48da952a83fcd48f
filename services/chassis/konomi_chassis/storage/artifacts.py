"""The artifact store: immutable bytes named by their sha256, complete or absent, verified whenever they are read."""

import errno
import hashlib
import re
import time
import zlib
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cachetools import LRUCache

from konomi.errors import GONE, DataLoss, FailedPrecondition, InvalidArgument, NotFound, ResourceExhausted
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.blobs import NOTE, Blobs, Discarded, Folder, Upload

DIGEST = re.compile(r"[0-9a-f]{64}")
MEDIA_TYPE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}/[a-z0-9][a-z0-9.+-]{0,127}")
LEFTOVER_SECONDS = 24 * 3600
TYPES = 65_536
"""Media types of a bucket's artifacts that are remembered at most."""
GRACE_SECONDS = 24 * 3600.0
"""How long an artifact that was put, or used, is safe from every policy: whoever did so has named it by then."""
COLLECTED, REVOKED = "collected", "revoked"
"""Why an artifact was discarded."""


@dataclass(frozen=True)
class Artifact:
    """One stored artifact: sha256 digest, IANA media type, size in bytes."""

    digest: str
    media_type: str
    size_bytes: int


class ArtifactStore:
    """Stores bytes under their digest, in a folder or any fsspec file system.

    Beside the bytes lies `<digest>.type`, written first: an artifact exists exactly when its bytes do.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._settings = settings
        self._blobs = _open(settings)
        self._broken: str | None = None
        self._types: MutableMapping[str, str] = LRUCache(TYPES)

    def put(self, data: bytes, media_type: str) -> Artifact:
        """Stores bytes; on return they are durable. Storing the same bytes twice is no error.

        Raises:
            ResourceExhausted: the disk is full (reason DISK_FULL).
            FailedPrecondition: an earlier write could not be made durable (reason STORE_READ_ONLY).
        """
        return self.put_stream((data,), media_type)

    def put_stream(self, chunks: Iterable[bytes], media_type: str, expected: str | None = None) -> Artifact:
        """Stores the concatenated chunks without holding them in memory.

        Args:
            chunks: the bytes, in order.
            media_type: IANA media type, for example "image/png".
            expected: digest the bytes must have, or None.

        Raises:
            InvalidArgument: wrong media type, digest or size.
        """
        self._check_writable(media_type)
        upload = None
        try:
            upload = self._blobs.upload()
            digest, size = self._receive(upload, chunks)
            if expected is not None and digest != expected:
                raise InvalidArgument(
                    f"The bytes should have digest {expected} but have {digest}; send them again.",
                    reason="DIGEST_MISMATCH",
                    field="header.digest",
                )
            return Artifact(digest, self._keep(upload, digest, size, media_type), size)
        except OSError as error:
            raise self._failed(error) from error
        finally:
            if upload is not None:
                upload.abort()

    def _keep(self, upload: Upload, digest: str, size: int, media_type: str) -> str:
        """Gives the bytes their name; those that are there already are in use from now on, and durable.

        Returns:
            Their media type.
        """
        present = self._blobs.refresh(_key(digest))  # first: from here on no policy takes them
        kept = self._write_type(digest, media_type, present=present)
        if present and self._intact(digest, size):
            self._blobs.settle(_key(digest))
        else:
            upload.commit(_key(digest), replace=present)
        return kept

    def get(self, digest: str) -> bytes:
        """Returns the bytes, verified.

        Raises:
            NotFound: no such artifact.
            DataLoss: the stored bytes differ from their digest.
        """
        return b"".join(self.chunks(digest))

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Yields the bytes in chunks of at most 1 MiB; the last one only after the digest was verified."""
        check_digest(digest)
        hasher, held = hashlib.sha256(), b""
        try:
            for chunk in self._blobs.read(_key(digest)):
                if held:
                    yield held
                hasher.update(chunk)
                held = chunk
        except FileNotFoundError:
            raise self.missing(digest) from None
        except OSError as error:
            raise _unreadable(digest, error) from error
        if hasher.hexdigest() != digest:
            raise DataLoss(
                f"The stored bytes of artifact {digest} are damaged: they hash to {hasher.hexdigest()}. "
                "Restore it from a backup, or put it again.",
                reason="ARTIFACT_DAMAGED",
            )
        if held:
            yield held

    def stat(self, digest: str) -> Artifact:
        """Returns media type and size without reading the bytes.

        Raises:
            NotFound: no such artifact.
            DataLoss: what says its media type is damaged.
        """
        check_digest(digest)
        size = self._blobs.size(_key(digest))
        if size is None:
            raise self.missing(digest)
        media_type, _ = self._read_type(digest)
        if media_type is None:
            raise DataLoss(
                f"The media type of artifact {digest} is damaged. Put the artifact again.", reason="ARTIFACT_DAMAGED"
            )
        return Artifact(digest, media_type or "application/octet-stream", size)

    def exists(self, digest: str) -> bool:
        """Says whether the artifact is there."""
        check_digest(digest)
        return self._blobs.size(_key(digest)) is not None

    def digests(self) -> Iterator[str]:
        """Yields the digest of every artifact, in order."""
        for key in self._blobs.list_keys():
            name = key.split("/")[-1]
            if DIGEST.fullmatch(name):
                yield name

    @property
    def is_local(self) -> bool:
        """Whether the artifacts lie in a folder of this machine; only from there is anything ever discarded."""
        return isinstance(self._blobs, Folder)

    def size(self, digest: str) -> int | None:
        """Returns the size in bytes, None where the artifact is not there."""
        check_digest(digest)
        return self._blobs.size(_key(digest))

    def use(self, digests: Iterable[str]) -> None:
        """Marks artifacts as in use: no policy discards them for a day. A read-only disk keeps them all anyway."""
        for digest in digests:
            check_digest(digest)
            try:
                self._blobs.refresh(_key(digest))
            except OSError as error:
                if error.errno != errno.EROFS:
                    raise self._failed(error) from error

    def last_used(self, digest: str) -> float | None:
        """Returns when an artifact was last put or used, Unix time; None where it is absent or nobody can tell."""
        check_digest(digest)
        return self._blobs.modified(_key(digest))

    def discard(self, digests: Sequence[str], before: float | None, why: str = COLLECTED) -> Discarded:
        """Removes artifacts for good; each is whole or absent at any moment, and reading one says why it is gone.

        Args:
            digests: the artifacts; write down that they go before this is called.
            before: only those last put or used before this Unix time go; None takes them whatever their time.
            why: COLLECTED or REVOKED.

        Returns:
            Bytes freed by digest, 0 for one that was gone already, and the digests that are in use and stay.

        Raises:
            FailedPrecondition: the store is no folder of this machine (reason STORE_ELSEWHERE).
        """
        for digest in digests:
            check_digest(digest)
        keys = {_key(digest): digest for digest in digests}
        discarded = self._blobs.discard(sorted(keys), before, why)
        if discarded is None:
            raise elsewhere()
        freed = {keys[key]: size for key, size in discarded.freed.items()}
        return Discarded(freed, frozenset(keys[key] for key in discarded.kept))

    def remember(self, key: str, digest: str) -> None:
        """Writes down which artifact is the outcome of a piece of work, durably: whoever does it again need not.

        Args:
            key: sha256 over everything the outcome depends on; a second outcome of one key is not kept.
            digest: of the artifact, which is stored already.
        """
        check_digest(digest)
        upload = None
        try:
            upload = self._blobs.upload()
            upload.write(_render_outcome(key, digest))
            upload.commit(_outcome_key(key))
        except OSError as error:
            raise self._failed(error) from error
        finally:
            if upload is not None:
                upload.abort()

    def recall(self, key: str) -> Artifact | None:
        """Returns the artifact that is the outcome of a piece of work; None where it is not known, damaged, or gone."""
        try:
            content = b"".join(self._blobs.read(_outcome_key(key)))
            digest = content.decode("ascii", "replace").partition(" ")[0]
            if not DIGEST.fullmatch(digest) or content != _render_outcome(key, digest):
                return None
            return self.stat(digest) if self._blobs.refresh(_key(digest)) else None
        except (OSError, DataLoss, NotFound):
            return None

    def missing(self, digest: str) -> NotFound:
        """Returns the error of an artifact that is not there; its reason is in GONE where it was discarded."""
        try:
            why = b"".join(self._blobs.read(_key(digest) + NOTE)).decode("ascii", "replace")
        except (OSError, DataLoss):
            why = ""
        if why == REVOKED:
            return NotFound(f"The bytes of {digest} were removed: its consent was revoked.", reason=GONE[1])
        if why:
            return NotFound(
                f"The bytes of {digest} were collected by the storage policy; its record stays. "
                "Put the same bytes again to bring them back.",
                reason=GONE[0],
            )
        return artifact_not_found(digest)

    def _check_writable(self, media_type: str) -> None:
        if not MEDIA_TYPE.fullmatch(media_type):
            raise InvalidArgument(
                f'A media type such as "image/png" was expected; "{media_type[:80]}" came.',
                reason="MEDIA_TYPE",
                field="header.media_type",
            )
        if self._broken is not None:
            raise FailedPrecondition(
                f"The artifact store takes no writes since one failed ({self._broken}). Check the disk, then restart.",
                reason="STORE_READ_ONLY",
            )
        free = self._blobs.free_bytes()
        if free is not None and free < self._settings.min_free_bytes:
            raise _disk_full()

    def _receive(self, upload: Upload, chunks: Iterable[bytes]) -> tuple[str, int]:
        """Writes the chunks and returns their digest and size."""
        hasher, size, limit = hashlib.sha256(), 0, self._settings.max_artifact_bytes
        for chunk in chunks:
            size += len(chunk)
            if size > limit:
                raise InvalidArgument(
                    f"An artifact has at most {limit} bytes; this one has more.", reason="ARTIFACT_TOO_LARGE"
                )
            hasher.update(chunk)
            upload.write(chunk)
        return hasher.hexdigest(), size

    def _intact(self, digest: str, size: int) -> bool:
        vouched = self._blobs.vouches(_key(digest), digest, size)
        if vouched is not None:
            return vouched
        try:
            return all(True for _ in self.chunks(digest))
        except (DataLoss, NotFound):
            return False

    def _write_type(self, digest: str, media_type: str, *, present: bool) -> str:
        """Writes the media type where none is kept, or a damaged one; the first one stays, and is returned.

        That of bytes that are gone is written anew: whoever removed them may be about to remove it.
        """
        kept, guarded = self._read_type(digest)
        if kept and guarded and (present or not self.is_local):
            self._blobs.settle(_key(digest) + ".type")
            return kept
        upload = self._blobs.upload()
        try:
            upload.write(_render_type(digest, kept or media_type))
            upload.commit(_key(digest) + ".type", replace=kept != "")
        finally:
            upload.abort()
        return kept or media_type

    def _read_type(self, digest: str) -> tuple[str | None, bool]:
        """Returns the media type kept, "" for none, None for a damaged one, and whether a checksum vouches for it."""
        known = self._types.get(digest)
        if known is not None:
            return known, True
        try:
            content = b"".join(self._blobs.read(_key(digest) + ".type"))
        except FileNotFoundError:
            return "", False
        except OSError as error:
            raise _unreadable(digest, error) from error
        text = content.decode("ascii", "replace")
        if MEDIA_TYPE.fullmatch(text):  # written before there were checksums
            return text, False
        media_type = text.partition(" ")[0]
        if content != _render_type(digest, media_type):
            return None, False
        if not self.is_local:  # a question less to the bucket; the first media type is the last
            self._types[digest] = media_type
        return media_type, True

    def _failed(self, error: OSError) -> Exception:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _disk_full()
        if error.errno == errno.EROFS:
            return FailedPrecondition(
                "The disk of the artifacts is read-only; nothing was stored. Mount it for writing, then try again.",
                reason="STORE_READ_ONLY",
            )
        if error.errno == errno.EIO:
            self._broken = error.strerror or "input/output error"
            return FailedPrecondition(
                "The disk failed to store the artifact; nothing was stored and the store takes no more writes. "
                "Check the disk, then restart.",
                reason="STORE_READ_ONLY",
            )
        return error


def elsewhere() -> FailedPrecondition:
    """Returns the error of a store from which nothing is discarded."""
    return FailedPrecondition(
        "The artifacts do not lie in a folder of this machine; nothing was removed. "
        "Let the place where they lie say what may go.",
        reason="STORE_ELSEWHERE",
    )


def check_digest(digest: str) -> None:
    """Raises InvalidArgument unless the text is a sha256 digest."""
    if not DIGEST.fullmatch(digest):
        raise InvalidArgument(
            f'A sha256 digest of 64 lower-case hexadecimal digits was expected; "{digest[:80]}" came.',
            reason="DIGEST_INVALID",
            field="digest",
        )


def _open(settings: StoreSettings) -> Blobs:
    root = settings.home.absolute() / "artifacts"  # a path is no URL: "::" or "%20" stand in it as letters
    if settings.url:
        from konomi_chassis.storage.buckets.opening import open_bucket  # a folder needs no fsspec

        opened = open_bucket(settings)
        if not isinstance(opened, Path):
            return opened
        root = opened
    folder = Folder(root)
    folder.sweep(time.time() - LEFTOVER_SECONDS)
    return folder


def _render_type(digest: str, media_type: str) -> bytes:
    """Returns the content of `<digest>.type`: the media type and a checksum of it and of what it is the type of."""
    checksum = zlib.crc32(f"{digest} {media_type}".encode("ascii", "replace"))
    return f"{media_type} crc32={checksum:08x}\n".encode("ascii", "replace")


def _render_outcome(key: str, digest: str) -> bytes:
    """Returns what is kept of a piece of work: the digest and a checksum of it and of the work's key."""
    return f"{digest} crc32={zlib.crc32(f'{key} {digest}'.encode('ascii')):08x}\n".encode("ascii")


def _outcome_key(key: str) -> str:
    check_digest(key)
    return f"made/{key[:2]}/{key}.made"


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def artifact_not_found(digest: str) -> NotFound:
    """Returns the answer to whoever asks for what is not there, or for what it may not see: it is the same."""
    return NotFound(f"There is no artifact {digest}; put it first.", reason="ARTIFACT_NOT_FOUND")


def _unreadable(digest: str, error: OSError) -> DataLoss:
    return DataLoss(
        f"The stored bytes of artifact {digest} cannot be read ({error.strerror}). Restore it from a backup, or put it "
        "again.",
        reason="ARTIFACT_DAMAGED",
    )


def _disk_full() -> ResourceExhausted:
    return ResourceExhausted(
        "The disk is full; nothing was stored. Free some space, then try again.", reason="DISK_FULL", retry_after=60.0
    )
