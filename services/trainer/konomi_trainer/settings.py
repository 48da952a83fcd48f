"""Settings of the trainer."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

import konomi_chassis
from konomi.settings import KonomiSettings
from konomi_chassis.models.families.quantization import Quantization


class TrainerSettings(KonomiSettings):
    """Where and with what the trainer trains."""

    toml_table: ClassVar[str] = "trainer"

    threads: int = Field(default=0, ge=0, le=1024)
    """Threads of one training step; 0 means all cores. Another number may change the last bits of a result."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """"auto", "cpu", "cuda" or "cuda:1"; auto takes a GPU where there is one."""

    processes: int = Field(default=1, ge=1, le=64)
    """Processes one run is trained with, each on a GPU of its own; they share the rows of every batch. Another number
    may change the last bits of a result."""

    own_process: bool | Literal["auto"] = "auto"
    """Trains every run in a process of its own, with which all of its memory goes back, the GPU's context too; "auto"
    does so on a GPU. On a CPU starting it takes some seconds, which a short run does not win back."""

    compile_blocks: bool | Literal["auto"] = "auto"
    """Compiles the UNet's repeated blocks, which may change the last bits of a result; "auto" does so on a GPU where
    the first steps of a run say that the rest is long enough to win the time back. Needs a C++ compiler."""

    gradient_checkpointing: bool | Literal["auto"] = "auto"
    """Makes activations twice instead of keeping them: slower by a third, but large bases fit into less memory. "auto"
    is what the base's file of settings says, else so for bases of SDXL's class on cards below 48 GiB, and for any base
    of which one image does not fit else."""

    block_offload: bool | Literal["auto"] = "auto"
    """Keeps a flow transformer's blocks in the computer's memory and brings them to the device one by one, twice a
    step: a base of 12 billion weights then trains on a card of 12 GB, slower by what crosses the bus. "auto" does so on
    a GPU where the base does not fit otherwise, by count."""

    quantization: Quantization = "none"
    """Packs a flow transformer's frozen weights as "int8" or "nf4", a half or two sevenths of bf16's memory, where a
    request says nothing else; a LoRA learns beside them and its file is as ever. Needs `konomi[quantized]`."""

    single_file_configs: Path = Path(konomi_chassis.__file__).with_name("configs")
    """Folder with the configurations of single-file checkpoints: sd1, sd2, sdxl."""

    embedder: str = "starter"
    """What compares captions and images when regularisation images are retrieved: "starter", or
    "open_clip:NAME/FILE.safetensors" with a file in the home's models folder."""
