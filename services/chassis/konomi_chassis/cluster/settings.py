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
    """Actors that make images; 0 takes one for each GPU of the cluster, or for each `actor_cpus` where it has none,
    less the actors that embed."""

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

    embed_executor: Literal["local", "ray"] = "local"
    """Who embeds the images that join a taste: "local" is the rater's own process, "ray" actors on the cluster."""

    embed_actors: int = Field(default=0, ge=0, le=4096)
    """Actors that embed at most; 0 takes one where images are made there too, which is many times slower, else one for
    each GPU of the cluster, or for each `actor_cpus` where it has none."""

    embed_batch_images: int = Field(default=64, ge=1, le=512)
    """Images an embedding actor takes at a time; so many at most are embedded anew when a machine is lost, and as many
    wait there."""

    embed_idle_seconds: float = Field(default=60.0, ge=0, le=86400)
    """Seconds without work after which embedding actors end, so that their GPUs and cores are free for others."""

    def drawing_actors(self, places: int) -> int:
        """Returns how many actors make images on a cluster that has room for so many of any kind."""
        left = self.embedding_actors(places) if self.embed_executor == "ray" else 0
        return self.actors or max(1, places - left)

    def embedding_actors(self, places: int) -> int:
        """Returns how many actors embed on a cluster that has room for so many of any kind."""
        return self.embed_actors or (1 if self.executor == "ray" else places)
