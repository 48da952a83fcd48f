"""Settings of the trainer."""

from typing import ClassVar

from pydantic import Field

from konomi.settings import KonomiSettings


class TrainerSettings(KonomiSettings):
    """Where and with what the trainer trains."""

    toml_table: ClassVar[str] = "trainer"

    threads: int = Field(default=0, ge=0, le=1024)
    """Threads of one training step; 0 means all cores. Another number may change the last bits of a result."""

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """"auto", "cpu", "cuda" or "cuda:1"; auto takes a GPU where there is one."""

    gradient_checkpointing: bool = False
    """Makes activations twice instead of keeping them: slower, but large bases fit into less memory."""
