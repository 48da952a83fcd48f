"""Fills diffusers' and transformers' networks with the tensors of an original checkpoint, each of them accounted for.

A network gets every weight it has from the file, or the file is refused by the names that are missing; what the file
holds of a UNet besides is refused too, since weights that are left out draw other pictures than the author's.
"""

from collections.abc import Iterable
from typing import Any, NoReturn

from konomi.errors import FailedPrecondition
from konomi_chassis.models.families.unet.original_names import Original, text_names, unet_name, vae_name

SHOWN = 3


class OriginalTensors:
    """The tensors of one checkpoint, by their original names."""

    def __init__(self, id: str, file: Any, dtype: Any) -> None:
        """Takes the base model's id, an open safetensors file and the number format wanted."""
        self._id, self._file, self._dtype = id, file, dtype
        self._names = set(file.keys())

    def unet(self, network: Any, head: str) -> Any:
        """Returns the UNet with the file's weights; `head` stands before its names in the file.

        Raises:
            FailedPrecondition: the file lacks weights, or holds some of another UNet (reason MODEL_BROKEN).
        """
        own = network.state_dict()
        layers = int(network.config.layers_per_block)
        places = {name: [Original(head + unet_name(name, layers, own))] for name in own}
        foreign = {name for name in self._names if name.startswith(head)} - {p[0].name for p in places.values()}
        if foreign:
            self._refuse(f"its UNet has {len(foreign)} weights that no UNet of its layout has", foreign)
        return self._filled(network, places, "UNet")

    def vae(self, network: Any, head: str) -> Any:
        """Returns the autoencoder with the file's weights. Raises FailedPrecondition where some are missing."""
        blocks = len(network.config.block_out_channels)
        places = {name: [Original(head + vae_name(name, blocks))] for name in network.state_dict()}
        return self._filled(network, places, "autoencoder")

    def text_encoder(self, network: Any, head: str, open_clip: bool) -> Any:
        """Returns a text encoder with the file's weights. Raises FailedPrecondition where some are missing.

        Args:
            network: as transformers builds it.
            head: stands before its names in the file.
            open_clip: whether it is one of OpenCLIP's.
        """
        places = {
            name: [Original(head + p.name, p.part, p.transposed) for p in text_names(name, open_clip)]
            for name in network.state_dict()
        }
        return self._filled(network, places, "text encoder")

    def _filled(self, network: Any, places: dict[str, list[Original]], what: str) -> Any:
        state, missing = {}, []
        for name, empty in network.state_dict().items():
            place = next((place for place in places[name] if place.name in self._names), None)
            if place is None:
                missing.append(places[name][0].name)
                continue
            state[name] = self._tensor(place, tuple(empty.shape))
        if missing:
            self._refuse(f"its {what} lacks {len(missing)} of {len(places)} weights", missing)
        network.load_state_dict(state, strict=True, assign=True)
        return network

    def _tensor(self, place: Original, shape: tuple[int, ...]) -> Any:
        tensor = self._file.get_tensor(place.name)
        if place.part is not None:
            tensor = tensor.chunk(3)[place.part]
        if place.transposed:
            tensor = tensor.T
        # a convolution of one pixel and a layer are the same numbers
        plain = [[side for side in sides if side != 1] for sides in (tensor.shape, shape)]
        if plain[0] != plain[1]:
            self._refuse(f"a weight has the shape {tuple(tensor.shape)} where {shape} was expected", [place.name])
        return tensor.reshape(shape).to(self._dtype).contiguous().clone()

    def _refuse(self, why: str, names: Iterable[str]) -> NoReturn:
        shown = ", ".join(name[:100] for name in sorted(names)[:SHOWN])
        raise FailedPrecondition(
            f'The base model "{self._id}" cannot be loaded: {why}, for example {shown}. Download it again, or take the '
            "checkpoint its author published.",
            reason="MODEL_BROKEN",
        )
