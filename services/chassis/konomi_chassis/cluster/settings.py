"""Settings of what runs on a Ray cluster."""

from typing import ClassVar, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from konomi.settings import KonomiSettings


class ScaleSettings(KonomiSettings):
    """What runs on a Ray cluster. One home, one store and the same models are needed on each of its machines."""

    toml_table: ClassVar[str] = "scale"

    model_config = SettingsConfigDict(env_prefix="KONOMI_SCALE_")

    executor: Literal["local", "ray"] = "local"
    """Who makes images: "local" is the service's own process, "ray" actors on a Ray cluster (extra `ray`)."""

    train_executor: Literal["local", "ray"] = "local"
    """Who trains: "local" is the machine of the trainer's service, "ray" an actor on a Ray cluster for each run, which
    goes on from the newest checkpoint on another machine where its own is lost."""

    address: str = Field(default="auto", pattern=r"auto|[A-Za-z0-9._\[\]-]{1,255}:\d{1,5}")
    """Address of the cluster's head, HOST:PORT; "auto" is the one this machine belongs to."""

    actors: int = Field(default=0, ge=0, le=4096)
    """Actors that make images; 0 takes one for each GPU of the cluster, or for each `actor_cpus` where it has none."""

    actor_cpus: int = Field(default=1, ge=1, le=256)
    """Cores of an actor."""

    batch_images: int = Field(default=8, ge=1, le=512)
    """Images an actor takes at a time; so many at most are made anew when a machine is lost, and as many wait there."""

    patience_seconds: float = Field(default=600.0, gt=0)
    """Seconds for which no actor at all may answer before a request fails."""

    @property
    def uses_ray(self) -> bool:
        """Whether any work of this home is done on a cluster."""
        return any(value == "ray" for name, value in self if name.endswith("executor"))
