"""ArtifactService over the artifact store: chunks in, chunks out."""

from collections.abc import Callable, Iterator, Sequence

import grpc

from konomi.errors import InvalidArgument
from konomi.v1 import artifact_pb2, artifact_pb2_grpc
from konomi_chassis.auth.authentication import principal
from konomi_chassis.storage.artifacts import Artifact, ArtifactStore, artifact_not_found

MAX_CHUNK = 1024 * 1024

BelongsTo = Callable[[str, str], bool]
"""Says whether an artifact, by its digest, belongs to a taste, by its id."""


class ArtifactServicer(artifact_pb2_grpc.ArtifactServiceServicer):
    """Stores and returns artifacts.

    A digest is a name, not a right: the owner and services read every artifact, other callers those of their taste.

    Args:
        store: where they lie.
        belongs: ways to find out whether one belongs to a taste; any of them suffices.
    """

    def __init__(self, store: ArtifactStore, belongs: Sequence[BelongsTo] = ()) -> None:
        self._store, self._belongs = store, tuple(belongs)

    def PutArtifact(
        self, request_iterator: Iterator[artifact_pb2.PutArtifactRequest], context: grpc.ServicerContext
    ) -> artifact_pb2.Artifact:
        """Stores the uploaded bytes; a stream that breaks off leaves nothing behind."""
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("part") != "header":
            raise InvalidArgument("The first message of an upload carries the header.", reason="HEADER", field="header")
        header = first.header
        expected = header.digest if header.HasField("digest") else None
        return to_proto(self._store.put_stream(_chunks(request_iterator, context), header.media_type, expected))

    def GetArtifact(
        self, request: artifact_pb2.GetArtifactRequest, context: grpc.ServicerContext
    ) -> Iterator[artifact_pb2.GetArtifactResponse]:
        """Streams the bytes, what they are in the first message.

        Raises:
            NotFound: there is no such artifact, or it is of no taste the caller may see.
        """
        self._check_readable(request.digest)
        artifact = self._store.stat(request.digest)
        yield artifact_pb2.GetArtifactResponse(artifact=to_proto(artifact))
        for chunk in self._store.chunks(request.digest):
            yield artifact_pb2.GetArtifactResponse(chunk=chunk)

    def _check_readable(self, digest: str) -> None:
        caller = principal()
        if caller.scope in ("owner", "service"):
            return
        if caller.taste is None or not any(belongs(digest, caller.taste) for belongs in self._belongs):
            raise artifact_not_found(digest)


def to_proto(artifact: Artifact) -> artifact_pb2.Artifact:
    """Returns the message that says what a stored artifact is."""
    return artifact_pb2.Artifact(digest=artifact.digest, media_type=artifact.media_type, size_bytes=artifact.size_bytes)


def _chunks(requests: Iterator[artifact_pb2.PutArtifactRequest], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidArgument("After the header every message carries a chunk.", reason="CHUNK", field="chunk")
        if len(request.chunk) > MAX_CHUNK:
            raise InvalidArgument(
                f"A chunk has at most {MAX_CHUNK} bytes; this one has {len(request.chunk)}.",
                reason="CHUNK",
                field="chunk",
            )
        yield request.chunk
    if not context.is_active():
        raise InvalidArgument("The upload broke off before its end.", reason="UPLOAD_CUT")
