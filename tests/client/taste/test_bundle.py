"""A taste in one file: out of a real rater and trainer, and into the empty home of another machine."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from konomi.client import Client
from konomi.errors import AlreadyExists, DataLoss, InvalidArgument
from konomi.home import Home
from konomi.night.records.store import NightStore
from konomi.taste import prompts
from konomi.taste.bundle import Wish, gather, own_parts, restore
from konomi.taste.bundle_format import read_bundle, read_manifest
from konomi_chassis.server import start
from konomi_chassis.settings import ServerSettings, StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from tests.rater.conftest import Library, filled, grades_of, make_embedder, png, serving

pytestmark = pytest.mark.slow
QUIET = lambda done, total: None  # noqa: E731


@dataclass
class Machine:
    """A home with a rater and a trainer on it."""

    home: Home
    client: Client
    rater: object

    def pack(self, path: Path, images: bool = True):
        own = own_parts(self.home, NightStore(self.home.root).ended("tastes/default"), "default")
        return gather(self.client, own, "default", path, images, QUIET)


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make_embedder(folder / "starter" / "embedder")
    return folder


def machine(home: Path, models: Path) -> Iterator[Machine]:
    from konomi_trainer.__main__ import build

    home.mkdir(parents=True)
    shutil.copytree(models, home / "models")
    settings, store = ServerSettings(home=home), ArtifactStore(StoreSettings(home=home))
    with serving(home) as rater:
        trainer = start("trainer", build(settings, store), settings, store)
        addresses = {"rater": rater.address, "trainer": trainer.address}
        with Client.from_addresses(addresses, home=home) as client:
            yield Machine(Home(home), client, rater)
        assert trainer.stop(5.0)


@pytest.fixture
def here(tmp_path: Path, embedder: Path) -> Iterator[Machine]:
    yield from machine(tmp_path / "here", embedder)


@pytest.fixture
def there(tmp_path: Path, embedder: Path) -> Iterator[Machine]:
    yield from machine(tmp_path / "there", embedder)


@pytest.fixture
def fitted(here: Machine) -> Library:
    library = filled(here.rater)
    here.rater.label(library.taste, grades_of(library, library.digests[:40]))
    here.rater.fit(library.taste)
    return library


def night(home: Home, name: str, taste: str = "tastes/default", state: str = "finished") -> None:
    folder = home.root / "nights" / name
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"id": name, "taste": taste, "system": "converge"}))
    (folder / "night.json").write_text(json.dumps({"night": name, "state": state, "units": []}))


NIGHTS = [f"{number:08}-2222-5333-8444-555555555555" for number in range(3)]


def test_a_taste_moves_to_an_empty_home(here, there, fitted, tmp_path):
    night(here.home, NIGHTS[0])
    night(here.home, NIGHTS[1], state="running")
    night(here.home, NIGHTS[2], taste="tastes/other")
    here.home.configuration.write_text('[rater]\ncells = 9\n[notify]\nurls = ["discord://secret"]\n')
    prompts.keep(here.home.root, "default", ["a portrait", "好み"])
    file = tmp_path / "mine.konomi"
    manifest = here.pack(file)
    assert manifest.count("image") == 120 and manifest.count("head") == 1
    assert b"discord" not in file.read_bytes() and read_bundle(file) == manifest

    restore(there.client, there.home, file, Wish(settings=True), QUIET)
    for images in (fitted.digests[:64], fitted.digests[64:], [png((250, 9, 9), seed=777)]):
        assert here.client.rater.score(images) == there.client.rater.score(images)
    assert here.client.rater.list_labels(taste=fitted.taste, page_size=1000) == there.client.rater.list_labels(
        taste=fitted.taste, page_size=1000
    )
    assert there.client.artifacts.get(fitted.digests[0]) == here.client.artifacts.get(fitted.digests[0])
    assert [path.parent.name for path in (there.home.root / "nights").glob("*/request.json")] == NIGHTS[:1]
    assert there.home.configuration.read_text() == "[rater]\ncells = 9\n"
    assert prompts.kept(there.home.root, "default") == ["a portrait", "好み"]

    again = tmp_path / "again.konomi"
    there.pack(again)
    assert again.read_bytes() == file.read_bytes()  # byte for byte the bundle it came from

    before = [path.read_bytes() for path in sorted(there.home.root.glob("nights/*/*.json"))]
    here.rater.label(fitted.taste, grades_of(fitted, fitted.digests[40:60]))
    here.pack(file)
    with pytest.raises(AlreadyExists, match="--as"):
        restore(there.client, there.home, file, Wish(), QUIET)
    restore(there.client, there.home, file, Wish(name="second"), QUIET)
    restore(there.client, there.home, file, Wish(replace=True), QUIET)
    counts = {taste.name: taste.label_count for taste in there.client.rater.list_tastes().tastes}
    assert counts == {"tastes/default": 60, "tastes/second": 60}
    assert [path.read_bytes() for path in sorted(there.home.root.glob("nights/*/*.json"))] == before


def test_a_changed_bundle_restores_nothing_and_a_small_one_scores(here, there, fitted, tmp_path):
    file = tmp_path / "mine.konomi"
    here.pack(file, images=False)
    assert read_manifest(file).count("image") == 0
    whole = file.read_bytes()
    for place in (600, len(whole) // 2, len(whole) - 20_000):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        with pytest.raises((DataLoss, InvalidArgument)):
            restore(there.client, there.home, file, Wish(), QUIET)
    stored = [path for path in (there.home.root / "artifacts").rglob("*") if path.is_file()]
    assert not there.client.rater.list_tastes().tastes and not stored  # nothing was sent before all was checked
    file.write_bytes(whole)
    restore(there.client, there.home, file, Wish(), QUIET)
    assert here.client.rater.score(fitted.digests[:9]) == there.client.rater.score(fitted.digests[:9])
