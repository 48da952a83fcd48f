"""Training with blocks that come one at a time: the same numbers to the bit, and little on the device."""

from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from konomi_chassis.models.catalogue import BaseModels, resident_weights
from konomi_chassis.models.families import table
from konomi_chassis.models.memory_needs import trains_in_blocks
from konomi_trainer.base_models.catalogue import BaseCatalogue
from konomi_trainer.base_models.streamed_blocks import StreamedBlocks
from konomi_trainer.configuration import complete
from konomi_trainer.methods import lora
from konomi_trainer.methods.registry import METHODS
from konomi_trainer.settings import TrainerSettings
from tests.families.flow.test_published_flows import (
    GIB,
    HALF,
    LARGEST,
    PUBLISHED,
    SIDE,
    inputs,
    published_model,
    transformer,
)
from tests.families.test_protocol import prepared
from tests.trainer.base_models.test_memory_counts import LiveBytes, as_a_gpu_computes, pretend

IDS = ("sd3", "flux1-dev", "chroma", "qwen-image", "klein-base", "z-image", "lumina2")
QUICK = ("chroma", "klein-base", "z-image")
SIDES = {"lumina2": 64}


class Tracked(StreamedBlocks):
    """Weights that wait have no numbers, so that whoever computed with one would see none."""

    def _copy(self, weight: torch.nn.Parameter) -> torch.Tensor:
        return self.numbers[id(weight)].clone()


def step(home: Path, folder: Path, id: str, *, streamed: bool) -> tuple[float, dict[str, torch.Tensor], float]:
    """Returns the loss of a LoRA's first step, its gradients, and how often a block's weights came."""
    base, method = prepared(home, folder, id, SIDES.get(id, 32))
    if not streamed:
        base.checkpoint_activations()
    else:
        blocks = Tracked(base.network, torch.device("cpu"))
        waiting = [weight for block in blocks._blocks for weight in block.parameters() if not weight.requires_grad]
        blocks.numbers = {identity(weight): weight.data.clone() for weight in waiting}  # type: ignore[attr-defined]
        for weight in waiting:
            weight.data.fill_(torch.nan)
    loss = method.loss(0, range(3))
    loss.backward()
    gradients = {name: weight.grad for name, weight in method.weights.items() if weight.grad is not None}
    return loss.item(), gradients, blocks.fetched / len(blocks._blocks) if streamed else 0.0


def identity(weight: torch.nn.Parameter) -> int:
    return id(weight)


@pytest.mark.slow
@pytest.mark.parametrize("id", [id if id in QUICK else pytest.param(id, marks=pytest.mark.chaos) for id in IDS])
def test_a_step_has_the_bits_it_has_with_all_weights_there(id: str, home: Path, tmp_path: Path) -> None:
    loss, gradients, _ = step(home, tmp_path, id, streamed=False)
    streamed, others, fetched = step(home, tmp_path, id, streamed=True)
    assert fetched == 2, "each block's weights come twice a step: forward, and again for its backward pass"
    assert streamed == pytest.approx(loss, rel=0 if id != "chroma" else 1e-6)
    assert gradients.keys() == others.keys() and gradients
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, others[name], rtol=0, atol=0 if id != "chroma" else 1e-7), name


def test_weights_outside_blocks_and_the_largest_block_are_counted() -> None:
    sizes = {"in.weight": 5, "blocks.0.a.weight": 3, "blocks.0.b.weight": 4, "blocks.1.a.weight": 9, "out.bias": 1}
    assert resident_weights(sizes) == 5 + 1 + 9
    assert resident_weights({"in.weight": 5}) == 5


@pytest.mark.parametrize(
    ("name", "size", "streams"),
    [("FLUX.1 [dev]", 24, True), ("FLUX.1 [dev]", 48, False), ("Qwen-Image", 40, True), ("Z-Image", 24, False)],
)
def test_blocks_come_one_by_one_where_all_of_them_do_not_fit(name: str, size: int, streams: bool) -> None:
    assert trains_in_blocks(published_model(name), HALF, size * GIB) is streams


def test_it_can_be_asked_for_and_refused_for_a_unet(home: Path) -> None:
    for id, asked, streams in (("z-image", True, True), ("z-image", "auto", False), ("sd1", True, False)):
        bases = BaseCatalogue(home, TrainerSettings(home=home, device="cpu", block_offload=asked))
        model = BaseModels(home).get(id)
        assert (model.resident > 0) is (id == "z-image")
        base = bases.load(complete("lora", id, bases.digest(id), 1, {}, METHODS["lora"].defaults))
        assert (base._streamed is not None) is streams and base.checkpointing is streams


@pytest.mark.chaos
@pytest.mark.parametrize("layout", LARGEST)
def test_a_published_base_trains_in_its_largest_block_and_what_the_table_says_besides(
    layout: str, whole_texts: None
) -> None:
    """Counts every copy of a weight that comes to the device, and all that a step makes besides."""
    flow, family = PUBLISHED[LARGEST[layout]], table.family(layout)
    network = transformer(flow)
    with torch.device("meta"):
        lora.attach({"transformer": network}, lora.LORA, 8, 1, family.targets)
    learned = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
    with FakeTensorMode(allow_non_fake_inputs=True):
        pretend(network)
        StreamedBlocks(network, torch.device("cpu"))
        given = inputs(flow, 1)
        with as_a_gpu_computes(), LiveBytes(network) as count:
            family.answer(network, *given).float().sum().backward()
    blocks = HALF * published_model(LARGEST[layout]).resident
    assert family.defaults.activations is not None
    taken = (count.peak - 4 * learned - family.defaults.activations.checkpointed * SIDE**2) / blocks
    assert taken <= 1.05, "not more than one block is there at once"
