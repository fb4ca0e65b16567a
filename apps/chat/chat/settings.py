"""The settings of a process, from the environment: `CHAT_` and the name in capitals.

A deployment is a choice of adapters, and each adapter is chosen by the scheme of its URL: `local:` is the in-process
one. The defaults are those of the replicated deployment, less what has no sensible default.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Secret = Annotated[SecretStr, Field(min_length=32)]


class Settings(BaseSettings):
    """Everything an operator sets."""

    model_config = SettingsConfigDict(env_prefix="CHAT_", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=4000, validation_alias="PORT")
    instance: str = Field(default="local", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Tells several processes of one service apart."""

    token_secret: Secret
    """Signs the tokens of logins: 32 bytes or more."""
    service_key: Secret
    """By which services know each other."""

    database_url: str = "sqlite:///chat.db"
    """`postgresql://…`, or `sqlite:///path`."""
    commands_url: str = "local:"
    """`http://…`, the front door that orders commands; or `local:`, to apply them right here."""
    bus_url: str = Field(default="local:", pattern=r"^(local:|kafka://.+)$")
    """`kafka://host:port`, or several with commas in between."""
    logins_url: str = Field(default="local:", pattern=r"^(local:|amqps?://.+)$")
    """`amqp://…` of RabbitMQ, or `amqps://…`"""
    presence_url: str = Field(default="local:", pattern=r"^(local:|rediss?://.+)$")
    """`redis://…`, or `rediss://…`; `local:` is the tables."""
    sources_url: str = Field(default="file:scripts", pattern=r"^(file:.+|s3s?://[^/]+:[^/]+@[^/]+/.+)$")
    """Where the sources of scripts lie: `file:directory`, or `s3://key:secret@host:port/bucket` (`s3s://` by HTTPS)."""

    users_url: str = "http://127.0.0.1:4000"
    messages_url: str = "http://127.0.0.1:4000"
    scripts_url: str = "http://127.0.0.1:4000"
    """Where services find users, the router and scripts: in the replicated deployment, the front door."""

    page: Path = Path(__file__).parent.parent / "page/dist"
    """The built page."""
    origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins besides the request's own host from which a browser may open a socket."""
    socket_seconds: float = Field(default=600, gt=0)
    """After so long without a word from a client its socket is closed."""
    script_workers: int = Field(default=2, ge=1, le=8)
    insecure_scripts: bool = False
    """Run scripts even where the walls around their workers can't all be put up."""
