"""Field rules of the requests of konomi.v1.RaterService."""

from konomi.v1 import rater_pb2 as pb
from konomi_chassis.rpc.field_rules import (
    BASE_OR_NONE,
    DIGEST,
    DIGEST_OR_NONE,
    PAGE,
    PART,
    TASTE,
    TASTE_ID,
    TASTE_OR_NONE,
    UUID,
    UUID_OR_NONE,
    RequestRules,
    Rule,
    between,
    count,
    digests,
    enum_value,
    pattern,
    text,
)
from konomi_rater.usecases.exploration import MOST_RANKED

LABEL_OR_NONE = pattern(f"tastes/{TASTE_ID}/labels/{PART}", '"tastes/{id}/labels/{label}"', optional=True)
COMPARISON_OR_NONE = pattern(
    f"tastes/{TASTE_ID}/comparisons/{PART}", '"tastes/{id}/comparisons/{comparison}"', optional=True
)
VERSION = pattern(f"tastes/{TASTE_ID}/raterVersions/{PART}", '"tastes/{id}/raterVersions/{version}"')
VERSION_OR_NONE = pattern(
    f"tastes/{TASTE_ID}/raterVersions/[0-9]{{1,15}}", '"tastes/{id}/raterVersions/{version}"', optional=True
)
CERTIFICATE = pattern(f"tastes/{TASTE_ID}/certificates/{PART}", '"tastes/{id}/certificates/{certificate}"')


def image_filter(field: str) -> dict[str, Rule]:
    """Returns the rules of an ImageFilter in a field."""
    return {
        f"{field}.prompt_contains": text(),
        f"{field}.path_contains": text(1024),
        f"{field}.digests[]": DIGEST,
        f"{field}.units[]": text(200),
        f"{field}.nights[]": text(200),
        f"{field}.grades[]": enum_value(pb.Grade, optional=True),
        f"{field}.sources[]": enum_value(pb.Source),
        f"{field}.min_utility": between(1, 5),
        f"{field}.min_novelty": between(0, 2),
    }


RULES: RequestRules = {
    "CreateTasteRequest": {
        "taste_id": pattern(TASTE_ID, "1 to 40 lower-case letters, digits and hyphens"),
        "taste.display_name": text(200),
        "taste.embedder": text(400),
        "taste.base_model": BASE_OR_NONE,
        "request_id": UUID_OR_NONE,
    },
    "GetTasteRequest": {"name": TASTE},
    "ListTastesRequest": PAGE,
    "AddImagesRequest": {"taste": TASTE_OR_NONE},
    "GetImageRequest": {"taste": TASTE, "digest": DIGEST},
    "ListImagesRequest": {
        "taste": TASTE,
        **image_filter("filter"),
        **PAGE,
        "order_by": text(64),
        "skip": between(0, 2**31 - 1),
    },
    "RecordLabelsRequest": {
        "taste": TASTE,
        "labels": count(1, 1000),
        "labels[].image_digest": DIGEST,
        "labels[].grade": enum_value(pb.Grade, optional=True),
        "labels[].labeller": text(200),
        "labels[].reason": enum_value(pb.SuggestionReason, optional=True),
        "request_id": UUID,
    },
    "UndoLabelRequest": {"taste": TASTE, "name": LABEL_OR_NONE, "request_id": UUID},
    "ListLabelsRequest": {"taste": TASTE, **PAGE},
    "RecordComparisonRequest": {
        "taste": TASTE,
        "comparison.winner_digest": DIGEST,
        "comparison.loser_digest": DIGEST,
        "comparison.labeller": text(200),
        "request_id": UUID,
    },
    "UndoComparisonRequest": {"taste": TASTE, "name": COMPARISON_OR_NONE, "request_id": UUID},
    "FitRaterRequest": {"taste": TASTE, "request_id": UUID_OR_NONE},
    "GetRaterVersionRequest": {"name": VERSION},
    "ListRaterVersionsRequest": {"taste": TASTE, **PAGE},
    "ActivateRaterVersionRequest": {"name": VERSION, "request_id": UUID_OR_NONE},
    "ScoreImagesRequest": {"taste": TASTE_OR_NONE, "images": count(1, 256), "rater_version": VERSION_OR_NONE},
    "ScoreImageStreamRequest": {"taste": TASTE_OR_NONE, "key": text()},
    "SuggestImagesRequest": {
        "taste": TASTE,
        "count": between(0, 1000),
        "novel": between(0, 1000),
        **image_filter("filter"),
    },
    "SelectImagesRequest": {
        "taste": TASTE,
        "policy": pattern("converge|golden|conformal|propagate", '"converge", "golden", "conformal" or "propagate"'),
        **digests("originals", 0, 16),
        **digests("members", 0, 4096),
        **image_filter("candidates"),
        "count": between(1, 10_000),
        "base_share": between(0, 0.9),
        "kappa": between(-100, 100),
        "quota": between(0, 1e6),
        "duplicate_cosine": between(-1, 1),
        "typicality_percentile": between(50, 100),
        "base_units[]": text(200),
        "prompt_quota": between(0, 1e6),
        "false_discovery_rate": between(0, 1),
        "spread": pattern("farthest_point|facility_location", '"farthest_point" or "facility_location"', optional=True),
        **digests("training_sources", 0, 50_000),
        "near_copy_cosine": between(-1, 1),
        "certificates": count(0, 32),
        "certificates[]": CERTIFICATE,
        "fill_to": between(0, 10_000),
        "rater_version": VERSION_OR_NONE,
    },
    "MeasureImagesRequest": {
        "taste": TASTE,
        **digests("digests", 2, 1000),
        **digests("reference", 0, 1000),
        **digests("training_sources", 0, 10_000),
        "near_copy_cosine": between(-1, 1),
    },
    "RecordConsentRequest": {
        "taste": TASTE,
        "consent.reference": text(400),
        "consent.giver": text(400),
        "consent.licence": text(400),
        "request_id": UUID_OR_NONE,
    },
    "ListConsentsRequest": {"taste": TASTE, **PAGE},
    "RevokeImagesRequest": {
        "taste": TASTE,
        "consent": text(400),
        **digests("digests", 0, 1000),
        "why": text(400),
        "request_id": UUID_OR_NONE,
    },
    "ListRevocationsRequest": {"taste": TASTE, **PAGE},
    "SearchImagesRequest": {
        "taste": TASTE,
        "text": text(),
        "image.digest": DIGEST,
        "count": between(0, 1000),
        "skip": between(0, MOST_RANKED - 1),
    },
    "ExploreNoveltyRequest": {
        "taste": TASTE,
        "count": between(0, 1000),
        **image_filter("filter"),
        "cells": between(0, 4096),
    },
    "AdviseEmbedderRequest": {"taste": TASTE},
    "ChangeEmbedderRequest": {"taste": TASTE, "embedder": text(400), "request_id": UUID_OR_NONE},
    "CertifySetRequest": {
        "taste": TASTE,
        **digests("digests", 1, 10_000),
        "alpha": between(0, 1),
        "delta": between(0, 1),
        "threshold": enum_value(pb.Grade, optional=True),
        "request_id": UUID_OR_NONE,
        "allowed_rejections": between(0, 50),
        "stages": count(0, 32),
    },
    "RecordAuditRequest": {
        "name": CERTIFICATE,
        "labels": count(0, 1000),
        "labels[].image_digest": DIGEST,
        "labels[].grade": enum_value(pb.Grade),
        "labels[].labeller": text(200),
        "request_id": UUID_OR_NONE,
    },
    "RecordBlindAuditRequest": {
        "taste": TASTE,
        "audit.night": text(200),
        "audit.unit": pattern(PART, "a model id"),
        "audit.against": pattern(PART, '"base" or a model id'),
        "audit.pairs": count(1, 500),
        "audit.pairs[].unit_digest": DIGEST,
        "audit.pairs[].against_digest": DIGEST,
        "audit.pairs[].choice": enum_value(pb.BlindChoice),
        "audit.labeller": text(200),
        "request_id": UUID,
    },
    "CollectImagesRequest": {
        "taste": TASTE_OR_NONE,
        "rejected_seconds": between(0, 1e10),
        "keep_units": between(0, 1000),
        **digests("keep_digests", 0, 100_000),
        **digests("keep_artifacts", 0, 10_000),
        "keep_nights": count(0, 10_000),
        "keep_nights[]": text(200),
        "page_token": DIGEST_OR_NONE,
        "request_id": UUID_OR_NONE,
    },
    "ExportTasteRequest": {"taste": TASTE},
    "ImportTasteRequest": {"rows_digest": DIGEST, "taste": TASTE_OR_NONE, "request_id": UUID_OR_NONE},
}
