"""What the stand-ins know of sets that grow and of taught words: the gate by colour, words in a run, merged models."""

import hashlib
import json
import math

from konomi.v1 import rater_pb2, trainer_pb2

COPY = 4
"""Largest difference of a colour's parts at which an image is a copy of an original."""


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
