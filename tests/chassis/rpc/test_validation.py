"""The field rules: every request has its entry, every path exists, every limit is exact."""

import math

import pytest
from google.protobuf.descriptor import FieldDescriptor

from konomi.errors import InvalidArgument
from konomi.v1 import artifact_pb2, generator_pb2, rater_pb2, trainer_pb2
from konomi_chassis.rpc.field_rules import text
from konomi_chassis.rpc.validation import RULES, check

MODULES = (artifact_pb2, generator_pb2, rater_pb2, trainer_pb2)
MESSAGES = {name: message for module in MODULES for name, message in module.DESCRIPTOR.message_types_by_name.items()}
REQUESTS = {
    method.input_type.name
    for module in MODULES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
DIGEST, UUID = "ab" * 32, "0190b2c4-0000-7000-8000-000000000001"


def violations(message):
    try:
        check(message)
    except InvalidArgument as error:
        return {field for field, _ in error.violations}
    return set()


def leaves(descriptor):
    return [field for field in descriptor.fields if field.type == FieldDescriptor.TYPE_STRING]


def test_every_request_of_the_contract_has_an_entry_and_there_is_no_other():
    assert set(RULES) == REQUESTS


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_path_leads_to_a_field(name):
    for path in RULES[name]:
        descriptor = MESSAGES[name]
        for part in path.split("."):
            field = descriptor.fields_by_name[part.removesuffix("[]")]
            assert field.is_repeated or not part.endswith("[]"), path
            descriptor = field.message_type


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_every_top_level_text_has_a_rule(name):
    for field in leaves(MESSAGES[name]):
        paths = {field.name, field.name + "[]"}
        assert paths & set(RULES[name]), f"{name}.{field.name} has no rule"


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_where_the_contract_requires_a_request_id_it_is_mandatory(name):
    required = {
        "RecordLabelsRequest",
        "UndoLabelRequest",
        "RecordComparisonRequest",
        "UndoComparisonRequest",
        "RecordBlindAuditRequest",
        "CreateTrainingRunRequest",
        "MergeModelsRequest",
        "PromoteModelRequest",
        "FinishTrainingRunRequest",
        "RollbackModelRequest",
    }
    if "request_id" in MESSAGES[name].fields_by_name:
        rule = RULES[name]["request_id"]
        assert (rule("") is not None) == (name in required)
        assert rule(UUID) is None and rule("7") is not None and rule(UUID + "\n") is not None


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (rater_pb2.GetTasteRequest(name="tastes/default"), set()),
        (rater_pb2.GetTasteRequest(name="tastes/Default"), {"name"}),
        (rater_pb2.GetTasteRequest(name="tastes/" + "a" * 41), {"name"}),
        (rater_pb2.GetTasteRequest(), {"name"}),
        (rater_pb2.CreateTasteRequest(taste_id="a-1"), set()),
        (rater_pb2.CreateTasteRequest(taste_id="../a"), {"taste_id"}),
        (rater_pb2.GetImageRequest(taste="tastes/a", digest=DIGEST), set()),
        (rater_pb2.GetImageRequest(taste="tastes/a", digest=DIGEST.upper()), {"digest"}),
        (rater_pb2.ListLabelsRequest(taste="tastes/a", page_size=1000), set()),
        (rater_pb2.ListLabelsRequest(taste="tastes/a", page_size=1001), {"page_size"}),
        (rater_pb2.ListLabelsRequest(taste="tastes/a", page_size=-1), {"page_size"}),
        (rater_pb2.ScoreImagesRequest(images=[rater_pb2.ImageInput(digest="one bad image is its own error")]), set()),
        (rater_pb2.ScoreImagesRequest(images=[rater_pb2.ImageInput()] * 257), {"images"}),
        (rater_pb2.ScoreImagesRequest(), {"images"}),
        (rater_pb2.SearchImagesRequest(taste="tastes/a", text="a\x00b"), {"text"}),
        (rater_pb2.SearchImagesRequest(taste="tastes/a", image=rater_pb2.ImageInput(digest="no")), {"image.digest"}),
        (rater_pb2.GetRaterVersionRequest(name="tastes/a/raterVersions/active"), set()),
        (rater_pb2.GetRaterVersionRequest(name="tastes/a/raterVersions/../b"), {"name"}),
        (trainer_pb2.GetModelRequest(name="models/unit-1"), set()),
        (trainer_pb2.GetModelRequest(name="models//etc/passwd"), {"name"}),
        (generator_pb2.InspectModelRequest(id="starter"), set()),
        (generator_pb2.InspectModelRequest(id="../starter"), {"id"}),
        (generator_pb2.InspectModelRequest(id=".hidden"), {"id"}),
    ],
)
def test_examples(message, fields):
    assert violations(message) == fields


def selecting(**fields):
    return violations(
        rater_pb2.SelectImagesRequest(**({"taste": "tastes/a", "policy": "converge", "count": 5} | fields))
    )


def test_ranges_are_exact_and_numbers_finite():
    assert selecting(base_share=0.9, typicality_percentile=50, count=10_000) == set()
    assert selecting(base_share=0.91, typicality_percentile=49.9, count=10_001) == {
        "base_share",
        "typicality_percentile",
        "count",
    }
    for value in (math.nan, math.inf, -math.inf):
        assert selecting(kappa=value) == {"kappa"}
    assert selecting(policy="anything") == {"policy"}


def test_an_unset_optional_field_has_no_range():
    assert selecting() == set()
    assert selecting(typicality_percentile=0) == {"typicality_percentile"}


def test_filters_are_checked_inside():
    bad = rater_pb2.ImageFilter(digests=[DIGEST, "x"], grades=[0, 6], sources=[0], min_utility=9)
    assert violations(rater_pb2.ListImagesRequest(taste="tastes/a", filter=bad)) == {
        "filter.digests[1]",
        "filter.grades[1]",
        "filter.sources[0]",
        "filter.min_utility",
    }


def test_generation():
    good = generator_pb2.ImageRequest(prompt="a portrait", seed=-1)
    assert violations(generator_pb2.GenerateImagesRequest(images=[good])) == set()
    bad = generator_pb2.GenerateImagesRequest(
        base_model="/models/x",
        adapters=[generator_pb2.Adapter(digest="x", scale=2.5)],
        images=[good, generator_pb2.ImageRequest(prompt="x" * 4097, init_digest="x", strength=1.5)],
        steps=201,
        guidance_scale=0.5,
        width=513,
        height=8192,
        scheduler="os.system",
        negative_prompt="\n",
    )
    assert violations(bad) == {
        "base_model", "adapters[0].digest", "adapters[0].scale", "images[1].prompt", "images[1].init_digest",
        "images[1].strength", "steps", "guidance_scale", "width", "height", "scheduler", "negative_prompt",
    }  # fmt: skip


def test_training():
    request = trainer_pb2.CreateTrainingRunRequest(
        taste="tastes/a", manifest_digest=DIGEST, method=1, request_id=UUID, base_model="starter", parents=["unit-1"]
    )
    assert violations(request) == set()
    request.hyper_parameters.steps, request.hyper_parameters.precision = 100_001, "fp8"
    request.hyper_parameters.learning_rate = math.nan
    request.method = 0
    assert violations(request) == {
        "hyper_parameters.steps",
        "hyper_parameters.precision",
        "hyper_parameters.learning_rate",
        "method",
    }


@pytest.mark.parametrize("letter", ["\0", "\n", "\t", "\x1b", "\x7f", "\x85"])
def test_text_holds_no_control_characters(letter):
    assert text()("before" + letter) is not None


def test_text_is_measured_in_bytes():
    assert text()("あ" * 1365) is None
    assert text()("あ" * 1366) is not None
