"""Global rules of the tests: no stray settings, one thread per process, no network hubs, one live site for a folder."""

import gc
import os
import sys
from collections.abc import Iterator

import pytest

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")

# A container may forbid bytecode. Hundreds of commands and services start here, and each would compile konomi anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False


@pytest.fixture(autouse=True)
def _no_konomi_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never see, and never write to, the home of whoever runs them."""
    for name in [name for name in os.environ if name.startswith("KONOMI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path_factory.getbasetemp() / "no-home-was-given"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[object]:
    """A PostgreSQL server (tests/postgresql.py), started once a session."""
    from tests.postgresql import binaries, serving

    found = binaries()
    if found is None:
        pytest.skip("needs PostgreSQL's server: neither initdb on the path nor /usr/lib/postgresql (apt: postgresql)")
    with serving(found) as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def rows(request: pytest.FixtureRequest) -> object:
    """Runs a test twice, on SQLite files of its homes and on a PostgreSQL database for each of them."""
    from tests.postgresql import Rows

    return Rows(None if request.param == "sqlite" else request.getfixturevalue("postgresql"))


@pytest.fixture
def kept_in(request: pytest.FixtureRequest) -> object:
    """Where the rows of a test's services are: SQLite, and where its module says BOTH_ENGINES PostgreSQL too."""
    from tests.postgresql import Rows

    engine = getattr(request, "param", "sqlite")
    return Rows(None if engine == "sqlite" else request.getfixturevalue("postgresql"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests of a module that says BOTH_ENGINES on both, those that have a service; of all, where one asks."""
    both = getattr(metafunc.module, "BOTH_ENGINES", False) or os.environ.get("BOTH_ENGINES")
    chosen = any("kept_in" in mark.args[0] for mark in metafunc.definition.iter_markers("parametrize"))
    if "kept_in" in metafunc.fixturenames and both and not chosen:
        metafunc.parametrize("kept_in", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)


TOGETHER = ("tests/client/web/", "tests/plugins/")
"""Folders whose tests share a live rater, which takes many seconds to start: they stay on one worker."""
LONGEST = (
    "tests/client/evaluation/test_demo_starter.py",
    "tests/client/night/engine/test_workflow.py",
    "tests/trainer/executors/test_cluster_trainer.py",
    "tests/trainer/jobs/test_own_process.py",
    "tests/trainer/jobs/test_kill.py",
    "tests/trainer/training/test_ranks.py",
    "tests/trainer/base_models/test_published_layouts.py",
    "tests/chaos/test_night_kills.py",
    "tests/generator/test_published_layouts.py",
    "tests/client/cli/test_cli_storage.py",
    "tests/contract/test_imports.py",
    "tests/rater/storage/test_labels.py",
)
"""Few tests, each long: they begin first, since the files with the fewest tests else come last and a worker waits."""


STARTERS = frozenset(
    [
        "base_model",
        "bases",
        "bench",
        "chromium",
        "command_line",
        "extension",
        "fitted_home",
        "fresh",
        "generator",
        "layout",
        "live",
        "models",
        "nights_module",
        "rater",
        "site",
        "stand_ins_path",
        "unbroken",
        "wheel",
    ]
)
"""Fixtures that start a service or a browser, build the wheel or make a model of a real layout: they take seconds."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every test that uses such a fixture as slow, before the marks are chosen from."""
    for item in items:
        if STARTERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leaves all that was imported out of every later search for cycles: it stays, and there are millions of objects.

    What gives memory back searches after every phase of a request that runs short, which took a second each.
    """
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Lets the interpreter's end find them: libraries in C++ complain of what is left then."""
    gc.unfreeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Hands files to workers as `--dist loadfile` does, and the folders above whole."""
    from xdist.scheduler import LoadFileScheduling

    class ByFileOrFolder(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            folder = next((folder for folder in TOGETHER if nodeid.startswith(folder)), None)
            return folder or super()._split_scope(nodeid)

        def _assign_work_unit(self, node: object) -> None:
            for file in reversed([file for file in LONGEST if file in self.workqueue]):
                self.workqueue.move_to_end(file, last=False)
            super()._assign_work_unit(node)

    return ByFileOrFolder(config, log) if config.getoption("dist") == "loadfile" else None
