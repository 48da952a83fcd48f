"""ArtifactService over the artifact store: chunks in, chunks out."""

from collections.abc import Iterator

import grpc

from konomi.errors import InvalidArgument
from konomi.v1 import artifact_pb2, artifact_pb2_grpc
from konomi_chassis.storage.artifacts import Artifact, ArtifactStore

MAX_CHUNK = 1024 * 1024


class ArtifactServicer(artifact_pb2_grpc.ArtifactServiceServicer):
    """Stores and returns artifacts."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

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
        """Streams the bytes, what they are in the first message."""
        artifact = self._store.stat(request.digest)
        yield artifact_pb2.GetArtifactResponse(artifact=to_proto(artifact))
        for chunk in self._store.chunks(request.digest):
            yield artifact_pb2.GetArtifactResponse(chunk=chunk)


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
