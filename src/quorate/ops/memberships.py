"""The two ways to a cluster's membership from the command line.

A run has a supervisor, which starts and ends processes along with the change. Sidecars that something else keeps alive
are asked at the admin listener of any one of them: there, who comes is started by whoever keeps them.
"""

from __future__ import annotations

import ssl
import time
from typing import Any, Protocol

from quorate import limits
from quorate.errors import Misuse
from quorate.ops import client
from quorate.ops.changes import ASK_AGAIN
from quorate.ops.options import ask
from quorate.ops.rundir import RunInfo

PAUSE_SECONDS = 0.2


class Cluster(Protocol):
    """A cluster whose membership can be seen and changed. Each raises as `client.ask` does."""

    def members(self) -> dict[str, Any]:
        """Return the document of /members."""
        ...

    def add(self) -> str:
        """Have a replica come, and return its name."""
        ...

    def remove(self, name: str) -> dict[str, Any]:
        """Have a replica go, and return the document of /members after it."""
        ...


class Supervised:
    """The run that `info` describes."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info

    def members(self) -> dict[str, Any]:
        """See Cluster."""
        return ask(self._info, "/members")

    def add(self) -> str:
        """See Cluster."""
        return str(self._change("/members")["name"])

    def remove(self, name: str) -> dict[str, Any]:
        """See Cluster."""
        return self._change(f"/members/{name}/remove")

    def _change(self, path: str) -> dict[str, Any]:
        return ask(self._info, path, "POST", seconds=3 * limits.CHANGE_SECONDS_MAX)


class Unsupervised:
    """The cluster of the sidecar whose admin listener is at `url`; a newcomer is to listen at `address`."""

    def __init__(self, url: str, address: str | None, tls: ssl.SSLContext | None) -> None:
        self._url = url.rstrip("/") + "/members"
        self._address = address
        self._tls = tls

    def members(self) -> dict[str, Any]:
        """See Cluster."""
        return client.ask(self._url, tls=self._tls)

    def add(self) -> str:
        """See Cluster."""
        if self._address is None:
            raise Misuse("where does it listen for its peers? - command line", "add --address HOST:PORT")
        replica = self.members()["last_id"] + 1
        self._change({"add": {"replica": replica, "address": self._address}})
        return f"r{replica}"

    def remove(self, name: str) -> dict[str, Any]:
        """See Cluster."""
        if not name.removeprefix("r").isdecimal():
            raise Misuse(f"{name} is no replica's name - command line", "give it as in r1")
        return self._change({"remove": {"replica": int(name.removeprefix("r"))}})

    def _change(self, wish: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + limits.CHANGE_SECONDS_MAX
        while True:
            fields = {"If-Match": f'"{self.members()["version"]}"'}
            try:
                return client.ask(self._url, "POST", limits.CHANGE_SECONDS_MAX + 1, wish, fields, self._tls)
            except Misuse as error:
                if not error.what.endswith(ASK_AGAIN) or time.monotonic() > deadline:
                    raise
            time.sleep(PAUSE_SECONDS)
