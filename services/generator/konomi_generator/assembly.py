"""Joins the generator's parts, base models, back end and store, for the service and for an actor alike."""

import math
from functools import partial
from typing import TYPE_CHECKING

from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.backends.lazy import LazyBackend
from konomi_generator.generator import Catalogue, Generator
from konomi_generator.settings import GeneratorSettings, TrainerQuantization

if TYPE_CHECKING:
    from konomi_generator.sampling import Backend


def assemble(own: GeneratorSettings, store: ArtifactStore, decoder: Decoder) -> tuple[Generator, LazyBackend]:
    """Returns the use case in this process, and the back end behind it, which is made at its first use."""
    models, backend = _backend(own, decoder)
    if own.backend == "diffusers" and own.device not in ("auto", "cpu"):
        backend.make()  # a device this machine may lack is refused before anything is served
    trained_as = TrainerQuantization(home=own.home).quantization
    make = partial(Generator, models, store, backend, decoder, trained_as=trained_as)
    return make(writers=own.writers, max_side=own.max_side, idle_seconds=own.idle_seconds or math.inf), backend


def _backend(own: GeneratorSettings, decoder: Decoder) -> tuple[Catalogue, LazyBackend]:
    """Returns the base models at hand and what makes images with them."""
    if own.backend == "sdapi":
        from konomi_generator.backends.webui.backend import SdapiBackend, SdapiModels
        from konomi_generator.backends.webui.client import SdapiClient

        client = SdapiClient(own.sdapi_url, own.sdapi_timeout)
        return SdapiModels(client), LazyBackend(lambda: SdapiBackend(client, decoder, own.sdapi_lora_folder))
    from konomi_chassis.models.catalogue import BaseModels

    return BaseModels(own.home), LazyBackend(lambda: _diffusers(own))


def _diffusers(own: GeneratorSettings) -> "Backend":
    from konomi_chassis.process import map_torch

    map_torch()
    from konomi_generator.backends.diffusers.backend import DiffusersBackend

    return DiffusersBackend(own)
