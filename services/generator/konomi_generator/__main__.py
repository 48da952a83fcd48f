"""`python -m konomi_generator --home HOME --port PORT`: joins the generator's parts and serves."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from konomi_chassis.early_port import leave, refusal

if TYPE_CHECKING:
    from konomi_chassis.server import ServedService
    from konomi_chassis.settings import ServerSettings
    from konomi_chassis.storage.artifacts import ArtifactStore


def services(settings: "ServerSettings", store: "ArtifactStore") -> "Sequence[ServedService]":
    """Returns the generator's service; torch is imported once it serves, after the process was set up for it."""
    from konomi.v1.generator_pb2_grpc import add_GeneratorServiceServicer_to_server
    from konomi_chassis.cluster.settings import ScaleSettings
    from konomi_chassis.decoding.decoder import Decoder, DecodeSettings
    from konomi_chassis.server import ServedService
    from konomi_generator.assembly import assemble
    from konomi_generator.executors.opening import open_executor
    from konomi_generator.rules import RULES
    from konomi_generator.servicer import GeneratorServicer
    from konomi_generator.settings import GeneratorSettings

    own = GeneratorSettings(home=settings.home)
    decoder = Decoder(DecodeSettings(home=settings.home))
    generator, backend = assemble(own, store, decoder)
    executor = open_executor(ScaleSettings(home=settings.home), generator, own)

    def close() -> None:
        if executor is not generator:
            executor.close()
        generator.close()
        decoder.close()

    return [
        ServedService(
            "konomi.v1.GeneratorService",
            add_GeneratorServiceServicer_to_server,
            GeneratorServicer(generator, executor),
            RULES,
            prepare=generator.watch_idleness,
            warm=backend.make if executor is generator else None,
            close=close,
        )
    ]


def main(argv: Sequence[str]) -> int:
    """Serves until told to stop; returns the exit code."""
    refused = refusal("generator", argv)
    if refused:
        return refused
    from konomi_chassis.entrypoint import run
    from konomi_chassis.process import OFFLINE, keep_freed_memory

    keep_freed_memory()
    os.environ.update(OFFLINE)
    return run("generator", services, argv)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
