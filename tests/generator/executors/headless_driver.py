"""A process that draws on a Ray cluster, as the generator's service does; told a line it draws, and says what came.

Of its own, since Ray may end whoever is in a cluster that has lost its head. python -m … HOME ADDRESS CONFIGS
"""

import os
import sys
from pathlib import Path

from konomi.errors import KonomiError
from konomi_chassis.cluster.settings import ScaleSettings
from konomi_chassis.decoding.decoder import Decoder
from konomi_chassis.settings import StoreSettings
from konomi_chassis.storage.artifacts import ArtifactStore
from konomi_generator.assembly import assemble
from konomi_generator.executors.opening import open_executor
from konomi_generator.requests import Image, Request
from konomi_generator.settings import GeneratorSettings


def main(home: Path, address: str, configs: Path) -> None:
    """Draws a night's request for each line that comes in, of so many images; ends with the input."""
    own = GeneratorSettings(home=home, threads=1, single_file_configs=configs, device="cpu", image_batch=1)
    decoder = Decoder()
    generator, _ = assemble(own, ArtifactStore(StoreSettings(home=home)), decoder)
    settings = ScaleSettings(home=home, executor="ray", address=address, batch_images=2, patience_seconds=300)
    executor = open_executor(settings, generator, own)
    print("ready", os.getpid(), flush=True)
    for line in sys.stdin:
        images = [Image("a cat", seed) for seed in range(int(line))]
        try:
            for finished in executor.generate(Request(images, steps=20, night="headless"), lambda: False):
                print("recalled" if finished.recalled else "made", finished.index, flush=True)
            print("done", flush=True)
        except KonomiError as error:
            print("refused", error.reason, error.message, flush=True)
    executor.close()
    generator.close()
    decoder.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
