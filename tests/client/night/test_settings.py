"""The settings of a night: what all systems share and what each alone is told, joined to one flat class."""

import base64
import json
from dataclasses import replace
from pathlib import Path

import pytest

from konomi.night.engine.preparation import plain
from konomi.night.settings import NightSettings
from konomi.night.systems import converge, registry
from konomi.night.systems.concepts.policy import ConceptsSettings
from konomi.night.systems.golden import GoldenSettings
from konomi.night.systems.longtail import LongTailSettings
from konomi.night.systems.propagate.policy import PropagateSettings

BEGUN = Path(__file__).parent / "engine" / "begun_night.json"


def test_a_night_has_the_settings_every_version_recorded_and_no_more():
    files = json.loads(BEGUN.read_text())["files"]
    (request,) = (base64.b64decode(data) for name, data in files.items() if name.endswith("request.json"))
    settings = registry.night_settings()
    known = settings.model_fields.keys() - {"home"}
    younger = settings.younger_defaults().keys() | settings.all_unrecorded().keys()
    assert known - younger == json.loads(request)["settings"].keys()
    younger = {"contrast_beta": 0.0, "draft": "off", "golden_avoids": False, "method": "lora", "redrawn_share": 0.25}
    younger["away_seconds"] = 1800.0
    assert settings.younger_defaults() == younger
    completed = settings.completed(json.loads(request)["settings"])
    assert (completed["precision"], completed["golden_probes"]) == ("fp32", 0), "it began so"
    assert plain(settings())["golden_probes"] == 32, "a night that begins now says so itself"


def test_words_typed_now_and_before_the_base_chose_its_numbers_are_the_same():
    unsaid, said = NightSettings(), NightSettings(batch_size=4, learning_rate=1e-4, precision="bf16")
    assert (unsaid.batch_size, unsaid.learning_rate, unsaid.precision) == (0, 0, "auto")
    typed = unsaid.as_typed(plain(unsaid))
    assert (typed["batch_size"], typed["learning_rate"]) == (16, 0.0015) and "precision" not in typed
    assert said.as_typed(plain(said)) == plain(said)


def test_every_setting_says_what_it_is_and_is_read_from_the_one_table(tmp_path):
    (tmp_path / "konomi.toml").write_text("[night]\nimages = 9\ngolden_minimum = 3\npropagate_depth = 2\n")
    settings = registry.night_settings()(home=tmp_path)
    assert all(field.description for field in type(settings).model_fields.values())
    assert (settings.images, settings.of(GoldenSettings).golden_minimum) == (9, 3)
    assert settings.of(PropagateSettings).propagate_depth == 2
    assert settings.of(LongTailSettings) is settings.of(ConceptsSettings) is settings, "one object, seen by each"


def test_the_class_is_made_once_for_the_same_systems():
    assert registry.night_settings() is registry.night_settings()
    assert issubclass(registry.night_settings(), GoldenSettings)


class Greedy(NightSettings):
    """Settings of a system that would change what the others share."""

    images: int = 24
    """More for all."""


class Twin(NightSettings):
    """Settings of a system that calls one like another's."""

    golden_quota: float = 1.0
    """Not golden's."""


@pytest.mark.parametrize("kind", [Greedy, Twin])
def test_a_system_changes_no_setting_of_others(kind, monkeypatch):
    system = replace(converge.SYSTEM, name="other", settings=kind)
    monkeypatch.setitem(registry.SYSTEMS, "other", system)
    with pytest.raises(TypeError, match="rename one"):
        registry.night_settings()
