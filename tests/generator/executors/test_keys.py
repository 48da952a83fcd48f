"""The name of a piece of work, and that what a night already has is not made again."""

from collections.abc import Sequence
from dataclasses import fields, replace

import pytest

from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.generator import Generator
from konomi_generator.keys import image_key
from konomi_generator.png import GenerationRecord, ImagePromptRecord
from konomi_generator.requests import Image, Request
from konomi_generator.sampling import Annealing
from tests.generator.conftest import OneByOne

RECORD = GenerationRecord(
    prompt="a cat",
    negative_prompt="",
    seed=1,
    width=64,
    height=64,
    steps=2,
    guidance_scale=4.0,
    scheduler="DDIMScheduler",
    base_model="starter",
    base_digest="a" * 64,
    adapters=[("b" * 64, 1.0)],
    unit="u",
    night="n",
    parents=["b" * 64],
    strength=None,
)
OTHERS = {
    "adapters": [("b" * 64, 0.5)],
    "parents": [],
    "strength": 0.5,
    "annealing": Annealing(),
    "few_step": ("c" * 64, 1.0),
    "image_prompt": ImagePromptRecord(["d" * 64], 0.6, "e" * 64, "f" * 64),
}


def another(value: object) -> object:
    """Returns a value of the same kind that differs."""
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int | float) else f"{value}!"


@pytest.mark.parametrize("name", [f.name for f in fields(GenerationRecord) if f.name not in ("backend", "fallbacks")])
def test_whatever_changes_an_image_changes_its_key(name: str) -> None:
    changed = replace(RECORD, **{name: OTHERS.get(name, another(getattr(RECORD, name)))})
    key = image_key(changed)
    assert key and len(key) == 64 and key != image_key(RECORD) and key == image_key(replace(changed))


def test_equal_work_has_one_key_whatever_holds_its_numbers() -> None:
    assert image_key(replace(RECORD, adapters=(("b" * 64, 1.0),), parents=("b" * 64,))) == image_key(RECORD)


def test_another_version_of_what_makes_it_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = image_key(RECORD)
    monkeypatch.setattr("konomi_generator.keys._versions", lambda: {"torch": "9"})
    assert image_key(RECORD) != before


def test_what_cannot_be_named_has_no_key() -> None:
    assert image_key(replace(RECORD, backend="sdapi")) is None, "another program's version is not known"
    assert image_key(replace(RECORD, fallbacks=["tiled_decoding"])) is None, "memory decided what it looks like"


class Counting(OneByOne):
    """Counts what it is asked to make; can be stopped after so many."""

    def run(self, model, images: Sequence, sampling, stopped, deliver) -> None:
        self.asked = [image.index for image in images]
        super().run(model, images, sampling, stopped, deliver)


@pytest.fixture
def counted(settings, models: BaseModels, tmp_path):
    """A generator over a store of its own, and the back end that counts."""
    store = ArtifactStore(StoreSettings(home=tmp_path, min_free_bytes=0))
    backend, decoder = Counting(settings), Decoder()
    generator = Generator(models, store, backend, decoder, writers=2, max_side=2048)
    yield generator, backend, store
    generator.close()
    decoder.close()


def asked_for(count: int, **more) -> Request:
    return Request([Image("a {hair} cat".replace("{hair}", "red"), seed) for seed in range(count)], steps=1, **more)


def made_by(generator: Generator, request: Request) -> dict[int, str]:
    return {finished.index: finished.artifact.digest for finished in generator.generate(request, lambda: False)}


def test_what_a_night_has_is_not_made_again(counted) -> None:
    generator, backend, _ = counted
    first = made_by(generator, asked_for(3, night="n"))
    backend.asked = None
    again = list(generator.generate(asked_for(3, night="n"), lambda: False))
    assert {finished.index: finished.artifact.digest for finished in again} == first
    assert all(finished.recalled for finished in again) and backend.asked is None
    more = made_by(generator, asked_for(5, night="n"))
    assert backend.asked == [3, 4] and {index: more[index] for index in first} == first


def test_after_a_loss_only_what_is_missing_is_made_and_it_is_the_same(counted, tmp_path) -> None:
    generator, backend, store = counted
    first = made_by(generator, asked_for(3, night="n"))
    (tmp_path / "artifacts" / first[1][:2] / first[1]).unlink()
    assert made_by(generator, asked_for(3, night="n")) == first
    assert backend.asked == [1] and store.get(first[1])


def test_a_caller_that_went_away_left_what_was_stored(counted) -> None:
    generator, backend, _ = counted
    work = generator.generate(asked_for(4, night="n"), lambda: False)
    kept = next(work)
    work.close()
    everything = made_by(generator, asked_for(4, night="n"))
    assert kept.index not in backend.asked and everything[kept.index] == kept.artifact.digest


def test_another_night_and_no_night_make_their_own(counted) -> None:
    generator, backend, _ = counted
    made_by(generator, asked_for(2, night="n"))
    made_by(generator, asked_for(2, night="other"))
    assert backend.asked == [0, 1]
    made_by(generator, asked_for(2))
    backend.asked = None
    made_by(generator, asked_for(2))
    assert backend.asked == [0, 1], "outside a night what is asked for is done"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"0" * 64, b"0" * 64 + b" crc32=00000000\n", b"\xff" * 90])
def test_a_damaged_note_is_no_note(counted, tmp_path, content) -> None:
    generator, backend, _ = counted
    first = made_by(generator, asked_for(1, night="n"))
    (note,) = (tmp_path / "artifacts" / "made").rglob("*.made")
    note.write_bytes(content)
    assert made_by(generator, asked_for(1, night="n")) == first and backend.asked == [0]
    backend.asked = None
    assert made_by(generator, asked_for(1, night="n")) == first and backend.asked is None, "it was written anew"
