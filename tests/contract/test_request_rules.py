"""Every request of every service has field rules, each in its own service, and every path leads to a field."""

from itertools import chain

import pytest
from google.protobuf.descriptor import FieldDescriptor

from konomi.v1 import artifact_pb2, generator_pb2, rater_pb2, trainer_pb2
from konomi_chassis.rpc.validation import ARTIFACT_RULES
from konomi_generator.rules import RULES as GENERATOR_RULES
from konomi_rater.servicer.rules import RULES as RATER_RULES
from konomi_trainer.servicer.rules import RULES as TRAINER_RULES

TABLES = {
    artifact_pb2: ARTIFACT_RULES,
    generator_pb2: GENERATOR_RULES,
    rater_pb2: RATER_RULES,
    trainer_pb2: TRAINER_RULES,
}
RULES = {name: rules for table in TABLES.values() for name, rules in table.items()}
REQUESTS = {
    method.input_type.name: method.input_type
    for module in TABLES
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
UUID = "0190b2c4-0000-7000-8000-000000000001"


@pytest.mark.parametrize("module", TABLES, ids=lambda module: module.__name__.rpartition(".")[2])
def test_every_rpc_of_a_service_has_rules_and_there_are_no_others(module):
    methods = chain.from_iterable(service.methods for service in module.DESCRIPTOR.services_by_name.values())
    assert set(TABLES[module]) == {method.input_type.name for method in methods}


@pytest.mark.parametrize("name", sorted(RULES))
def test_every_path_leads_to_a_field(name):
    for path in RULES[name]:
        descriptor = REQUESTS[name]
        for part in path.split("."):
            field = descriptor.fields_by_name[part.removesuffix("[]")]
            assert field.is_repeated or not part.endswith("[]"), path
            descriptor = field.message_type


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_every_top_level_text_has_a_rule(name):
    for field in REQUESTS[name].fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            assert {field.name, field.name + "[]"} & set(RULES[name]), f"{name}.{field.name} has no rule"


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
    if "request_id" in REQUESTS[name].fields_by_name:
        rule = RULES[name]["request_id"]
        assert (rule("") is not None) == (name in required)
        assert rule(UUID) is None and rule("7") is not None and rule(UUID + "\n") is not None
