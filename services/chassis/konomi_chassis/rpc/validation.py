"""Field rules of the contract's requests, as one declarative table, and the check that applies them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from konomi.errors import InvalidArgument
from konomi_chassis.rpc.field_rules import (
    BASE,
    BASE_OR_NONE,
    CERTIFICATE,
    COMPARISON_OR_NONE,
    DIGEST,
    DIGEST_OR_NONE,
    HYPER_PARAMETERS,
    LABEL_OR_NONE,
    MODEL,
    MODEL_OR_BASE_OR_NONE,
    PAGE,
    PART,
    RUN,
    TASTE,
    TASTE_ID,
    TASTE_OR_NONE,
    UUID,
    UUID_OR_NONE,
    VERSION,
    Rule,
    between,
    count,
    digests,
    image_filter,
    known,
    multiple,
    pattern,
    text,
)


class InvalidFields(InvalidArgument):
    """One or more fields break their rules; `violations` holds (path, sentence) of each."""

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        path, text = violations[0]
        super().__init__(f"{path}: {text}", reason="FIELD_INVALID", field=path)
        self.violations = tuple(violations)


RULES: Mapping[str, Mapping[str, Rule]] = {
    "PutArtifactRequest": {"header.digest": DIGEST, "header.request_id": UUID_OR_NONE},
    "GetArtifactRequest": {"digest": DIGEST},
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
        "labels[].grade": known(0, 5),
        "labels[].labeller": text(200),
        "labels[].reason": known(0, 8),
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
    "ScoreImagesRequest": {"taste": TASTE_OR_NONE, "images": count(1, 256)},
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
    "SearchImagesRequest": {"taste": TASTE, "text": text(), "image.digest": DIGEST, "count": between(0, 1000)},
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
        "threshold": known(0, 5),
        "request_id": UUID_OR_NONE,
        "allowed_rejections": between(0, 50),
        "stages": count(0, 32),
    },
    "RecordAuditRequest": {
        "name": CERTIFICATE,
        "labels": count(0, 1000),
        "labels[].image_digest": DIGEST,
        "labels[].grade": known(1, 5),
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
        "audit.pairs[].choice": known(1, 3),
        "audit.labeller": text(200),
        "request_id": UUID,
    },
    "ListBaseModelsRequest": {},
    "InspectModelRequest": {"id": BASE},
    "GenerateImagesRequest": {
        "base_model": BASE_OR_NONE,
        "adapters": count(0, 16),
        "adapters[].digest": DIGEST,
        "adapters[].scale": between(0, 2),
        "images": count(1, 10_000),
        "images[].prompt": text(),
        "images[].init_digest": DIGEST_OR_NONE,
        "images[].strength": between(0, 1),
        "negative_prompt": text(),
        "steps": between(0, 200),
        "guidance_scale": between(1, 30),
        "width": multiple(8, 4096),
        "height": multiple(8, 4096),
        "scheduler": pattern(r"[A-Za-z0-9]{1,64}", "the name of a diffusers scheduler", optional=True),
        "batch_size": between(0, 256),
        "unit": text(200),
        "night": text(200),
        "request_id": UUID_OR_NONE,
        "base_share": between(0, 1),
        "condition_annealing.clean_below": between(0, 1),
        "condition_annealing.noise_above": between(0, 1),
        "condition_annealing.noise_scale": between(0, 2),
        "condition_annealing.rescaled_share": between(0, 1),
        "preview_every": between(0, 200),
    },
    "CreateTrainingRunRequest": {
        "taste": TASTE,
        "manifest_digest": DIGEST,
        "method": known(1, 5),
        "base_model": BASE_OR_NONE,
        **HYPER_PARAMETERS,
        "request_id": UUID,
        "display_name": text(200),
        "parents[]": pattern(f"(models/)?{PART}", "a model id"),
        "rater_version": text(200),
        "night": text(200),
        "reports.sample_prompts": count(0, 8),
        "reports.sample_prompts[]": text(),
        "reports.sample_steps": between(0, 100),
        "concepts": count(0, 16),
        "concepts[].token": text(33),
        "concepts[].class_word": text(64),
        "concepts[].initial_word": text(64),
    },
    "RetrieveImagesRequest": {
        "taste": TASTE,
        "candidates_digest": DIGEST,
        "prompts": count(1, 64),
        "prompts[]": text(),
        **digests("concept_digests", 0, 1000),
        "limit": between(0, 10_000),
        "min_text_similarity": between(-1, 1),
        "min_image_similarity": between(-1, 1),
    },
    "WatchTrainingRunRequest": {"name": RUN},
    "GetTrainingRunRequest": {"name": RUN},
    "ListTrainingRunsRequest": PAGE,
    "CancelTrainingRunRequest": {"name": RUN, "request_id": UUID_OR_NONE},
    "FinishTrainingRunRequest": {"name": RUN, "step": between(0, 100_000), "request_id": UUID},
    "ListModelsRequest": {"taste": TASTE_OR_NONE, **PAGE},
    "GetModelRequest": {"name": MODEL},
    "MergeModelsRequest": {
        "names": count(2, 64),
        "names[]": MODEL,
        "display_name": text(200),
        "request_id": UUID,
        "captions": count(0, 10_000),
        "captions[]": text(),
        "keep_mass": between(0, 1),
    },
    "ExportModelRequest": {
        "name": MODEL,
        "format": known(1, 6),
        "thumbnail_digest": DIGEST_OR_NONE,
        "author": text(200),
    },
    "PromoteModelRequest": {"name": MODEL, "request_id": UUID},
    "RollbackModelRequest": {"taste": TASTE, "request_id": UUID, "to": MODEL_OR_BASE_OR_NONE},
    "ExportTasteRequest": {"taste": TASTE},
    "ExportLineageRequest": {"taste": TASTE},
    "ImportTasteRequest": {"rows_digest": DIGEST, "taste": TASTE_OR_NONE, "request_id": UUID_OR_NONE},
    "ImportLineageRequest": {"rows_digest": DIGEST, "taste": TASTE_OR_NONE, "request_id": UUID_OR_NONE},
}
"""The one table: request message to its fields' rules; "a.b" descends, "a[]" means each item."""


def check(request: Any) -> None:
    """Raises InvalidFields, with every violation, unless the request keeps its rules.

    A field with explicit presence, or inside a message, is checked only when it was set.
    """
    violations = []
    for path, rule in RULES.get(request.DESCRIPTOR.name, {}).items():
        for where, value in _values(request, path.split("."), ""):
            wrong = rule(value)
            if wrong is not None:
                violations.append((where, wrong))
    if violations:
        raise InvalidFields(violations[:32])


def _values(message: Any, parts: list[str], where: str) -> Iterator[tuple[str, Any]]:
    name, rest = parts[0].removesuffix("[]"), parts[1:]
    place = f"{where}.{name}" if where else name
    if parts[0].endswith("[]"):
        items = [(f"{place}[{index}]", item) for index, item in enumerate(getattr(message, name))]
    elif message.DESCRIPTOR.fields_by_name[name].has_presence and not message.HasField(name):
        return
    else:
        items = [(place, getattr(message, name))]
    for found, value in items:
        if rest:
            yield from _values(value, rest, found)
        else:
            yield found, value
