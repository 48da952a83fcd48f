"""A transformer whose frozen blocks wait on the host and come to the device one at a time, to train in little memory.

Each block is a checkpoint of its own (Chen et al. 2016, 1604.06174): its weights come, it is computed, they go, and
once more for its backward pass, which holds the copies that came for as long as it needs them. What learns stays on
the device. Numbers are those of checkpointing without this, to the bit. diffusers' group offloading, made for
inference, would take a block's weights away before its backward pass.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


class StreamedBlocks:
    """The blocks of one transformer: the members of its lists of modules.

    Attributes:
        fetched: how often a block's weights have come to the device.
    """

    def __init__(self, network: Any, device: torch.device) -> None:
        """Takes a frozen transformer on the host, whose blocks run through this from now on.

        Args:
            network: of diffusers; its own checkpointing is off from now on.
            device: where it computes.
        """
        self.fetched = 0
        self._network, self._device = network, device
        self._blocks = list(_blocks(network))
        network.disable_gradient_checkpointing()
        for block in self._blocks:
            if device.type == "cuda":
                for weight in block.parameters():
                    weight.data = weight.data.pin_memory()
            block.forward = partial(self._run, block, block.forward)

    def settle(self) -> None:
        """Has on the device what belongs to no block, and what of the blocks learns."""
        waiting = {id(w) for block in self._blocks for w in block.parameters() if not w.requires_grad}
        for tensor in (*self._network.parameters(), *self._network.buffers()):
            if id(tensor) not in waiting and tensor.device.type != self._device.type:
                tensor.data = tensor.data.to(self._device)

    def _run(self, block: torch.nn.Module, forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """Returns a block's answer."""
        call = partial(self._with_weights, block, forward)
        if not torch.is_grad_enabled():
            return call(*given, **named)
        return checkpoint(call, *given, use_reentrant=False, preserve_rng_state=False, **named)

    def _with_weights(self, block: torch.nn.Module, forward: Callable[..., Any], *given: Any, **named: Any) -> Any:
        waiting = [(part, name, weight) for part, name, weight in _places(block) if not weight.requires_grad]
        self.fetched += 1
        try:
            for part, name, weight in waiting:
                # another tensor in its place: what a backward pass keeps of this one is not changed when it goes
                part._parameters[name] = self._copy(weight)
            return forward(*given, **named)
        finally:  # a checkpoint's second run ends by an exception once it has what it needs
            for part, name, weight in waiting:
                part._parameters[name] = weight

    def _copy(self, weight: torch.nn.Parameter) -> Any:
        return weight.detach().to(self._device, non_blocking=True, copy=True)


def _places(block: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str, torch.nn.Parameter]]:
    """Yields a block's weights: the module that has each, and its name there."""
    for part in block.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                yield part, name, weight


def _blocks(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    for part in network.children():
        if isinstance(part, torch.nn.ModuleList):
            yield from part
