"""The base of every settings class: arguments, then environment, then konomi.toml, then defaults; unknown keys fail."""

import tomllib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from konomi.errors import FailedPrecondition
from konomi.home import default_home as default_home
from konomi.i18n.catalogue import text

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


class DatabaseSettings(KonomiSettings):
    """Where rows live."""

    toml_table: ClassVar[str] = "database"

    model_config = SettingsConfigDict(env_prefix="KONOMI_DATABASE_")

    url: SecretStr = SecretStr("")
    """PostgreSQL that keeps what rater, trainer and nights know, "postgresql://USER@HOST:5432/DATABASE"; needs the
    extra `postgres`. A password may stand after the user, or where PostgreSQL's own tools look for it (PGPASSFILE).
    Empty: SQLite, in the folder `databases` of the home. One database keeps one home; another host may take it over."""


def _table(path: Path, name: str) -> dict[str, Any]:
    """Returns a table of konomi.toml. Raises FailedPrecondition where the file is no TOML or the table is none."""
    if not name or not path.exists():
        return {}
    try:
        table = tomllib.loads(path.read_text("utf-8-sig")).get(name, {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise FailedPrecondition(
            text(
                "{path} cannot be read: {why}; correct it, or remove it: then the defaults apply", path=path, why=error
            ),
            reason="CONFIGURATION_UNREADABLE",
        ) from error
    if not isinstance(table, dict):
        raise FailedPrecondition(
            text("{path}: a table [{name}] was expected, another value came; correct it", path=path, name=name),
            reason="CONFIGURATION_UNREADABLE",
        )
    return dict(table)
