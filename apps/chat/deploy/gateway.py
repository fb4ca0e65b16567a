"""nginx, the gateway before the services of the classic deployment: `gateway.conf` says which path goes where."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.process import HOST, Server, find_program

SERVICES = ("auth", "users", "notifications", "messages", "autoreply", "scripts", "web")
"""The names by which `gateway.conf` calls them."""


class Gateway(Server):
    """Takes turns among the instances of each service: `instances` maps SERVICES to the ports they listen on.

    An instance that refuses a connection is passed over for two seconds.
    """

    name = "nginx"
    hello = b"GET /healthz HTTP/1.0\r\n\r\n"
    answer = b"HTTP/1.1 404"
    stop_signal = signal.SIGQUIT  # sockets are given `worker_shutdown_timeout`
    orphan_signal = signal.SIGTERM  # its workers would outlive SIGKILL

    def __init__(self, directory: Path, instances: Mapping[str, Sequence[int]]) -> None:
        super().__init__(directory)
        if wrong := set(instances) ^ set(SERVICES):
            raise ValueError(
                f"the gateway serves {', '.join(SERVICES)}; too many or missing: {', '.join(sorted(wrong))}"
            )
        self._instances = instances

    @property
    def url(self) -> str:
        """Return the origin that browsers see."""
        return f"http://{HOST}:{self.port}"

    def _prepare(self) -> None:
        (self.directory / "tmp").mkdir(exist_ok=True)
        shutil.copy(Path(__file__).parent / "gateway.conf", self.directory)
        (self.directory / "listen.conf").write_text(f"listen {HOST}:{self.port};\n")
        (self.directory / "upstreams.conf").write_text("".join(map(_upstream, self._instances.items())))

    def _command(self) -> Sequence[str]:
        nginx = find_program("nginx", "/usr/sbin", word="nginx")
        prefix = f"{self.directory}/"
        return [nginx, "-p", prefix, "-e", "stderr", "-c", "gateway.conf", "-g", "daemon off;"]


def _upstream(instances: tuple[str, Sequence[int]]) -> str:
    service, ports = instances
    servers = "".join(f"    server {HOST}:{port} fail_timeout=2s;\n" for port in ports)
    return f"upstream {service} {{\n{servers}    keepalive 16;\n}}\n"
