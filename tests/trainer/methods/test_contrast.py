"""Signed targets: DiffusionNFT's own loss and gradient, a base to the bit as reference, and runs of every kind."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from konomi.errors import InvalidArgument
from konomi.v1 import trainer_pb2 as pb
from konomi_chassis.models.catalogue import BaseModels
from konomi_chassis.models.families.flow.flow_path import FlowPath
from konomi_chassis.models.families.unet.discrete_path import DiscretePath
from konomi_trainer.base_models import pipeline
from konomi_trainer.configuration import Configuration, MethodDefaults, complete
from konomi_trainer.data import dataset
from konomi_trainer.data.cache import TensorCache
from konomi_trainer.data.manifest import ManifestItem, render
from konomi_trainer.methods import contrast, lora
from konomi_trainer.methods.base import PreparedMethod, TrainingSource
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.training.checkpoints import Checkpoints
from konomi_trainer.training.loop import LoopSettings, Stopped, Surroundings, train
from tests.trainer import tiny
from tests.trainer.conftest import Bench

KINDS = {kind.name: kind for kind in (lora.LORA, lora.DORA, lora.LOHA, lora.LOKR)}
ROLES = ("selected", "avoided", "base", "selected", "avoided", "base")
ITEMS = [ManifestItem(f"{n:064x}", f"face {n // 3}", 1.0, role) for n, role in enumerate(ROLES)]
BETA, ROWS = 0.5, 8


@pytest.fixture(scope="module")
def home(bases: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("contrast")
    (home / "models").symlink_to(bases)
    return home


def load(home: Path, prediction: str = "v_prediction") -> pipeline.BasePipeline:
    place = pipeline.TrainingPlacement("cpu", "fp32", False)
    base = pipeline.load(BaseModels(home).get("tiny"), home / "configs", "0" * 64, place)
    if prediction == "flow":
        base.path = FlowPath.of(FlowMatchEulerDiscreteScheduler())
    else:
        base.path = DiscretePath(base.path.alphas, prediction)
    return base


def numbers(**given: object) -> Configuration:
    return complete("lora", "tiny", "0" * 64, 3, {"batch_size": ROWS, "rank": 2, **given}, MethodDefaults())


def prepared(
    home: Path, base: pipeline.BasePipeline, kind: str, items: list[ManifestItem], **given: object
) -> PreparedMethod:
    """Returns a method on the tiny base whose weights are none of them at zero."""

    def pixels(digest: str) -> np.ndarray:
        return np.random.default_rng(int(digest, 16)).integers(0, 256, (64, 64, 3), np.uint8)

    source = TrainingSource(items, pixels, TensorCache(home / "cache"), lambda: None)
    method = KINDS[kind].prepare(base, source, numbers(**given))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in method.weights.values():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return method


def nft(base: pipeline.BasePipeline, plain: pipeline.BasePipeline, batch: dataset.Batch, beta: float) -> torch.Tensor:
    """Returns DiffusionNFT's loss as the paper writes it, over beta, for the tiny base with and without an adapter."""
    noisy = base.path.noisy(batch.latents, batch.noise, batch.timesteps)
    wanted = base.path.target(batch.latents, batch.noise, batch.timesteps)
    with torch.no_grad():
        old = plain.predict(noisy, batch.timesteps, batch)
    new = base.predict(noisy, batch.timesteps, batch)
    assert batch.signs is not None
    total = torch.zeros(())
    for row, sign in enumerate(batch.signs.tolist()):
        r = (1 + sign) / 2
        liked = (((1 - beta) * old[row] + beta * new[row] - wanted[row]) ** 2).mean()
        disliked = (((1 + beta) * old[row] - beta * new[row] - wanted[row]) ** 2).mean()
        constant = (1 - sign**2) * ((old[row] - wanted[row]) ** 2).mean()
        total = total + batch.weights[row] * (r * liked + (1 - r) * disliked - constant) / beta
    return total / len(batch.signs)


@pytest.mark.parametrize(
    ("kind", "prediction"),
    [
        ("lora", "epsilon"),
        ("lora", "v_prediction"),
        ("lora", "flow"),
        ("dora", "epsilon"),
        ("loha", "flow"),
        ("lokr", "epsilon"),
    ],
)
def test_loss_and_gradient_are_the_paper_s(kind: str, prediction: str, home: Path) -> None:
    base, plain = load(home, prediction), load(home, prediction)
    given = {"contrast_beta": BETA, "caption_dropout": 0.0}
    method = prepared(home, base, kind, ITEMS, **given)
    loss = method.loss(2, range(ROWS))
    found = torch.autograd.grad(loss, list(method.weights.values()))

    def pixels(digest: str) -> np.ndarray:
        return np.random.default_rng(int(digest, 16)).integers(0, 256, (64, 64, 3), np.uint8)

    data = dataset.build(
        ITEMS, pixels, plain, TensorCache(home / "cache"), lambda: None, dataset.Shape(lora._sizes(base, numbers()))
    )
    batch = dataset.draw(data, 3, 2, dataset.DrawSettings(ROWS, 0.0, base.path, signed=True))
    assert batch.signs is not None and set(batch.signs.tolist()) == {1, 0, -1}
    wanted = nft(base, plain, batch, BETA)
    # a difference of squares of ones: what is left of the constant is no more than their rounding
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-6, abs=1e-6)
    theirs = torch.cat([part.flatten() for part in torch.autograd.grad(wanted, list(method.weights.values()))])
    mine = torch.cat([part.flatten() for part in found])
    assert (mine - theirs).abs().max() <= 1e-6 and (mine - theirs).norm() <= 1e-5 * theirs.norm()
    assert theirs.norm() > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_is_the_base_to_the_bit_and_the_adapter_comes_back(kind: str, home: Path) -> None:
    base, plain = load(home), load(home)
    method = prepared(home, base, kind, ITEMS, contrast_beta=BETA)
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(2, 4, 8, 8, generator=generator)
    times = torch.tensor([10, 900])
    states = torch.randn(2, 77, 32, generator=generator)
    batch = dataset.Batch(noisy, noisy, times, states, None, torch.zeros(2, 6), torch.ones(2))
    learnt = base.predict(noisy, times, batch)
    with torch.no_grad(), lora.switched_off(base.network):
        assert torch.equal(base.predict(noisy, times, batch), plain.predict(noisy, times, batch))
    assert torch.equal(base.predict(noisy, times, batch), learnt) and not torch.equal(
        learnt, plain.predict(noisy, times, batch)
    )
    assert all(weight.requires_grad for weight in method.weights.values())
    assert not any(w.requires_grad for n, w in base.network.named_parameters() if n not in method.weights)


def test_without_beta_nothing_of_a_run_changes(home: Path) -> None:
    """The loss is the plain one to the bit, on the rows of before; names of runs and bytes of manifests are as ever."""
    base = load(home)
    items = [item for item in ITEMS if item.role != "avoided"]
    method = prepared(home, base, "lora", items, caption_dropout=0.0)

    def pixels(digest: str) -> np.ndarray:
        return np.random.default_rng(int(digest, 16)).integers(0, 256, (64, 64, 3), np.uint8)

    shape = dataset.Shape(lora._sizes(base, numbers()))
    data = dataset.build(items, pixels, load(home), TensorCache(home / "cache"), lambda: None, shape)
    batch = dataset.draw(data, 3, 1, dataset.DrawSettings(ROWS, 0.0, base.path))
    assert batch.signs is None
    answer = base.predict(base.path.noisy(batch.latents, batch.noise, batch.timesteps), batch.timesteps, batch)
    wanted = base.path.target(batch.latents, batch.noise, batch.timesteps)
    error = ((answer - wanted) ** 2).flatten(1).mean(1) * batch.weights
    assert torch.equal(method.loss(1, range(ROWS)), error.sum() / ROWS)
    told = Configuration("lora", "tiny", "0" * 64, 3, 6, 4, 0.01, 2, 0.1, 0.0, 1.0, 2, 1, 0.0, "fp32")
    assert told.digest() == "06b6eefcdad28a0c480aa6437bb7d50afabee8e254793e205a550e9298e262f1"
    assert b"konomi.manifest/1" in render(tuple(items)) and b"konomi.manifest/2" in render(tuple(ITEMS))


def test_a_run_with_signs_that_goes_on_from_a_checkpoint_ends_in_the_same_bits(home: Path, tmp_path: Path) -> None:
    settings = LoopSettings(4, 2 * ROWS, 3, 0.01, 1.0, 0.0, 2)
    given = {"contrast_beta": BETA, "gradient_accumulation": 2}

    def run(folder: str, until: int) -> dict[str, torch.Tensor]:
        method, steps = prepared(home, load(home), "lora", ITEMS, **given), list[int]()
        around = Surroundings(lambda progress: steps.append(progress.step), lambda: until in steps)
        return train(method.weights, method.loss, settings, Checkpoints(tmp_path / folder), around)[0]

    whole = run("whole", 9)
    with pytest.raises(Stopped):
        run("cut", 3)
    again = run("cut", 9)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def signed_manifest(bench: Bench, roles: tuple[str, ...] = ROLES, sides: tuple[int, ...] = (64,)) -> str:
    items = [
        ManifestItem(
            bench.store.put(tiny.png(n, sides[n % len(sides)]), "image/png").digest, f"face {n // 3}", 1.0, role
        )
        for n, role in enumerate(roles)
    ]
    return bench.store.put(render(tuple(items)), "application/json").digest


def test_a_run_with_signs_of_every_kind_learns_and_says_how_many_it_avoids(bench: Bench) -> None:
    manifest, made = signed_manifest(bench), set()
    for kind in KINDS:
        request = bench.request(manifest, steps=3, learning_rate=0.02, contrast_beta=BETA, gradient_accumulation=2)
        request.method = pb.TrainingMethod.Value(f"TRAINING_METHOD_{kind.upper()}")
        run = bench.finish(bench.client.trainer.create_training_run(request).name)
        assert run.state == pb.TRAINING_STATE_SUCCEEDED, run
        assert run.request.hyper_parameters.contrast_beta == BETA
        model = bench.client.trainer.get_model(name=run.model)
        assert model.metrics["avoided_images"] == 2 and model.metrics["skipped_steps"] == 0
        made.add(model.adapter_digest)
    assert len(made) == len(KINDS)
    card = bench.client.trainer.export_model(name=model.name, format=pb.EXPORT_FORMAT_MODEL_CARD)
    text = bench.store.get(card.digest).decode()
    assert "turned away from 2 images" in text and '"contrast_beta": 0.5' in text


@pytest.mark.parametrize(
    ("roles", "given", "method", "word"),
    [
        (ROLES, {}, "lora", "avoided images; came 0"),
        (ROLES[:1] + ROLES[2:3], {"contrast_beta": BETA}, "lora", "only the roles base, selected"),
        (ROLES[1:3], {"contrast_beta": BETA}, "lora", "only the roles avoided, base"),
        (ROLES, {"contrast_beta": BETA, "text_encoder_learning_rate": 0.01}, "lora", "text encoders that stay"),
        (ROLES, {"contrast_beta": BETA}, "custom_diffusion", "custom_diffusion: use lora"),
        (ROLES, {"contrast_beta": 0.2}, "lora", "contrast_beta"),
        (ROLES, {"contrast_beta": 4.5}, "lora", "contrast_beta"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    bench: Bench, roles: tuple[str, ...], given: Mapping[str, float], method: str, word: str
) -> None:
    request = bench.request(signed_manifest(bench, roles), **given)
    request.method = pb.TrainingMethod.Value(f"TRAINING_METHOD_{method.upper()}")
    if method == "custom_diffusion":
        request.concepts.add(token="<face-1>", class_word="face")
        items = [
            ManifestItem(bench.store.put(tiny.png(n), "image/png").digest, "<face-1> face", 1.0, role)
            for n, role in enumerate(roles)
        ]
        request.manifest_digest = bench.store.put(render(tuple(items)), "application/json").digest
    with pytest.raises(InvalidArgument) as caught:
        bench.client.trainer.create_training_run(request)
    assert word in caught.value.message, caught.value.message


def test_a_method_says_whether_it_can_be_switched_off() -> None:
    assert {name for name, method in METHODS.items() if method.signed} == {"lora", "dora", "loha", "lokr"}
    signed = contrast.signed_target(
        torch.ones(3, 1, 1, 1), torch.full((3, 1, 1, 1), 3.0), torch.tensor([1, 0, -1]), 0.5
    )
    assert signed.flatten().tolist() == [-1.0, 3.0, 7.0]
