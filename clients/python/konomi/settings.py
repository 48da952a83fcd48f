"""The base of every settings class: arguments, then environment, then konomi.toml, then defaults; unknown keys fail."""

import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from konomi.home import default_home as default_home

LOOPBACK = ("localhost", "127.0.0.0/8", "127.0.0.1", "::1")
"""What never leaves this machine, as `no_proxy` lists it; not every reader of the list knows networks."""


def bypass_proxies_on_loopback(environment: MutableMapping[str, str]) -> None:
    """Makes every library of this process and of its children speak to this machine itself, whatever proxy is set.

    A proxy would get the pictures and the token: gRPC, requests and urllib all ask one for 127.0.0.1 too.

    Args:
        environment: is changed, in both spellings, as libraries read one or the other.
    """
    listed = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = [name.strip() for name in listed.split(",") if name.strip()]
    environment["no_proxy"] = environment["NO_PROXY"] = ",".join([*names, *(n for n in LOOPBACK if n not in names)])


class KonomiSettings(BaseSettings):
    """Settings of one component.

    A subclass sets `toml_table` to its table in `<home>/konomi.toml` and gives each field a docstring;
    KONOMI_<FIELD> in the environment beats the file, keyword arguments beat both.
    """

    model_config = SettingsConfigDict(env_prefix="KONOMI_", frozen=True, extra="forbid", use_attribute_docstrings=True)
    toml_table: ClassVar[str] = ""

    home: Path = Field(default_factory=default_home)
    """The only folder where state lives."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Orders the sources: keyword arguments, environment, `konomi.toml` of the home."""
        home = Path(init_settings().get("home") or default_home())
        toml = InitSettingsSource(settings_cls, init_kwargs=_table(home / "konomi.toml", cls.toml_table))
        return (init_settings, env_settings, toml)

    @classmethod
    def recorded(cls, values: dict[str, Any]) -> Self:
        """Returns settings any version of konomi recorded, for reading what it did: what this one lacks is left out."""
        return cls(**{name: value for name, value in values.items() if name in cls.model_fields})


def _table(path: Path, name: str) -> dict[str, Any]:
    if not name or not path.exists():
        return {}
    return dict(tomllib.loads(path.read_text("utf-8-sig")).get(name, {}))
