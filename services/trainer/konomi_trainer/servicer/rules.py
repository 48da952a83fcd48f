"""Field rules of the requests of konomi.v1.TrainerService."""

from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.families.quantization import NAMES
from konomi_chassis.rpc.field_rules import (
    BASE_OR_NONE,
    DIGEST,
    DIGEST_OR_NONE,
    PAGE,
    PART,
    TASTE,
    TASTE_OR_NONE,
    UUID,
    UUID_OR_NONE,
    RequestRules,
    Rule,
    between,
    count,
    digests,
    enum_value,
    multiple,
    pattern,
    text,
)
from konomi_trainer.configuration import ASKED_PRECISIONS, BOUNDS, OPTIMIZERS

RUN = pattern(f"trainingRuns/{PART}", '"trainingRuns/{run}"')
MODEL = pattern(f"models/{PART}", '"models/{model}"')
MODEL_OR_BASE_OR_NONE = pattern(f"base|models/{PART}", '"models/{model}" or "base"', optional=True)


def _training_method(value: int) -> str | None:
    """The rule of TrainingMethod: one of the contract's, or what the registry holds when the request comes."""
    if value and value in pb.TrainingMethod.values():
        return None
    from konomi_trainer.methods import registry  # it brings torch, which only an unknown number is worth

    numbers = {method.number for method in registry.METHODS.values()}
    return None if value in numbers else f"one of the training methods was expected; {value} came."


def _hyper_parameters() -> dict[str, Rule]:
    """Returns the rules of HyperParameters by the bounds of a configuration; 0 of a plain number is its default."""
    fields = pb.HyperParameters.DESCRIPTOR.fields_by_name
    rules = {name: between(*BOUNDS[name], optional=not fields[name].has_presence) for name in BOUNDS}
    rules["resolution"] = multiple(8, int(BOUNDS["resolution"][1]))
    rules["precision"] = _one_of(ASKED_PRECISIONS)
    rules["optimizer"] = _one_of(OPTIMIZERS)
    rules["quantization"] = _one_of(NAMES)
    return {f"hyper_parameters.{name}": rule for name, rule in rules.items()}


def _one_of(names: tuple[str, ...]) -> Rule:
    quoted = [f'"{name}"' for name in names]
    return pattern("|".join(names), f"{', '.join(quoted[:-1])} or {quoted[-1]}", optional=True)


RULES: RequestRules = {
    "CreateTrainingRunRequest": {
        "taste": TASTE,
        "manifest_digest": DIGEST,
        "method": _training_method,
        "base_model": BASE_OR_NONE,
        **_hyper_parameters(),
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
        "format": enum_value(pb.ExportFormat),
        "thumbnail_digest": DIGEST_OR_NONE,
        "author": text(200),
    },
    "PromoteModelRequest": {"name": MODEL, "request_id": UUID},
    "RollbackModelRequest": {"taste": TASTE, "request_id": UUID, "to": MODEL_OR_BASE_OR_NONE},
    "CollectCheckpointsRequest": {"checkpoint_seconds": between(0, 1e10), "request_id": UUID_OR_NONE},
    "ExportLineageRequest": {"taste": TASTE},
    "ImportLineageRequest": {"rows_digest": DIGEST, "taste": TASTE_OR_NONE, "request_id": UUID_OR_NONE},
}
