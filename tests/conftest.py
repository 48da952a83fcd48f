"""Global rules of the tests: no stray settings from the environment, one thread per process, no network hubs."""

import os

import pytest

os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE", HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")


@pytest.fixture(autouse=True)
def _no_konomi_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests never see, and never write to, the home of whoever runs them."""
    for name in [name for name in os.environ if name.startswith("KONOMI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("KONOMI_HOME", str(tmp_path_factory.getbasetemp() / "no-home-was-given"))
