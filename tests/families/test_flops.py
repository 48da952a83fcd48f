"""Floating point operations of the flow families in their published sizes, counted without memory.

Counted operation by operation (torch.utils.flop_counter), and held against what weights and tokens say they must be:
2 x weights x tokens for every layer, 4 x width x tokens^2 for attention. FLUX.1 [dev]: 3726.87 TFLOP for 50 steps at
1024 x 1024 as cache-dit's benchmark publishes it, which counts what is no product besides.
"""

import re
from collections.abc import Callable

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from konomi_chassis.models.families import table
from konomi_trainer.methods import lora
from tests.families.flow.test_published_flows import PUBLISHED, SCALE, SIDE, inputs, transformer, whole_texts
from tests.published_size.flows import PublishedFlow
from tests.trainer.base_models.test_memory_counts import pretend

__all__ = ["whole_texts"]
PIXELS = (SIDE // SCALE // 2) ** 2
"""Tokens of an image."""
ONCE = re.compile(r"_mod\.|norm(?!_out\.linear_2)|modulation|time|guidance|pooled|adaLN|t_embedder")
TEXT = re.compile(r"add_[qkv]_proj|to_add_out|ff_context|txt_|context_|cap_embedder|caption_embedder")
ALL = re.compile(r"^(single_transformer_blocks|layers)\.")
MODULATIONS = 344
"""Tokens of Chroma's own network for its modulation: one for each."""
STEPS, PUBLISHED_TFLOP = 50, 3726.87
QUICK = ("FLUX.1 [dev]", "Z-Image")


def tokens(name: str, flow: PublishedFlow) -> int:
    """Returns how many tokens go through a layer."""
    if name.startswith("distilled_guidance_layer"):
        return MODULATIONS
    if "caption_embedder" in name:
        return flow.tokens
    if ONCE.search(name):
        return 1
    if ALL.search(name):
        return PIXELS + flow.tokens
    return flow.tokens if TEXT.search(name) else PIXELS


def layers(network: torch.nn.Module, flow: PublishedFlow) -> float:
    """Returns the operations of all layers, by their weights."""
    linear = [(name, part) for name, part in network.named_modules() if isinstance(part, torch.nn.Linear)]
    return sum(2.0 * part.weight.numel() * tokens(name, flow) for name, part in linear)


def attention(network: torch.nn.Module, flow: PublishedFlow) -> float:
    """Returns the operations of attention, by what attends to what."""
    whole = 0.0
    for name, part in network.named_modules():
        if not name.endswith((".attn", ".attention", ".attn2")):
            continue
        seen = {"noise_refiner": PIXELS, "context_refiner": flow.tokens}.get(name.split(".")[0], PIXELS + flow.tokens)
        query = getattr(part, "to_q", None)
        width = query.out_features if query is not None else part.to_out.out_features
        whole += 4.0 * width * (PIXELS if name.endswith("attn2") else seen) ** 2
    return whole


def counted(network: torch.nn.Module, work: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as count:
        work()
    return count.get_total_flops()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in QUICK else pytest.mark.chaos) for name in PUBLISHED]
)
def test_a_step_of_drawing_takes_what_weights_and_tokens_say(name: str, whole_texts: None) -> None:
    flow = PUBLISHED[name]
    network = transformer(flow)
    expected = layers(network, flow) + attention(network, flow)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        pretend(network)
        given = inputs(flow, 1)
        taken = counted(network, lambda: table.family(flow.family).answer(network, *given))
    assert taken == pytest.approx(expected, rel=0.01)
    if name == "FLUX.1 [dev]":
        assert STEPS * taken / 1e12 == pytest.approx(PUBLISHED_TFLOP, rel=0.01)


@pytest.mark.chaos
@pytest.mark.parametrize("name", ["FLUX.1 [dev]", "Z-Image", "Stable Diffusion 3.5 Large"])
def test_a_step_of_training_takes_three_times_the_layers_and_four_and_a_half_times_the_attention(name: str) -> None:
    """Forward, forward again, and back to what went in: frozen weights have no gradient; attention's is 2.5 forward."""
    flow = PUBLISHED[name]
    network, family = transformer(flow), table.family(flow.family)
    expected = 3 * layers(network, flow) + 4.5 * attention(network, flow)
    with torch.device("meta"):
        lora.attach({"transformer": network}, lora.LORA, 8, 1, family.targets)
    network.train()
    network.enable_gradient_checkpointing()
    with FakeTensorMode(allow_non_fake_inputs=True):
        pretend(network)
        given = inputs(flow, 1)
        with torch.autocast("cpu", torch.bfloat16):
            taken = counted(network, lambda: family.answer(network, *given).float().sum().backward())
    assert taken == pytest.approx(expected, rel=0.03)
