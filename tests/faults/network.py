"""A network of our own: one namespace per node around a switch, whose packet filter cuts whatever a test wants cut.

Node n is 10.77.n.2 and has no way but through the switch, which has no way out: nothing here can reach, or be reached
by, the machine's own network. Node 0 is the clients'; a thread that is `inside` it, and the threads it starts, open
their sockets there.

Links are directed pairs (from, to) of nodes. A fault holds for the packets that travel a pair, acknowledgements of the
other direction included, so that (1, 2) alone is one-way loss. `SHAPE` sends new connections through a link proxy
(tests/faults/link.py) without either end being told another address.

Everything bears the name of the process that made it: `Network.close` removes it by that name, and what a killed test
run left behind goes when the next network is made.
"""

from __future__ import annotations

import ctypes
import enum
import itertools
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

CLIENTS = 0
"""The clients' node."""
PREFIX = "quorate-faults"
PLACES = Path("/run/netns")
PROXY_PORT = 7700
LOSS_PERCENT = 30

Link = tuple[int, int]

_libc = ctypes.CDLL(None, use_errno=True)
_count = itertools.count(1)


class Fault(enum.Enum):
    """What happens to the packets of a link."""

    DROP = "dropped"
    """They vanish."""
    REFUSE = "refused"
    """Each is answered by a reset."""
    LOSE = "lossy"
    """LOSS_PERCENT of them vanish."""
    SHAPE = "shaped"
    """New connections go through the link proxy."""


FILTER = f"""
table ip faults {{
  set dropped {{ type ipv4_addr . ipv4_addr; }}
  set refused {{ type ipv4_addr . ipv4_addr; }}
  set lossy {{ type ipv4_addr . ipv4_addr; }}
  set shaped {{ type ipv4_addr . ipv4_addr; }}
  counter dropped {{ }}
  counter refused {{ }}
  counter lossy {{ }}
  counter shaped {{ }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ip saddr . ip daddr @dropped counter name dropped drop
    ip saddr . ip daddr @lossy numgen random mod 100 < {LOSS_PERCENT} counter name lossy drop
    ip protocol tcp ip saddr . ip daddr @refused counter name refused reject with tcp reset
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    ip protocol tcp ip saddr . ip daddr @shaped counter name shaped redirect to :{PROXY_PORT}
  }}
}}
"""


class Network:
    """Nodes 0 to `nodes`, all connected until a fault is imposed."""

    def __init__(self, nodes: int) -> None:
        sweep()
        self.name = f"{PREFIX}-{os.getpid()}-{next(_count)}"
        self.nodes = range(nodes + 1)
        try:
            self._build()
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        run("ip", "netns", "add", self.switch)
        for node in self.nodes:
            place = self.place(node)
            run("ip", "netns", "add", place)
            run("ip", "-n", self.switch, "link", "add", f"node{node}", "type", "veth", "peer", "eth0", "netns", place)
            configure(self.switch, f"node{node}", f"10.77.{node}.1/24")
            configure(place, "eth0", f"{host(node)}/24")
            run("ip", "-n", place, "route", "add", "default", "via", f"10.77.{node}.1")
        with inside(self.switch):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        self._nft("-f", "-", text=FILTER)

    @property
    def switch(self) -> str:
        """The namespace in the middle."""
        return f"{self.name}-switch"

    def place(self, node: int) -> str:
        """Return the namespace of a node."""
        return f"{self.name}-{node}"

    def command(self, node: int, *words: str) -> list[str]:
        """Return the command line that runs `words` at a node, under the process id of whoever runs it."""
        return ["nsenter", f"--net={PLACES / self.place(node)}", "--", *words]

    # --- faults ------------------------------------------------------------------------------------------------------

    def impose(self, fault: Fault, links: Iterable[Link]) -> None:
        """Let `fault` befall `links`, beside those it befalls already."""
        self._nft("add", "element", "ip", "faults", fault.value, pairs(links))

    def lift(self, fault: Fault, links: Iterable[Link]) -> None:
        """End `fault` on `links`."""
        self._nft("delete", "element", "ip", "faults", fault.value, pairs(links))

    def heal(self) -> None:
        """End every fault but SHAPE, which the proxy's own settings make harmless."""
        for fault in (Fault.DROP, Fault.REFUSE, Fault.LOSE):
            self._nft("flush", "set", "ip", "faults", fault.value)

    def hits(self, fault: Fault) -> int:
        """Return the number of packets, for SHAPE of connections, that a fault has befallen."""
        listed = json.loads(self._nft("-j", "list", "counter", "ip", "faults", fault.value))
        return next(int(item["counter"]["packets"]) for item in listed["nftables"] if "counter" in item)

    def _nft(self, *words: str, text: str = "") -> str:
        return run("nsenter", f"--net={PLACES / self.switch}", "--", "nft", *words, text=text)

    def close(self) -> None:
        """End every process at a node, and remove the nodes."""
        for place in [self.switch, *map(self.place, self.nodes)]:
            remove(place)


def between(some: Iterable[int], others: Iterable[int]) -> list[Link]:
    """Return the links from each of `some` to each of `others`, and back."""
    one_way = list(itertools.product(some, others))
    return one_way + [(to, origin) for origin, to in one_way]


def host(node: int) -> str:
    """Return the address of a node."""
    return f"10.77.{node}.2"


def address(node: int, port: int) -> str:
    """Return "host:port" of a node."""
    return f"{host(node)}:{port}"


def node_of(its_host: str) -> int:
    """Return whose address this is."""
    return int(its_host.split(".")[2])


@contextmanager
def inside(place: str) -> Iterator[None]:
    """Be in a namespace: holds for this thread, and for the threads and processes it starts meanwhile."""
    with Path("/proc/thread-self/ns/net").open() as home, (PLACES / place).open() as there:
        set_namespace(there.fileno())
        try:
            yield
        finally:
            set_namespace(home.fileno())


def set_namespace(fd: int) -> None:
    if _libc.setns(fd, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns failed")


def configure(place: str, device: str, its_address: str) -> None:
    run("ip", "-n", place, "address", "add", its_address, "dev", device)
    for name in ("lo", device):
        run("ip", "-n", place, "link", "set", name, "up")


def pairs(links: Iterable[Link]) -> str:
    elements = (f"{host(origin)} . {host(to)}" for origin, to in links)
    return f"{{ {', '.join(elements)} }}"


def sweep() -> None:
    """Remove what test runs left that were killed."""
    for place in sorted(PLACES.glob(f"{PREFIX}-*")):
        owner = int(place.name.removeprefix(f"{PREFIX}-").split("-")[0])
        if not psutil.pid_exists(owner):
            remove(place.name)


def remove(place: str) -> None:
    if not (PLACES / place).exists():
        return
    for pid in run("ip", "netns", "pids", place).split():
        if int(pid) != os.getpid():
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "delete", place)


def run(*words: str, text: str = "") -> str:
    """Run a command and return what it printed; a failure is an error that holds what it said."""
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr.strip() or done.returncode}"
    return done.stdout
