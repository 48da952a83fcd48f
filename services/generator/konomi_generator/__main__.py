"""`python -m konomi_generator --home HOME --port PORT`: joins the generator's parts and serves."""

import math
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from konomi_chassis.early_port import refusal

if TYPE_CHECKING:
    from konomi_chassis.decoding.decoder import Decoder
    from konomi_chassis.server import ServedService
    from konomi_chassis.settings import ServerSettings
    from konomi_chassis.storage.artifacts import ArtifactStore
    from konomi_generator.backends.lazy import LazyBackend
    from konomi_generator.generator import Catalogue
    from konomi_generator.sampling import Backend
    from konomi_generator.settings import GeneratorSettings

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DIFFUSERS_DISABLE_CUSTOM_CODE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def services(settings: "ServerSettings", store: "ArtifactStore") -> "Sequence[ServedService]":
    """Returns the generator's service; torch is imported once it serves, after the process was set up for it."""
    from konomi.v1.generator_pb2_grpc import add_GeneratorServiceServicer_to_server
    from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
    from konomi_chassis.server import ServedService
    from konomi_generator.generator import Generator
    from konomi_generator.rules import RULES
    from konomi_generator.servicer import GeneratorServicer
    from konomi_generator.settings import GeneratorSettings, TrainerQuantization

    own = GeneratorSettings(home=settings.home)
    decoder = Decoder(DecodeSettings(home=settings.home))
    models, backend = _backend(own, decoder)
    if own.backend == "diffusers" and own.device not in ("auto", "cpu"):
        backend.make()  # a device this machine may lack is refused before anything is served
    trained_as = TrainerQuantization(home=settings.home).quantization
    make = partial(Generator, models, store, backend, decoder, trained_as=trained_as)
    generator = make(writers=own.writers, max_side=own.max_side, idle_seconds=own.idle_seconds or math.inf)

    def close() -> None:
        generator.close()
        decoder.close()

    return [
        ServedService(
            "konomi.v1.GeneratorService",
            add_GeneratorServiceServicer_to_server,
            GeneratorServicer(generator),
            RULES,
            prepare=generator.watch_idleness,
            warm=backend.make,
            close=close,
        )
    ]


def _backend(own: "GeneratorSettings", decoder: "Decoder") -> "tuple[Catalogue, LazyBackend]":
    """Returns the base models at hand and what makes images with them."""
    from konomi_generator.backends.lazy import LazyBackend

    if own.backend == "sdapi":
        from konomi_generator.backends.webui.backend import SdapiBackend, SdapiModels
        from konomi_generator.backends.webui.client import SdapiClient

        client = SdapiClient(own.sdapi_url, own.sdapi_timeout)
        return SdapiModels(client), LazyBackend(lambda: SdapiBackend(client, decoder, own.sdapi_lora_folder))
    from konomi_chassis.models.catalogue import BaseModels

    return BaseModels(own.home), LazyBackend(lambda: _diffusers(own))


def _diffusers(own: "GeneratorSettings") -> "Backend":
    from konomi_chassis.process import map_torch

    map_torch()
    from konomi_generator.backends.diffusers.backend import DiffusersBackend

    return DiffusersBackend(own)


def main(argv: Sequence[str]) -> int:
    """Serves until told to stop; returns the exit code."""
    refused = refusal("generator", argv)
    if refused:
        return refused
    from konomi_chassis.entrypoint import run
    from konomi_chassis.process import keep_freed_memory

    keep_freed_memory()
    os.environ.update(OFFLINE)
    return run("generator", services, argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
