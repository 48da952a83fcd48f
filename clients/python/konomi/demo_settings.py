"""The settings of the demo: how many images the person sees, and what the truth rests on."""

from typing import ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from konomi.settings import KonomiSettings


class DemoSettings(KonomiSettings):
    """Settings of `konomi demo`; those of its night are the night's own."""

    model_config = SettingsConfigDict(
        env_prefix="KONOMI_DEMO_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )
    toml_table: ClassVar[str] = "demo"

    prompts: int = Field(24, ge=1)
    """Open prompts the whole demo draws from."""
    reference: int = Field(256, ge=20, le=256)
    """Fixed prompts and seeds every unit's true rates rest on; the base model's images fix the person's tiers."""
    pool: int = Field(448, ge=8)
    """Images of the base model the person may be shown."""
    guidance_scale: float = Field(3.0, ge=1, le=30)
    """Classifier-free guidance of every image of the demo: open prompts need less of it than detailed ones."""
    rounds: int = Field(4, ge=1)
    """Rounds of labelling; the rater is fitted after each."""
    reserve_gib: float = Field(0.25, ge=0)
    """Disk space that must stay free while the demo runs, in GiB."""
