"""Settings of the generator: back end, device, precision, threads, batch size, what may be given up for memory."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

import konomi_chassis
from konomi.settings import KonomiSettings
from konomi_chassis.models.families.quantization import Quantization
from konomi_chassis.process import usable_cores


class GeneratorSettings(KonomiSettings):
    """How images are made; for small models on the CPU only `precision` and `compile_unet` can change an image."""

    toml_table: ClassVar[str] = "generator"

    backend: Literal["diffusers", "sdapi"] = "diffusers"
    """What makes pixels: "diffusers" in this process, or "sdapi", a running A1111, Forge or SD.Next."""

    sdapi_url: str = Field(default="http://127.0.0.1:7860", pattern=r"https?://[A-Za-z0-9._\[\]:-]{1,255}/?")
    """Address of the program behind "sdapi"; nothing else is ever asked."""

    sdapi_timeout: float = Field(default=600.0, gt=0, le=86_400)
    """Seconds one image of "sdapi" may take."""

    sdapi_lora_folder: Path | None = None
    """The LoRA folder of the program behind "sdapi"; adapters are written there. Without it they are refused."""

    device: str = Field(default="auto", pattern=r"auto|cpu|mps|cuda(:\d+)?")
    """Where models run: "cpu", "cuda", "cuda:1", "mps"; "auto" takes cuda where there is one."""

    precision: Literal["auto", "fp32", "fp16", "bf16"] = "auto"
    """Number format of the models; "auto" is fp32 on the CPU and fp16 elsewhere. Images name any but fp32."""

    quantization: Quantization = "none"
    """Packs a flow transformer's weights as "int8" or "nf4", a half or two sevenths of bf16's memory. Images name it
    and differ a little; LoRAs run beside the packed weights. Needs `konomi[quantized]`. UNets stay whole."""

    compile_unet: bool | Literal["auto"] = False
    """Compile the UNet's repeated blocks at the first step of each shape; faster on a GPU, and changes the last bits of
    an image. "auto" does so on a GPU once the work at hand wins back what compiling costs, both measured."""

    attention_slicing: bool = False
    """Changes nothing any more: torch computes attention in blocks by itself, which takes less memory than slices."""

    tiled_decoding: bool = False
    """Where one image does not fit into memory, decode it in tiles. Images made so say it: seams can show."""

    threads: int = Field(default=0, ge=0, le=256)
    """CPU threads; 0 takes every core this process may use."""

    image_batch: int = Field(default=0, ge=0, le=256)
    """Images denoised together unless the request says so; 0 chooses by model and size."""

    max_side: int = Field(default=2048, ge=64, le=4096)
    """Largest width and height of an image."""

    single_file_configs: Path = Path(konomi_chassis.__file__).with_name("configs")
    """Folder with the configurations of single-file checkpoints: sd1, sd2, sdxl."""

    idle_seconds: float = Field(default=600.0, ge=0, le=604_800)
    """Seconds without a request after which the model is dropped and its memory given back; 0 keeps it for ever."""

    writers: int = Field(default=4, ge=1, le=64)
    """Threads that encode, hash and store images beside the denoising."""

    def thread_count(self) -> int:
        """Returns the number of CPU threads to use."""
        return self.threads or usable_cores()


class TrainerQuantization(KonomiSettings):
    """Of the trainer's settings what the plan of a night's memory goes by."""

    toml_table: ClassVar[str] = "trainer"
    model_config = SettingsConfigDict(extra="ignore")

    quantization: Quantization = "none"
    """See the trainer's settings."""
