"""What every family answers, asked of each: a new one is one file and one line, as the toy's of this room."""

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from konomi.errors import FailedPrecondition
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families import table
from konomi_chassis.models.families.condition import Condition
from konomi_chassis.models.families.family import Family, TextReading
from konomi_generator.backends.diffusers.adapters import Adapters
from konomi_generator.backends.diffusers.batches import DenoisingBatch
from konomi_generator.backends.diffusers.denoising import Denoiser
from konomi_generator.sampling import AdapterFile, ImageRequest, Sampling
from konomi_trainer.base_models import checkpoint_layout, pipeline
from konomi_trainer.configuration import MethodDefaults, complete
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem
from konomi_trainer.export import kohya
from konomi_trainer.methods import lora
from konomi_trainer.methods.base import PreparedMethod, TrainingSource
from tests.families.conftest import MODELS

CPU = torch.device("cpu")
TEXTS = ("a cat", "a much longer text, of an owl on a wall in the rain", "")
WEIGHTED = TextReading("weighted")


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_table_s_names_are_its_families_and_each_has_a_model_here() -> None:
    assert {family.name: family for family in table.FAMILIES.values()} == table.FAMILIES
    assert set(MODELS.values()) == set(table.FAMILIES)
    for family in table.FAMILIES.values():
        assert {family.network, *family.targets} <= set(family.weighted) <= set(family.components)


def test_a_model_is_of_its_family_with_parts_that_are_counted(home: Path, id: str) -> None:
    model = BaseModels(home).get(id)
    family = table.family(model.layout)
    assert family.name == MODELS[id]
    assert {family.network, "vae", "text_encoder"} <= set(model.parameters) <= set(family.weighted)
    assert all(model.parameters.values())
    assert model.resolution >= 16 and model.prediction_type in ("epsilon", "v_prediction", "flow")


def test_what_no_family_knows_is_refused_by_its_pipeline(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "models" / "other"
    folder.parent.mkdir()
    toys = table.FAMILIES["toy"]
    (home / "models" / "toy").rename(folder)  # as long as the table does not know it
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delitem(table.FAMILIES, toys.name)
            with pytest.raises(FailedPrecondition, match=r'component "transformer" is .* which konomi does not load'):
                BaseModels(tmp_path).get("other")
    finally:
        folder.rename(home / "models" / "toy")


def test_its_pipeline_loads_with_the_weights_it_counted(home: Path, id: str, pipe: Any) -> None:
    family, model = table.of_pipeline(pipe), BaseModels(home).get(id)
    assert type(pipe).__name__ == family.loaded_as
    for part in model.parameters:
        weights = {weight.data_ptr(): weight for weight in getattr(pipe, part).state_dict().values()}  # some are tied
        counted = sum(weight.numel() for weight in weights.values())
        # single files keep of a text encoder what no picture needs
        assert counted == pytest.approx(model.parameters[part], rel=0.05), part
    assert all(tower is not None and tokenizer is not None for tokenizer, tower in family.towers(pipe))
    assert family.trained_side(pipe) % family.unit(pipe) == 0


@pytest.mark.slow
@torch.inference_mode()
def test_a_text_is_encoded_alike_alone_and_beside_others(pipe: Any) -> None:
    family = table.of_pipeline(pipe)
    for reading in (TextReading(), WEIGHTED):
        together = family.encode(pipe, TEXTS, reading, CPU)
        for row, text in enumerate(TEXTS):
            alone = family.encode(pipe, [text], reading, CPU)
            length = alone.hidden.shape[1]
            assert torch.allclose(together.hidden[row, :length], alone.hidden[0], atol=1e-5)
            assert not together.hidden[row, length:].any()
            assert together.mask is None or int(together.mask[row].sum()) == length


@pytest.mark.slow
@torch.inference_mode()
def test_a_row_s_answer_is_its_own_whatever_stands_beside_it(pipe: Any) -> None:
    family = table.of_pipeline(pipe)
    network, cells = getattr(pipe, family.network), family.trained_side(pipe) // pipe.vae_scale_factor
    latents, time = random(len(TEXTS), family.channels(pipe), cells, cells), torch.tensor(500)
    rows = [sized(family, pipe, text) for text in TEXTS]
    joined = family.join(rows)
    together = family.answer(network, latents, time, with_sizes(joined, pipe, family))
    assert together.shape == latents.shape
    for row, own in enumerate(rows):
        alone = family.answer(network, latents[row : row + 1], time, own)
        assert torch.allclose(together[row], alone[0], atol=1e-4), TEXTS[row]
    assert not torch.allclose(together[0], family.answer(network, latents[:1], time, rows[1])[0], atol=1e-4)


def sized(family: Family, pipe: Any, text: str) -> Condition:
    return with_sizes(family.encode(pipe, [text], TextReading(), CPU), pipe, family)


def with_sizes(condition: Condition, pipe: Any, family: Family) -> Condition:
    side = float(family.trained_side(pipe))
    sizes = torch.tensor([[side, side, 0, 0, side, side]]).repeat(len(condition.hidden), 1)
    return Condition(condition.hidden, condition.pooled, condition.mask, sizes)


def test_a_condition_is_cut_and_put_together_again(pipe: Any) -> None:
    family = table.of_pipeline(pipe)
    with torch.inference_mode():
        rows = [family.encode(pipe, [text], TextReading(), CPU) for text in TEXTS]
        whole = family.join(rows)
    for row, own in enumerate(rows):
        cut = whole.rows(slice(row, row + 1))
        assert torch.equal(cut.hidden[:, : own.hidden.shape[1]], own.hidden)
    assert (whole.mask is None) == (len({row.hidden.shape[1] for row in rows}) == 1)
    assert set(family.arguments(rows[0], rows[2])) >= {"prompt_embeds", "negative_prompt_embeds"}


def test_latents_come_back_from_the_model_s_numbers(pipe: Any) -> None:
    family = table.of_pipeline(pipe)
    latents = random(2, family.channels(pipe), 4, 4)
    given = family.to_model(latents, pipe.vae)
    assert torch.allclose(family.from_model(given, pipe.vae), latents, atol=1e-5)


def trainers_path(pipe: Any) -> Any:
    family = table.of_pipeline(pipe)
    scheduler = getattr(diffusers, family.trains_by).from_config(pipe.scheduler.config)
    return family.path(scheduler, CPU)


def test_noise_target_and_clean_say_the_same_of_a_path(pipe: Any) -> None:
    path = trainers_path(pipe)
    latents, noise = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1)
    times = torch.stack([path.at(share) for share in (0.02, 0.4, 0.8)])
    seen, target = path.noisy(latents, noise, times), path.target(latents, noise, times)
    for row in range(3):
        assert torch.allclose(path.clean(seen[row], target[row], times[row]), latents[row], atol=1e-4)
    far = [float((seen[row] - latents[row]).square().mean()) for row in range(3)]
    assert far == sorted(far) and far[0] < 0.2 < far[-1]
    assert path.weight(times, 0.0).tolist() == [1, 1, 1]
    assert torch.isfinite(path.weight(times, 5.0)).all() and (path.weight(times, 5.0) >= 0).all()


def test_times_are_drawn_by_the_seed_and_lie_on_the_path(pipe: Any) -> None:
    path = trainers_path(pipe)
    drawn, again = (path.draw(np.random.default_rng(3), 2000, 64) for _ in range(2))
    assert torch.equal(drawn, again)
    first, last = float(path.at(0.0)), float(path.at(1 - 1e-9))
    assert first <= float(drawn.min()) and float(drawn.max()) <= last and len(drawn.unique()) > 100


def test_sampling_takes_as_many_steps_as_asked_and_begins_with_noise(pipe: Any) -> None:
    family = table.of_pipeline(pipe)
    path, scheduler = family.path(pipe.scheduler), pipe.scheduler
    timesteps = path.timesteps(scheduler, 4, CPU, 64)
    assert 4 <= len(timesteps) <= 5 and torch.equal(timesteps, scheduler.timesteps)  # PNDM takes its first one twice
    noise = random(1, family.channels(pipe), 8, 8)
    assert path.begin(scheduler, noise, None, None).std() >= noise.std() * 0.9
    latents = torch.zeros_like(noise)
    late = path.begin(scheduler, noise, latents, timesteps[-1:])
    assert late.std() < noise.std() and path.scaled(scheduler, late, timesteps[-1]).shape == noise.shape


def image(pipe: Any, texts: tuple[str, ...] = ("a cat",), adapters: Adapters | None = None, **more: Any) -> np.ndarray:
    family = table.of_pipeline(pipe)
    side = family.trained_side(pipe)
    rows = [ImageRequest(number, text, 5 + number) for number, text in enumerate(texts)]
    denoiser = Denoiser(pipe, adapters.base_unet if adapters else None)
    with torch.inference_mode():
        return denoiser.run(DenoisingBatch(rows, len(rows)), Sampling(3, 4.0, side, side, **more), lambda: False)


@pytest.mark.slow
def test_an_image_is_drawn_and_its_seed_and_words_decide_it(pipe: Any) -> None:
    drawn = image(pipe)
    assert np.isfinite(drawn).all() and drawn.std() > 0
    assert np.array_equal(drawn, image(pipe)) and not np.array_equal(drawn, image(pipe, ("an owl",)))
    pair = image(pipe, ("a cat", "an owl"))
    assert np.allclose(pair[0], drawn[0], atol=1e-3)


def prepared(home: Path, folder: Path, id: str, side: int) -> tuple[pipeline.BasePipeline, PreparedMethod]:
    model, place = BaseModels(home).get(id), pipeline.TrainingPlacement("cpu", "fp32", False)
    base = pipeline.load(model, home / "configs", "0" * 64, place, side)
    items = [ManifestItem(f"{number:064x}", TEXTS[number % 2], 1.0, "selected") for number in range(3)]

    def pixels(digest: str) -> np.ndarray:
        rng = np.random.default_rng(int(digest, 16))
        return rng.integers(0, 256, (base.resolution, base.resolution, 3), np.uint8)

    source = TrainingSource(items, pixels, TensorCache(folder), lambda: None)
    given = {"batch_size": 3, "rank": 2, "caption_dropout": 0.0}
    configuration = complete("lora", id, "0" * 64, 1, given, MethodDefaults())
    return base, lora.LORA.prepare(base, source, configuration)


@pytest.mark.slow
def test_a_lora_takes_a_step_and_its_file_changes_the_pictures_until_it_is_off(
    home: Path, id: str, pipe: Any, tmp_path: Path
) -> None:
    base, method = prepared(home, tmp_path, id, table.of_pipeline(pipe).trained_side(pipe))
    before = method.loss(0, range(3))
    before.backward()
    still = {name: weight for name, weight in method.weights.items() if "lora_B" in name}
    learning = [weight for weight in still.values() if weight.grad is not None and weight.grad.abs().sum() > 0]
    # what the texts ask in the last block of joint attention is asked for nothing
    assert len(still) - len(learning) <= {"sd3": 1, "qwen-image": 2}.get(id, 0) and learning
    with torch.no_grad():
        for weight in learning:
            weight -= 0.05 * weight.grad / weight.grad.norm()
    assert method.loss(0, range(3)).item() < before.item()
    trained = {name: weight.detach().clone() for name, weight in method.weights.items()}
    data = method.save(trained, {"schema": "konomi.adapter/1"}).adapter
    adapters, plain = Adapters(pipe), image(pipe)
    adapters.apply([AdapterFile("a" * 64, data, 20.0)])
    changed = image(pipe)
    assert not np.array_equal(changed, plain)
    if table.of_pipeline(pipe).is_guided(pipe):
        assert not np.array_equal(image(pipe, adapters=adapters, guide_from_base=True), changed)
    adapters.apply([])
    assert np.array_equal(image(pipe), plain)
    assert base.path.length == 1000


def test_formats_of_other_programs_are_refused_where_the_family_has_no_single_files() -> None:
    for name, family in table.FAMILIES.items():
        if family.single_file is None and not family.exported.head:
            with pytest.raises(FailedPrecondition, match=f"this one is {name}, whose.* export for diffusers instead"):
                kohya.rename({}, name, 2)
        if family.single_file is None:
            with pytest.raises(FailedPrecondition, match=f"this one is {name}, of which.* export a merged folder"):
                checkpoint_layout.checkpoint(name, {}, 2)
