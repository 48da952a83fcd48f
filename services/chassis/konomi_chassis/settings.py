"""Settings of the server assembly and of the artifact store."""

import ipaddress
from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from konomi.settings import DatabaseSettings as DatabaseSettings
from konomi.settings import KonomiSettings

MIB = 1024 * 1024


class ServerSettings(KonomiSettings):
    """Where a role listens, whom it trusts, how much it takes on."""

    toml_table: ClassVar[str] = "server"

    host: str = "127.0.0.1"
    """Address to bind. Anything but a loopback address needs tls_certificate and tls_key, or the server refuses."""

    port: int = Field(default=0, ge=0, le=65535)
    """Port to bind; 0 takes a free one and reports it."""

    tls_certificate: Path | None = None
    """PEM file of the server's certificate chain."""

    tls_key: Path | None = None
    """PEM file of the server's private key."""

    tls_client_ca: Path | None = None
    """PEM file of the authority that signs client certificates; when set, every client must show one (mTLS)."""

    max_in_flight: int = Field(default=64, ge=2)
    """Calls of a kind (labels, reads, work) served at once; one more is refused at once, with a delay."""

    max_in_flight_per_principal: int = Field(default=32, ge=1)
    """Calls of a kind one caller may have in flight, so that no tool starves another."""

    label_reserve: int = Field(default=8, ge=0)
    """Places for labels and for reads that only the owner's calls may use: no other caller keeps the page waiting."""

    max_bytes_in_flight: int = Field(default=256 * MIB, ge=1)
    """Bytes of the messages that work is done on at once; once there are as many a call is refused."""

    max_pixels_in_flight: int = Field(default=512_000_000, ge=1)
    """Pixels of the images in those messages, as callers say, or as their bytes let guess."""

    message_seconds: float = Field(default=30.0, gt=0)
    """Time a caller is given to send the first message of a call, and to take the answer of a call that has one."""

    max_message_bytes: int = Field(default=16 * MIB, ge=1024)
    """Largest message in either direction; larger things travel in chunks through ArtifactService."""

    drain_seconds: float = Field(default=30.0, ge=0)
    """Time calls in flight are given to finish after SIGTERM."""

    default_deadline_seconds: float = Field(default=3600.0, gt=0)
    """Deadline of a call whose client set none."""

    auth_failures_per_minute: int = Field(default=10, ge=1)
    """Refused tokens from one address in a minute, beyond which the answer is RESOURCE_EXHAUSTED."""

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> "ServerSettings":
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key come together; only one of them is set")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    @property
    def bracketed_host(self) -> str:
        """The host as it stands before a port: IPv6 addresses in brackets."""
        bare = self.host.strip("[]")
        return f"[{bare}]" if ":" in bare else bare

    @property
    def is_loopback(self) -> bool:
        """True when only this machine can reach the address."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False


class StoreSettings(KonomiSettings):
    """Where artifacts live."""

    toml_table: ClassVar[str] = "store"

    model_config = SettingsConfigDict(env_prefix="KONOMI_STORE_")

    url: str = ""
    """URL of the store: "s3://bucket/folder", "file:///data/artifacts", or another of fsspec's. Empty: the folder
    `artifacts` of the home. Credentials never stand here; AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile or a
    role bring them."""

    endpoint: str = Field(default="", pattern=r"(https?://[A-Za-z0-9._\[\]:-]{1,255}/?)?")
    """Address of a server that speaks S3 and is not Amazon's, for example "http://127.0.0.1:9000"."""

    region: str = Field(default="", pattern=r"[a-z0-9-]{0,40}")
    """Region of the bucket; empty where AWS_REGION or the profile says it, or the server asks for none."""

    timeout_seconds: float = Field(default=20.0, gt=0, le=600)
    """Seconds a connection to the bucket, or the next part of an answer, may take before it is tried again."""

    retry_seconds: float = Field(default=60.0, ge=0, le=3600)
    """Seconds for which a call to the bucket that broke off is tried again before it fails."""

    node_cache_bytes: int = Field(default=8 * 1024 * MIB, ge=0)
    """Bytes of a bucket this node keeps in `cache/artifacts` of its home, the oldest going first; 0 keeps none."""

    max_artifact_bytes: int = Field(default=16 * 1024 * MIB, ge=1)
    """Largest artifact; an upload is cut off beyond it."""

    min_free_bytes: int = Field(default=64 * MIB, ge=0)
    """Space kept free on the store's disk, so that labels can still be written when images fill it."""
