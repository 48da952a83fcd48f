"""Settings of the generator: device, precision, threads, batch size, configurations of single-file checkpoints."""

import os
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

import konomi_chassis
from konomi.settings import KonomiSettings


class GeneratorSettings(KonomiSettings):
    """How images are made; for small models on the CPU only `precision` can change an image."""

    toml_table: ClassVar[str] = "generator"

    device: str = Field(default="auto", pattern=r"auto|cpu|mps|cuda(:\d+)?")
    """Where models run: "cpu", "cuda", "cuda:1", "mps"; "auto" takes cuda where there is one."""

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Number format of the models; "auto" is fp32 on the CPU and fp16 elsewhere."""

    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads; 0 takes every core this process may use."""

    image_batch: int = Field(default=0, ge=0, le=256)
    """Images denoised together unless the request says so; 0 chooses by model and size."""

    max_side: int = Field(default=2048, ge=64, le=4096)
    """Largest width and height of an image."""

    single_file_configs: Path = Path(konomi_chassis.__file__).with_name("configs")
    """Folder with the configurations of single-file checkpoints: sd1, sd2, sdxl."""

    writers: int = Field(default=4, ge=1, le=64)
    """Threads that encode, hash and store images beside the denoising."""

    def thread_count(self) -> int:
        """Returns the number of CPU threads to use."""
        return self.threads or len(os.sched_getaffinity(0))
