"""Whether a device says what the CPU says: networks, a training loss and its gradient, by number format."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch

from konomi_trainer.base_models.pipeline import BasePipeline, TrainingPlacement
from konomi_trainer.data.dataset import Batch
from konomi_trainer.methods import lora
from tests.benchmarks.device.models import NAMES, RANK, off
from tests.benchmarks.device.sections import Check, Row
from tests.benchmarks.trainer import published_layouts as published

ALLOWED = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 3e-2}
"""Relative errors beyond which a number format does not work."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SEED = 5


def parity(check: Check) -> Iterator[Row]:
    """SD 1.5's networks on the device against the CPU, SDXL's UNet against its own fp32, and one training step."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        for what, network, run in _networks(check):
            with torch.inference_mode():
                yield from _errors(check, f"SD 1.5 {what}", network, run, "the CPU's", "cpu")
        network = published.unet("sdxl", check.divisor).eval() if check.rehearse else _on_device(check)
        inputs = _unet_inputs(check, "sdxl", network)
        with torch.inference_mode():
            yield from _errors(check, "SDXL UNet", network, lambda unet: _answer(unet, inputs), "fp32's", check.device)
        yield from _training(check)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def _on_device(check: Check) -> Any:
    with torch.device(check.device):
        return published.unet("sdxl", check.divisor).eval()


def _errors(
    check: Check, what: str, network: Any, run: Callable[[Any], torch.Tensor], whose: str, where: str
) -> Iterator[Row]:
    reference = run(network.to(where))
    for precision, dtype in DTYPES.items():
        if where == check.device and precision == "fp32" and not check.rehearse:
            continue
        got = run(copy.deepcopy(network).to(check.device, dtype))
        yield Row(
            f"{what} in {precision}, relative error to {whose}", off(got, reference), "share", most=ALLOWED[precision]
        )
        if "VAE" in what and precision == "fp32":
            yield Row(
                f"{what} in fp32: pixels that are numbers", float(got.isfinite().float().mean()), "share", least=1.0
            )
        del got
        check.tidy()


def _networks(check: Check) -> Iterator[tuple[str, Any, Callable[[Any], torch.Tensor]]]:
    torch.manual_seed(SEED)
    side = check.side("sd1") // 8
    unet = published.unet("sd1", check.divisor).eval()
    inputs = _unet_inputs(check, "sd1", unet)
    yield "UNet", unet, lambda network: _answer(network, inputs)
    latents = torch.randn(1, 4, side, side)
    yield "VAE", published.vae("sd1", check.divisor).eval(), lambda vae: vae.decode(_like(vae, latents)).sample
    words = torch.arange(77)[None] % 1000
    yield (
        "text encoder",
        published.text_encoder("sd1", 1, check.divisor).eval(),
        lambda tower: tower(words.to(tower.device)).last_hidden_state,
    )


def _like(network: Any, tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(network.device, network.dtype)


def _unet_inputs(check: Check, layout: str, unet: Any) -> dict[str, Any]:
    generator, side = torch.Generator().manual_seed(SEED), check.side(layout) // 8
    inputs: dict[str, Any] = {
        "sample": torch.randn(1, 4, side, side, generator=generator),
        "encoder_hidden_states": torch.randn(1, 77, int(unet.config.cross_attention_dim), generator=generator),
    }
    if layout == "sdxl":
        pooled = published.read(layout, "text_encoder_2")["projection_dim"] // check.divisor
        inputs["text_embeds"] = torch.randn(1, pooled, generator=generator)
        inputs["time_ids"] = torch.full((1, published.TIME_IDS), float(check.side(layout)))
    return inputs


def _answer(unet: Any, inputs: dict[str, Any]) -> torch.Tensor:
    there = {name: _like(unet, value) for name, value in inputs.items()}
    added = {name: there.pop(name) for name in ("text_embeds", "time_ids") if name in there}
    return unet(**there, timestep=torch.tensor(500.0, device=unet.device), added_cond_kwargs=added or None).sample


def _training(check: Check) -> Iterator[Row]:
    """One step of a LoRA: its loss and the gradient of the weights that begin at zero."""
    torch.manual_seed(SEED)
    pipe = published.pipeline("sd1", check.divisor)
    reference = _step(check, copy.deepcopy(pipe), "cpu", "fp32")
    for precision, allowed in ALLOWED.items():
        loss, gradient = _step(check, copy.deepcopy(pipe), check.device, precision)
        for what, got, expected in (("loss", loss, reference[0]), ("gradient of lora_B", gradient, reference[1])):
            title = f"{NAMES['sd1']}: a training step's {what} in {precision}, relative error to the CPU's"
            yield Row(title, off(got, expected), "share", most=allowed)


def _step(check: Check, pipe: Any, device: str, precision: str) -> tuple[torch.Tensor, torch.Tensor]:
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    side = check.side("sd1")
    base = BasePipeline(pipe, "0" * 64, TrainingPlacement(device, precision, False), side)
    weights = lora.attach({"unet": base.network}, lora.LORA, RANK, SEED)
    generator = torch.Generator().manual_seed(SEED)
    latents, noise = (torch.randn(2, 4, side // 8, side // 8, generator=generator) for _ in range(2))
    hidden = torch.randn(2, 77, int(base.network.config.cross_attention_dim), generator=generator)
    times = torch.tensor([100, 700])
    batch = Batch(latents, noise, times, hidden, None, torch.full((2, 6), float(side)), torch.ones(2))
    answer = base.predict(latents.to(device), times.to(device), batch)
    loss = torch.nn.functional.mse_loss(answer.float(), noise.to(device))
    loss.backward()
    names = sorted(name for name in weights if "lora_B" in name)
    return loss.detach(), torch.cat([weights[name].grad.flatten().float().cpu() for name in names])
