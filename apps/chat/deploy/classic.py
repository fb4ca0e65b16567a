"""The classic deployment on one machine: real servers, a process for each service, and the gateway before them.

    python -m deploy.classic --port 8080

Everything listens on loopback and lives in one directory, by default a temporary one that goes in the end. Ends when it
is told to, or when a part ends by itself: which one, and why, is the last thing said.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.gateway import Gateway
from deploy.process import HOST, Server, ServerFailed, workspace
from deploy.servers import Kafka, ObjectStore, PostgreSQL, RabbitMQ, Redis

SERVICES = ("users", "auth", "notifications", "web", "autoreply", "scripts", "router")
INSTANCES = {"web": 2, "notifications": 2}
"""Of services that run more than once side by side."""
PATHS = {"router": "messages"}
"""By what name the gateway knows a service, if not by its own."""
HOME = Path(__file__).parents[1]


class Service(Server):
    """A process of one of the chat's services; `settings` are variables of its environment."""

    hello = b"GET /readyz HTTP/1.0\r\n\r\n"
    answer = b"HTTP/1.1 200"

    def __init__(self, directory: Path, service: str, settings: Callable[[str], Mapping[str, str]]) -> None:
        super().__init__(directory)
        self.service = service
        self.name = directory.name  # type: ignore[misc]  # several are of this class, each with a name of its own
        self._settings = settings

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "chat", self.service]

    def _environment(self) -> Mapping[str, str]:
        own = {"PORT": str(self.port), "CHAT_INSTANCE": self.name, "PYTHONPATH": str(HOME)}
        return {**self._settings(self.service), **own}


class Classic:
    """All parts of the deployment; an asynchronous context manager. Its parts may be stopped and started meanwhile."""

    def __init__(self, directory: Path, port: int | None = None) -> None:
        self.postgresql = PostgreSQL(directory / "postgresql", SERVICES)
        self.redis = Redis(directory / "redis")
        self.rabbitmq = RabbitMQ(directory / "rabbitmq")
        self.kafka = Kafka(directory / "kafka")
        self.objects = ObjectStore(directory / "objects")
        self.servers = (self.postgresql, self.redis, self.rabbitmq, self.kafka, self.objects)
        self.services = tuple(
            Service(directory / f"{service}-{number}", service, self._settings)
            for service in SERVICES
            for number in range(1, INSTANCES.get(service, 1) + 1)
        )
        ports = {PATHS.get(service, service): [one.port for one in self.named(service)] for service in SERVICES}
        self.gateway = Gateway(directory / "gateway", ports)
        if port is not None:
            self.gateway.port = port
        self.secrets = {name: secrets.token_hex(32) for name in ("CHAT_TOKEN_SECRET", "CHAT_SERVICE_KEY")}
        """What all parts share."""
        self._stack = AsyncExitStack()

    @property
    def parts(self) -> Sequence[Server]:
        """All of them, in the order in which they start."""
        return (*self.servers, *self.services, self.gateway)

    def named(self, service: str) -> Sequence[Service]:
        """Return the instances of a service."""
        return [one for one in self.services if one.service == service]

    async def __aenter__(self) -> Self:
        for group in (self.servers, self.services, (self.gateway,)):
            started = await asyncio.gather(*(part.start() for part in group), return_exceptions=True)
            for part in group:
                self._stack.push_async_callback(part.stop)
            if failures := [one for one in started if isinstance(one, BaseException)]:
                await self._stack.aclose()
                raise failures[0]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _settings(self, service: str) -> Mapping[str, str]:
        urls = {f"CHAT_{name.upper()}_URL": f"http://{HOST}:{self._port(name)}" for name in ("users", "scripts")}
        return {
            **self.secrets,
            **urls,
            "CHAT_MESSAGES_URL": f"http://{HOST}:{self._port('router')}",
            "CHAT_DATABASE_URL": self.postgresql.url(service),
            "CHAT_BUS_URL": self.kafka.url,
            "CHAT_LOGINS_URL": self.rabbitmq.url,
            "CHAT_PRESENCE_URL": self.redis.url,
            "CHAT_SOURCES_URL": self.objects.url,
        }

    def _port(self, service: str) -> int:
        return self.named(service)[0].port


async def run(directory: Path, port: int) -> None:
    """Run the deployment until SIGINT or SIGTERM; raises ServerFailed if a part doesn't start, or ends by itself."""
    told = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with Classic(directory, port) as classic:
        print(f"The classic chat is at {classic.gateway.url} (Ctrl-C ends it; logs are in {directory}).", flush=True)
        endings = {asyncio.create_task(part.ended()): part for part in classic.parts}
        waiting = asyncio.create_task(told.wait())
        done, pending = await asyncio.wait({waiting, *endings}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for part in (endings[task] for task in done if task in endings):
            raise ServerFailed(f"{part.name} ended by itself with status {await part.ended()}; its log is {part.log}")


def main() -> int:
    """Be the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.classic", description="Run the classic deployment.")
    parser.add_argument("--port", type=int, default=8080, help="where the chat will be found (default: 8080)")
    options = parser.parse_args()
    try:
        with workspace() as directory:
            asyncio.run(run(directory, options.port))
    except ServerFailed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
