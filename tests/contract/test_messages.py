"""Messages written by earlier versions still parse to the same content; `old_messages.json` only ever grows."""

import importlib
import json
from pathlib import Path

import pytest
from google.protobuf import json_format, symbol_database

OLD = json.loads(Path(__file__).with_name("old_messages.json").read_text("utf-8"))
STUBS = [importlib.import_module(f"konomi.v1.{name}_pb2") for name in ("artifact", "generator", "rater", "trainer")]
REQUIRED = {"konomi.v1.RecordLabelsRequest", "konomi.v1.ScoreImagesResponse", "konomi.v1.CreateTrainingRunRequest"}


def message_class(full_name: str):
    (found,) = [getattr(stub, name) for stub in STUBS if hasattr(stub, name := full_name.rpartition(".")[2])]
    assert found.DESCRIPTOR.full_name == full_name
    return found


@pytest.mark.parametrize("old", OLD, ids=lambda old: f"{old['since']} {old['type']}")
def test_an_old_message_still_says_the_same(old):
    message = message_class(old["type"]).FromString(bytes.fromhex(old["hex"]))
    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == old["json"]


@pytest.mark.parametrize("old", OLD, ids=lambda old: f"{old['since']} {old['type']}")
def test_a_new_message_is_still_understood_by_old_readers(old):
    message = json_format.ParseDict(old["json"], message_class(old["type"])())
    assert message.SerializeToString(deterministic=True).hex() == old["hex"]


def test_unknown_fields_of_newer_messages_survive():
    artifact = message_class("konomi.v1.Artifact")
    newer = artifact(digest="a" * 64).SerializeToString() + b"\xfa\x3f\x03new"  # field 1023, as text
    assert artifact.FromString(newer).SerializeToString() == newer


def test_the_messages_that_hold_a_persons_work_are_among_them():
    assert {old["type"] for old in OLD} >= REQUIRED


def test_every_service_is_described():
    pool = symbol_database.Default().pool
    for service in ("ArtifactService", "GeneratorService", "RaterService", "TrainerService"):
        assert pool.FindServiceByName(f"konomi.v1.{service}").methods
