"""The trainer's field rules, by example; the bounds of hyper-parameters are those of a configuration."""

import math

import pytest
from google.protobuf.descriptor import FieldDescriptor

from konomi.errors import InvalidArgument
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.rpc.validation import InvalidFields, check
from konomi_trainer.configuration import BOUNDS, complete
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.servicer.rules import RULES

DIGEST, UUID = "ab" * 32, "0190b2c4-0000-7000-8000-000000000001"


def violations(message):
    try:
        check(message, RULES)
    except InvalidFields as error:
        return {field for field, _ in error.violations}
    return set()


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (pb.GetModelRequest(name="models/unit-1"), set()),
        (pb.GetModelRequest(name="models//etc/passwd"), {"name"}),
    ],
)
def test_examples(message, fields):
    assert violations(message) == fields


def request(**numbers):
    return pb.CreateTrainingRunRequest(
        taste="tastes/a",
        manifest_digest=DIGEST,
        method=pb.TRAINING_METHOD_LORA,
        request_id=UUID,
        base_model="starter",
        parents=["unit-1"],
        hyper_parameters=pb.HyperParameters(**numbers),
    )


def test_training():
    assert violations(request()) == set()
    broken = request(steps=100_001, precision="fp8", learning_rate=math.nan, optimizer="sgd", resolution=100)
    broken.method = 0
    names = ("steps", "precision", "learning_rate", "optimizer", "resolution")
    assert violations(broken) == {"method", *(f"hyper_parameters.{name}" for name in names)}


def outside(name):
    """Returns a number just above the bound; a whole one for whole fields."""
    high = BOUNDS[name][1]
    whole = pb.HyperParameters.DESCRIPTOR.fields_by_name[name].type == FieldDescriptor.TYPE_INT32
    return int(high) + 8 if whole else high * 1.01


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_a_request_and_a_configuration_have_one_set_of_bounds(name):
    high = BOUNDS[name][1]
    path = f"hyper_parameters.{name}"
    assert violations(request(**{name: type(outside(name))(high)})) == set()
    assert violations(request(**{name: outside(name)})) == {path}
    assert violations(request(**{name: -1})) == {path}
    with pytest.raises(InvalidArgument) as caught:
        complete("lora", "starter", DIGEST, 0, {name: outside(name)}, METHODS["lora"].defaults)
    assert caught.value.field == path


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_zero_is_the_default_of_a_plain_number_and_a_number_of_an_optional_one(name):
    message = request(**{name: 0})
    optional = pb.HyperParameters.DESCRIPTOR.fields_by_name[name].has_presence
    refused = optional and BOUNDS[name][0] > 0
    assert violations(message) == ({f"hyper_parameters.{name}"} if refused else set())


def test_methods_are_those_of_the_registry_and_bear_the_numbers_of_the_contract():
    names = {f"TRAINING_METHOD_{name.upper()}": method.number for name, method in METHODS.items()}
    assert {"TRAINING_METHOD_UNSPECIFIED": 0, **names} == dict(pb.TrainingMethod.items())
    for number in range(-1, 9):
        message = request()
        message.method = number
        assert violations(message) == (set() if number in names.values() else {"method"})
