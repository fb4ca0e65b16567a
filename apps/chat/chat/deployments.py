"""What a process holds: which services, on which adapters. The settings choose both, and nothing else does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cached_property, partial
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI

from chat.adapters.bus import Bus
from chat.adapters.bus_kafka import KafkaBus
from chat.adapters.bus_local import LocalBus
from chat.adapters.commands import Door, LocalCommands, OrderedCommands
from chat.adapters.database import Database
from chat.adapters.logins import LocalLogins, Logins
from chat.adapters.logins_rabbitmq import RabbitLogins
from chat.adapters.presence import Presence
from chat.adapters.presence_ordered import OrderedPresence
from chat.adapters.presence_redis import RedisPresence
from chat.adapters.sources import DirectorySources, Sources
from chat.adapters.sources_s3 import S3Sources
from chat.auth.api import build as build_auth
from chat.autoreply.api import build as build_autoreply
from chat.commands import Commands
from chat.notifications.api import build as build_notifications
from chat.passwords import Passwords
from chat.presence.apply import REPORT
from chat.router.api import build as build_router
from chat.scripts import jolie
from chat.scripts.api import build as build_scripts
from chat.scripts.running import Running
from chat.scripts.sandbox import Sandbox
from chat.scripts.sandbox.interpreters import CACHE
from chat.service import Background, Service, application
from chat.settings import Settings
from chat.tokens import Tokens
from chat.users.api import build as build_users
from chat.users.client import UsersClient
from chat.web.api import build as build_web


class Parts:
    """The adapters of a process, each made when it is first asked for.

    Whatever has to be started and ended adds itself to `lives`, in the order in which it is to start.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.lives: list[Background] = []
        self.inner: list[Service] = []
        """Services that adapters bring along, for the sake of their commands."""
        self.tokens = Tokens(settings.token_secret.get_secret_value(), settings.service_key.get_secret_value())

    @cached_property
    def passwords(self) -> Passwords:
        """Hashes, with their own bound for this process."""
        return Passwords()

    @cached_property
    def database(self) -> Database:
        """The tables."""
        return Database(self.settings.database_url)

    @cached_property
    def local_commands(self) -> LocalCommands:
        """What applies commands in this process."""
        return LocalCommands(self.database)

    @cached_property
    def commands(self) -> Commands:
        """Where services bring their commands."""
        if scheme(self.settings.commands_url) == "local":
            return self.local_commands
        ordered = OrderedCommands(self.settings.commands_url, self.settings.service_key.get_secret_value())
        self.lives.append(ordered.running)
        return ordered

    @cached_property
    def bus(self) -> Bus:
        """The way of messages."""
        if scheme(self.settings.bus_url) == "local":
            return LocalBus()
        kafka = KafkaBus(self.settings.bus_url)
        self.lives.append(kafka.running)
        return kafka

    @cached_property
    def logins(self) -> Logins:
        """The events of logins."""
        if scheme(self.settings.logins_url) == "local":
            return LocalLogins()
        rabbitmq = RabbitLogins(self.settings.logins_url, self.settings.instance)
        self.lives.append(rabbitmq.running)
        return rabbitmq

    @cached_property
    def presence(self) -> Presence:
        """Who is there."""
        if scheme(self.settings.presence_url) == "local":
            ordered = OrderedPresence(self.database, self.commands, self.settings.instance)
            self.inner.append(Service("presence", APIRouter(), (REPORT,)))
            self.lives.append(ordered.running)
            return ordered
        redis = RedisPresence(self.settings.presence_url, self.settings.instance)
        self.lives.append(redis.running)
        return redis

    @cached_property
    def sources(self) -> Sources:
        """The sources of scripts."""
        if scheme(self.settings.sources_url) == "file":
            return DirectorySources(Path(urlsplit(self.settings.sources_url).path))
        return S3Sources(self.settings.sources_url)

    @cached_property
    def running(self) -> Running:
        """What runs scripts."""
        insecure = self.settings.insecure_scripts
        sandbox = Sandbox(CACHE, workers=self.settings.script_workers, insecure=insecure)
        running = Running(sandbox, jolie.found(insecure=insecure))
        self.lives.append(running.alive)
        return running

    @cached_property
    def users(self) -> UsersClient:
        """The users service, for others."""
        client = UsersClient(self.settings.users_url, self.settings.service_key.get_secret_value())
        self.lives.append(client.running)
        return client


def store_of_sources(parts: Parts) -> Sources | None:
    """Return where sources lie, or None if their service's table has them: a directory would be one copy's own."""
    is_ordered = parts.commands is not parts.local_commands
    return None if is_ordered and scheme(parts.settings.sources_url) == "file" else parts.sources


def scheme(url: str) -> str:
    """Return what chooses the adapter."""
    return urlsplit(url).scheme


SERVICES: Mapping[str, Callable[[Parts], Service]] = {
    "users": lambda parts: build_users(parts.database, parts.commands, parts.passwords),
    "auth": lambda parts: build_auth(
        parts.database, parts.commands, parts.passwords, parts.tokens, parts.logins, parts.users
    ),
    "notifications": lambda parts: build_notifications(
        parts.database, parts.commands, parts.logins, parts.presence, parts.bus
    ),
    "autoreply": lambda parts: build_autoreply(parts.database, parts.commands),
    "scripts": lambda parts: build_scripts(parts.database, parts.commands, store_of_sources(parts), parts.running),
    "router": lambda parts: build_router(parts.database, parts.commands, parts.presence, parts.bus),
    "web": lambda parts: build_web(parts.settings, parts.tokens, parts.users, parts.presence, parts.bus),
}


def process(settings: Settings, names: Sequence[str]) -> FastAPI:
    """Return the application that holds these services."""
    parts = Parts(settings)
    services = [SERVICES[name](parts) for name in names]
    services += parts.inner

    @asynccontextmanager
    async def tables() -> AsyncIterator[None]:
        await parts.database.migrate([service.name for service in services if service.commands])
        yield
        await parts.database.close()

    chain = [
        partial(parts.bus.handling, topic, handler) for service in services for topic, handler in service.topics.items()
    ]
    app = application(services, parts.tokens, [tables, *parts.lives, *chain], parts.database.is_there)
    if parts.commands is not parts.local_commands:
        commands = [command for service in services for command in service.commands]
        app.add_middleware(Door, local=parts.local_commands, commands=commands, tokens=parts.tokens)
    return app
