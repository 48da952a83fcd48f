"""The table of memory needs against a count on the published shapes: every tensor that lives, none with any bytes."""

import weakref
from collections.abc import Callable
from contextlib import contextmanager

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from konomi_chassis.models.families.table import family
from konomi_chassis.models.memory_needs import ADAPTER_SHARE
from konomi_trainer.methods import lora
from tests.benchmarks.trainer import published_layouts as published

pytestmark = pytest.mark.slow
WORDS, POOLED, CHANNELS, SCALE = 77, 1280, 4, 8
SIDE = 512


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of every tensor that operations make, for as long as it lives.

    Attributes:
        live, peak: bytes now, and most there were at once.
    """

    def __init__(self, module: torch.nn.Module) -> None:
        """Takes the module whose own tensors are not counted."""
        super().__init__()
        self.live = self.peak = 0
        self._bytes = {tensor.untyped_storage()._cdata: 0 for tensor in [*module.parameters(), *module.buffers()]}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._note(tensor.untyped_storage())
        return result

    def _note(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._bytes:
            self._bytes[storage._cdata] = storage.nbytes()
            self.live += storage.nbytes()
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._drop, storage._cdata)

    def _drop(self, key: int) -> None:
        self.live -= self._bytes.pop(key, 0)


def shape_of(make: Callable[[], torch.nn.Module], dtype: torch.dtype) -> torch.nn.Module:
    """Returns a frozen module of a number format without memory."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            return make().eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(default)


def pretend(module: torch.nn.Module) -> None:
    """Makes a module's tensors pretend to lie on the CPU, whose attention is like a GPU's; in a fake mode."""
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                fake = torch.empty(weight.shape, dtype=weight.dtype)
                part._parameters[name] = torch.nn.Parameter(fake, requires_grad=weight.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def unet_inputs(unet: UNet2DConditionModel, layout: str, rows: int, dtype: torch.dtype):
    latents = torch.empty(rows, CHANNELS, SIDE // SCALE, SIDE // SCALE, dtype=dtype)
    hidden = torch.empty(rows, WORDS, int(unet.config.cross_attention_dim), dtype=dtype)
    added = None
    if layout == "sdxl":
        pooled = torch.empty(rows, POOLED, dtype=dtype)
        added = {"text_embeds": pooled, "time_ids": torch.empty(rows, 6, dtype=dtype)}
    return latents, torch.empty(rows), hidden, added


@contextmanager
def as_a_gpu_computes():
    """Autocast as CUDA has it: products in bfloat16, norms in float32, which the CPU's autocast leaves as they are."""

    def whole(norm):
        def in_float32(x, shape, weight=None, bias=None, eps=1e-5):
            weight, bias = (None if one is None else one.float() for one in (weight, bias))
            return norm(x.float(), shape, weight, bias, eps)

        return in_float32

    with pytest.MonkeyPatch.context() as patch, torch.autocast("cpu", torch.bfloat16):
        for name in ("layer_norm", "group_norm"):
            patch.setattr(torch.nn.functional, name, whole(getattr(torch.nn.functional, name)))
        yield


def drawing(layout: str, rows: int = 2) -> float:
    """Returns the bytes a pixel of a row that is denoised in half precision."""
    unet = shape_of(lambda: published.unet(layout), torch.float16)
    with FakeTensorMode():
        pretend(unet)
        latents, times, hidden, added = unet_inputs(unet, layout, rows, torch.float16)
        with torch.no_grad(), LiveBytes(unet) as count:
            unet(latents, times, hidden, added_cond_kwargs=added, return_dict=False)
    return count.peak / rows / SIDE**2


def training(layout: str, checkpointing: bool) -> float:
    """Returns the bytes a pixel of a row of a training step in bfloat16."""

    unet = shape_of(lambda: published.unet(layout), torch.bfloat16)
    with torch.device("meta"):
        lora.attach({"unet": unet}, lora.LORA, 8, 1)
    learned = sum(weight.numel() for weight in unet.parameters() if weight.requires_grad)
    assert all(weight.dtype == torch.float32 for weight in unet.parameters() if weight.requires_grad)
    whole = sum(weight.numel() for weight in unet.parameters())
    assert learned < ADAPTER_SHARE * whole
    if checkpointing:
        unet.train()
        unet.enable_gradient_checkpointing()
    with FakeTensorMode():
        pretend(unet)
        latents, times, hidden, added = unet_inputs(unet, layout, 1, torch.bfloat16)
        with as_a_gpu_computes(), LiveBytes(unet) as count:
            unet(latents, times, hidden, added_cond_kwargs=added).sample.float().sum().backward()
    gradients = 4 * learned  # which the table counts with the adapter
    return (count.peak - gradients) / SIDE**2


def decoding_and_encoding(layout: str) -> tuple[float, float]:
    """Returns the bytes a pixel of an image that is decoded, and encoded, in float32."""
    vae = shape_of(lambda: published.vae(layout), torch.float32)
    peaks = []
    with FakeTensorMode():
        pretend(vae)
        works = (
            lambda: vae.decode(torch.empty(1, CHANNELS, SIDE // SCALE, SIDE // SCALE), return_dict=False),
            lambda: vae.encode(torch.empty(1, 3, SIDE, SIDE)),
        )
        for work in works:
            with torch.no_grad(), LiveBytes(vae) as count:
                work()
            peaks.append(count.peak / SIDE**2)
    return peaks[0], peaks[1]


@pytest.mark.parametrize("layout", ["sd1", "sdxl"])
def test_the_table_says_what_drawing_takes(layout):
    table = family(layout).defaults.activations
    assert table.drawing == pytest.approx(drawing(layout), rel=0.05)
    assert (table.decoding, table.encoding) == pytest.approx(decoding_and_encoding(layout), rel=0.05)


@pytest.mark.parametrize("layout", ["sd1", pytest.param("sdxl", marks=pytest.mark.chaos)])
def test_the_table_says_what_training_takes(layout):
    table = family(layout).defaults.activations
    assert table.training == pytest.approx(training(layout, False), rel=0.05)
    assert table.checkpointed == pytest.approx(training(layout, True), rel=0.05)
