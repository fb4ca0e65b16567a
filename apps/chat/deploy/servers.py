"""PostgreSQL, Redis, RabbitMQ, Kafka and an object store, each on loopback: see `deploy.process`.

`url` is what the settings of the chat take. What was acknowledged survives `kill`, except in Redis, which is told to
keep nothing: presence is registered anew.
"""

from __future__ import annotations

import base64
import glob
import os
import shutil
import signal
import stat
import struct
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.process import HOST, Server, ServerFailed, find_program, free_port

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "chat-servers"
"""Where `.ci/ensure` puts what doesn't come from Debian."""

_HERE = Path(__file__).parent


class PostgreSQL(Server):
    """Its superuser is `chat`; a new directory gets a database of each name. Runs as `postgres` where we are root."""

    name = "PostgreSQL"
    hello = struct.pack(">II", 37, 3 << 16) + b"user\0chat\0database\0postgres\0\0"
    answer = b"R"
    stop_signal = signal.SIGINT  # SIGTERM would wait for the clients
    orphan_signal = signal.SIGQUIT  # has it remove its shared memory

    def __init__(self, directory: Path, databases: Sequence[str] = ("chat",)) -> None:
        super().__init__(directory)
        self._databases = databases
        if os.geteuid() == 0:
            self.user = "postgres"

    def url(self, database: str = "chat") -> str:
        """Return the URL of a database."""
        return f"postgresql://chat@{HOST}:{self.port}/{database}"

    def _prepare(self) -> None:
        if self.user is not None:
            self._let_in(self.user)
        if not (self.directory / "data/PG_VERSION").exists():
            self._run(
                [_postgresql("initdb"), "-D", "data", "-U", "chat", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]
            )
            creating = "".join(f'CREATE DATABASE "{name}";\n' for name in self._databases)
            self._run([_postgresql("postgres"), "--single", "-D", "data", "postgres"], creating)

    def _let_in(self, user: str) -> None:
        for parent in self.directory.parents:
            if not parent.stat().st_mode & stat.S_IXOTH:
                raise ServerFailed(f"PostgreSQL runs as {user}, who may not enter {parent}: take another directory")
        shutil.chown(self.directory, user)

    def _command(self) -> Sequence[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
        }
        return [_postgresql("postgres"), "-D", "data", *(f"--{name}={value}" for name, value in settings.items())]


def _postgresql(program: str) -> str:
    """Debian keeps these off PATH, by version."""
    return find_program(program, *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), word="postgresql")


class Redis(Server):
    """Keeps nothing on disk."""

    name = "Redis"
    hello = b"PING\r\n"
    answer = b"+PONG"

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"redis://{HOST}:{self.port}/0"

    def _command(self) -> Sequence[str]:
        settings = {"bind": HOST, "port": self.port, "save": "", "appendonly": "no", "maxmemory": "64mb"}
        options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return [find_program("redis-server", word="redis"), *options]


class PortMapper(Server):
    """Erlang's epmd, which tells nodes' ports by their names. A node has its own, so that no two nodes can meet."""

    name = "epmd"
    hello = b"\0\1n"  # names, please
    answer = b"\0\0"  # and two bytes more: its port

    def _command(self) -> Sequence[str]:
        return [find_program("epmd", word="rabbitmq"), "-port", str(self.port), "-address", HOST]


class RabbitMQ(Server):
    """One node, with its own port mapper and a cookie of its own; durable queues and persistent messages are kept."""

    name = "RabbitMQ"
    hello = b"AMQP\0\0\x09\x01"
    answer = b"\x01"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._mapper = PortMapper(self.directory / "epmd")
        self._node_port = free_port()

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    async def start(self) -> None:
        """See `Server`."""
        self._claim()
        if self._mapper.pid is None:
            await self._mapper.start()
        try:
            await super().start()
        except BaseException:
            await self._mapper.kill()
            raise

    async def stop(self) -> None:
        """See `Server`."""
        try:
            await super().stop()
        finally:
            await self._mapper.stop()

    async def kill(self) -> None:
        """See `Server`."""
        await super().kill()
        await self._mapper.kill()

    def _command(self) -> Sequence[str]:
        # Not the one on PATH: Debian's wrapper changes the user and the directory.
        return [find_program("/usr/lib/rabbitmq/bin/rabbitmq-server", word="rabbitmq")]

    def _environment(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.directory),  # where the cookie lies
            "ERL_EPMD_ADDRESS": HOST,
            "ERL_EPMD_PORT": str(self._mapper.port),
            "RABBITMQ_NODENAME": "chat@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(_HERE / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_ENABLED_PLUGINS_FILE": "/dev/null",
            "RABBITMQ_LOG": "-color",
            "RABBITMQ_MNESIA_BASE": str(self.directory / "data"),
            "RABBITMQ_LOG_BASE": str(self.directory),
            "RUNNING_UNDER_SYSTEMD": "1",  # has the script become the node, instead of a parent that hides it
        }


class Kafka(Server):
    """One node, broker and controller in one, in KRaft mode."""

    name = "Kafka"
    hello = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # ApiVersions, version 0, correlation id 1, no client id
    answer = b"\0\0"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._controller_port = free_port()

    @property
    def url(self) -> str:
        """Return its URL."""
        return f"kafka://{HOST}:{self.port}"

    def _prepare(self) -> None:
        data = self.directory / "data"
        addresses = {
            "listeners": f"PLAINTEXT://{HOST}:{self.port},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{self.port}",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "log.dirs": data,
        }
        own = "".join(f"{name}={value}\n" for name, value in addresses.items())
        (self.directory / "server.properties").write_text((_HERE / "kafka.properties").read_text() + own)
        if not (data / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            self._run(
                [
                    *_java("-Xmx128m"),
                    "kafka.tools.StorageTool",
                    "format",
                    f"--cluster-id={cluster}",
                    "--config=server.properties",
                ]
            )

    def _command(self) -> Sequence[str]:
        return [*_java("-Xmx512m"), "kafka.Kafka", "server.properties"]


def _java(memory: str) -> Sequence[str]:
    libraries = CACHE / "kafka"
    if not libraries.is_dir():
        raise ServerFailed(f"Kafka is not in {libraries}: run `.ci/ensure java maven kafka`")
    options = [
        memory,
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # halves what a start costs; the second compiler pays only after minutes of load
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    ]
    return [find_program("java", word="java"), *options, "-cp", f"{libraries}/*"]


class ObjectStore(Server):
    """The Versity S3 gateway over a directory, with one bucket, `scripts`."""

    name = "versitygw"
    hello = b"GET /health HTTP/1.0\r\n\r\n"
    answer = b"HTTP/1.1 200"

    @property
    def url(self) -> str:
        """Return the URL of the bucket, with access key and secret key."""
        return f"s3://chat:chat-secret@{HOST}:{self.port}/scripts"

    def _prepare(self) -> None:
        for part in ("objects/scripts", "metadata"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)

    def _environment(self) -> Mapping[str, str]:
        return {"ROOT_ACCESS_KEY": "chat", "ROOT_SECRET_KEY": "chat-secret"}

    def _command(self) -> Sequence[str]:
        program = find_program("versitygw", str(CACHE), word="versitygw")
        # Beside the objects, for not every file system has the extended attributes that they'd be kept in otherwise.
        backend = ["posix", "--sidecar", str(self.directory / "metadata"), str(self.directory / "objects")]
        return [program, "--port", f"{HOST}:{self.port}", "--health", "/health", "--quiet", *backend]
