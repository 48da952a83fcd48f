"""Whether a machine of a cluster has the libraries of the service: what counts as another, and what is said of it."""

from importlib.metadata import version

import pytest

from konomi_chassis.cluster import versions
from konomi_chassis.cluster.versions import DRAWING, EMBEDDING, TRAINING, difference, installed


def test_a_machine_like_the_service_is_fit() -> None:
    for names in (DRAWING, EMBEDDING, TRAINING):
        assert installed(names)["torch"] and installed(names)["konomi"]
        assert difference(installed(names)) is None


def test_another_version_is_named_with_the_line_that_mends_it() -> None:
    own = version("numpy")
    error = difference(installed(["torch", "pillow"]) | {"numpy": "1.0", "pillow": "2.0"})
    assert error is not None and error.reason == "VERSIONS_DIFFER"
    assert f"numpy {own} in place of 1.0" in error.message and "torch" not in error.message
    assert 'Run there: pip install "pillow==2.0" "numpy==1.0". Then restart the service.' in error.message


def test_how_a_library_was_built_and_what_one_side_lacks_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    service = {"torch": "2.15.0", "bitsandbytes": "0.48", "timm": ""}
    found = {"torch": "2.15.0+cpu", "timm": "1.0"}

    def of(name: str) -> str:
        if name not in found:
            raise versions.PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(versions, "version", of)
    assert difference(service) is None
    found["torch"] = "2.14.0+cpu"
    assert "torch 2.14.0 in place of 2.15.0" in str(difference(service))
