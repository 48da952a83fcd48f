"""Where the page listens and by which names it may be called."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from konomi.settings import KonomiSettings

USUAL_PORT = 50050
"""Taken where it is free, so that an installed page finds its server again."""


class PageSettings(KonomiSettings):
    """Settings of the page, in the [page] table of konomi.toml."""

    toml_table: ClassVar[str] = "page"

    page_host: str = "127.0.0.1"
    """Address to listen on; any but loopback needs a certificate, or the page refuses to start."""
    page_port: int | None = Field(None, ge=0, le=65535)
    """Port to listen on; 0 takes any free one, none the usual one where it is free."""
    page_names: tuple[str, ...] = ()
    """Further exact values of the Host header, for example "studio.local:50050"."""
    page_certificate: Path | None = None
    """PEM certificate of the page."""
    page_key: Path | None = None
    """PEM key of that certificate."""
