"""The generated stubs fit the versions konomi declares: an older grpcio or protobuf would refuse them at import."""

import re
import tomllib

import pytest

from tests.contract.source_tree import PACKAGES, ROOT

V1 = PACKAGES["konomi"] / "v1"
SERVICES = ("artifact", "generator", "rater", "trainer")


def _declared(name: str) -> tuple[int, ...]:
    """Returns the lower bound `name>=` of the base install."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    (bound,) = [match[1] for text in dependencies if (match := re.fullmatch(rf"{name}>=([\d.]+)", text))]
    return tuple(int(part) for part in bound.split("."))


def _pinned(name: str) -> tuple[int, ...]:
    """Returns the version of `name` in constraints.txt."""
    (version,) = re.findall(rf"^{name}==([\d.]+)", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    return tuple(int(part) for part in version.split("."))


@pytest.mark.parametrize("service", SERVICES)
def test_grpcio_is_no_older_than_the_generator(service):
    (version,) = re.findall(r"GRPC_GENERATED_VERSION = '([\d.]+)'", (V1 / f"{service}_pb2_grpc.py").read_text("utf-8"))
    generated = tuple(int(part) for part in version.split("."))
    assert generated <= _declared("grpcio")
    assert generated <= _declared("grpcio-status")
    assert generated <= _pinned("grpcio")


@pytest.mark.parametrize("service", SERVICES)
def test_protobuf_is_no_older_than_the_generator(service):
    (version,) = re.findall(r"# Protobuf Python Version: ([\d.]+)", (V1 / f"{service}_pb2.py").read_text("utf-8"))
    generated = tuple(int(part) for part in version.split("."))
    assert generated <= _declared("protobuf")
    assert generated <= _pinned("protobuf")


@pytest.mark.parametrize("service", SERVICES)
def test_service_stubs_are_typed(service):
    assert (V1 / f"{service}_pb2.pyi").exists() and (V1 / f"{service}_pb2_grpc.pyi").exists()


def test_every_proto_file_has_its_stubs():
    assert {path.stem for path in (ROOT / "proto/konomi/v1").glob("*.proto")} == set(SERVICES)


def test_the_generators_are_the_pinned_ones():
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["hooks"]["protobuf"]
    for requirement in hook["dependencies"]:
        name, version = requirement.split("==")
        assert _pinned(name) == tuple(int(part) for part in version.split("."))
