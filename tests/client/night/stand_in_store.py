"""What the stand-ins keep: pictures of one colour, files by digest, durable maps, sets that grow, taught words."""

import hashlib
import json
import math
import os
import sqlite3
import struct
import threading
import zlib
from pathlib import Path

from konomi.v1 import artifact_pb2, rater_pb2, trainer_pb2

COPY = 4
"""Largest difference of a colour's parts at which an image is a copy of an original."""


def noise(*parts) -> float:
    """Returns a number in 0..1 that depends on the parts alone."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def png(red: int, green: int, blue: int) -> bytes:
    """Returns a 4 x 4 PNG of one colour."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes((red, green, blue)) * 4 for _ in range(4))
    header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(rows)) + part(b"IEND", b"")


def colour(data: bytes) -> tuple[int, int, int]:
    """Returns the colour of such a PNG."""
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    pixels = zlib.decompress(data[start : start + size])
    return tuple(pixels[1:4])


class Store:
    """Artifacts as files named by digest."""

    def __init__(self, home: Path) -> None:
        self.folder = home / "artifacts"
        self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, data: bytes, media_type: str) -> artifact_pb2.Artifact:
        digest = hashlib.sha256(data).hexdigest()
        temporary = self.folder / f".{digest}.{os.getpid()}.{threading.get_ident()}"
        temporary.write_bytes(data)
        temporary.replace(self.folder / digest)
        return artifact_pb2.Artifact(digest=digest, media_type=media_type, size_bytes=len(data))

    def get(self, digest: str) -> bytes:
        return (self.folder / digest).read_bytes()


class Table:
    """A durable map from text to JSON, in the order of insertion."""

    def __init__(self, home: Path, name: str) -> None:
        (home / "databases").mkdir(parents=True, exist_ok=True)
        self.connection = sqlite3.connect(home / "databases" / f"stand-in-{name}.sqlite", check_same_thread=False)
        self.connection.execute("CREATE TABLE IF NOT EXISTS t (k TEXT PRIMARY KEY, v TEXT)")
        self.lock = threading.Lock()

    def put(self, key: str, value) -> bool:
        """Returns false, and changes nothing, where the key is known."""
        with self.lock, self.connection:
            return self.connection.execute("INSERT OR IGNORE INTO t VALUES (?, ?)", (key, json.dumps(value))).rowcount

    def replace(self, key: str, value) -> None:
        with self.lock, self.connection:
            self.connection.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, json.dumps(value)))

    def get(self, key: str):
        with self.lock:
            row = self.connection.execute("SELECT v FROM t WHERE k = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def items(self):
        with self.lock:
            return [(k, json.loads(v)) for k, v in self.connection.execute("SELECT k, v FROM t ORDER BY rowid")]


def log_call(home: Path, *words) -> None:
    """Appends what was really done, so that a test can count repetitions."""
    with (home / "calls.log").open("a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def released(selections: Table, purposes) -> rater_pb2.ReleaseSelectionsResponse:
    """Lets the choices for some purposes weigh nothing."""
    found = [(key, one) for key, one in selections.items() if one["purpose"] in purposes and one["nats"]]
    for key, one in found:
        selections.replace(key, {**one, "nats": 0.0})
    return rater_pb2.ReleaseSelectionsResponse(released=len(found))


def grown(rater, request, colour) -> rater_pb2.SelectImagesResponse:
    """Takes in what is as red as the least member and no copy of an original, the reddest first."""
    inside = {*request.originals, *request.members}
    wanted = set(request.candidates.digests)
    known = {digest: image for digest, image in rater.images.items() if digest in wanted and digest not in inside}
    least = min(rater.redness(digest) for digest in inside)
    reply = rater_pb2.SelectImagesResponse(considered=len(known), rater_version="tastes/default/raterVersions/1")
    passed, liked = [], 0
    for digest in known:
        parts = [colour(rater.store.get(one)) for one in (digest, *request.originals)]
        far = min(max(abs(a - b) for a, b in zip(parts[0], other, strict=True)) for other in parts[1:])
        liked += rater.redness(digest) >= least
        if far <= COPY:
            reply.rejections.add(digest=digest, reason=rater_pb2.REJECTION_REASON_NEAR_COPY)
        elif rater.redness(digest) < least:
            reply.rejections.add(digest=digest, reason=rater_pb2.REJECTION_REASON_LOWER_BOUND)
        else:
            passed.append(digest)
    passed.sort(key=lambda digest: (-rater.redness(digest), digest))
    room = min(request.count, len(inside))
    for digest in passed[:room]:
        reply.selected.add(digest=digest, prompt=known[digest]["prompt"], role=1, weight=1)
    for digest in passed[room:]:
        reply.rejections.add(digest=digest, reason=rater_pb2.REJECTION_REASON_SURPLUS)
    if passed:
        reply.kept_share = liked / len(known)
        reply.pressure_nats = -math.log(reply.kept_share)
        reply.diversity.CopyFrom(rater.diversity(passed[:room]))
    cosines = [0.8] * len(passed[:room])
    reply.growth.CopyFrom(
        rater_pb2.Growth(
            low=0.5, high=0.95, mean_cosine=0.7, standard_error=0.01, passed=len(passed), liked=liked, cosines=cosines
        )
    )
    return reply


def words_of(request) -> list[list[str]]:
    """Returns the words of a training run as JSON has them."""
    return [[concept.token, concept.class_word] for concept in request.concepts]


def concepts(words) -> list[trainer_pb2.Concept]:
    """Returns words as the contract has them."""
    return [trainer_pb2.Concept(token=token, class_word=class_word) for token, class_word in words]


def merged(found: list[dict], request) -> tuple[str, dict]:
    """Returns id and record of a merge of models."""
    record = {
        "adapter": found[0]["adapter"],
        "name": request.display_name,
        "night": "",
        "manifest": found[0]["manifest"],
        "words": [word for one in found for word in one.get("words", [])],
    }
    key = hashlib.sha256(json.dumps([request.request_id, record], sort_keys=True).encode()).hexdigest()[:12]
    return f"models/{key}", record
