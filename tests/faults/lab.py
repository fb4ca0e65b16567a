"""A cluster of sidecars, each at a node of a network of its own, run by hand as a container platform would.

Nothing supervises them: what a test kills stays dead until the test starts it again. Everything is learnt from the
outside, as in tests/e2e/harness.py, over the clients' node; so tests are to be `inside` it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from tests.apps.service import COMMANDS
from tests.e2e.harness import LOST, Client, NotSent, Replica, eventually
from tests.faults.link import Proxy, Shape
from tests.faults.network import CLIENTS, Fault, Link, Network, address, between, inside

from quorate.config import AppConfig, Consensus, SidecarConfig
from quorate.strict_toml import dump

READY_SECONDS_MAX = 30.0
DRAIN_SECONDS_MAX = 20.0
STATUS_SECONDS_MAX = 2.0
REQUEST_SECONDS = 3.0
"""The deadline of a request: short, so that clients of a lost minority soon try elsewhere."""
ROOT = Path(__file__).parents[2]
TROUBLES = ("Traceback", "invariant broken")
"""What no log may ever hold (I8)."""


class Lab:
    """Replicas 1 to `replicas`, at the nodes of the same numbers."""

    def __init__(self, directory: Path, replicas: int = 3, consensus: Consensus = "paxos") -> None:
        self.directory = directory
        self.numbers = tuple(range(1, replicas + 1))
        self.network = Network(replicas)
        self.proxy: Proxy | None = None
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        peers = {str(number): address(number, 7100) for number in self.numbers}
        for number in self.numbers:
            home = self.home(number)
            home.mkdir(parents=True)
            config = SidecarConfig(
                cluster="faults",
                replica=number,
                peers=peers,
                data_dir=str(self.data(number)),
                client=address(number, 8000),
                admin=address(number, 9000),
                app=AppConfig(address=address(number, 3000), command=list(COMMANDS["counter-python"])),
                consensus=consensus,
                request_seconds=REQUEST_SECONDS,
                insecure=True,
            )
            (home / "sidecar.toml").write_text(dump(config))

    # --- places ------------------------------------------------------------------------------------------------------

    def home(self, number: int) -> Path:
        return self.directory / f"r{number}"

    def data(self, number: int) -> Path:
        """Return a replica's data directory."""
        return self.home(number) / "data"

    def url(self, number: int) -> str:
        """Return the address of a replica's own front."""
        return f"http://{address(number, 8000)}"

    def urls(self) -> list[str]:
        return [self.url(number) for number in self.numbers]

    def others(self, *but: int) -> list[int]:
        """Return the replicas that are not named."""
        return [number for number in self.numbers if number not in but]

    # --- processes ---------------------------------------------------------------------------------------------------

    def start(self, *numbers: int, under: Sequence[str] = ()) -> None:
        """Start replicas, all if none is named; `under` is a command line that runs another, such as strace's."""
        for number in numbers or self.numbers:
            assert number not in self.running()
            sidecar = [sys.executable, "-m", "quorate", "sidecar", "--config", str(self.home(number) / "sidecar.toml")]
            with self.log_file(number).open("ab") as log:
                self.processes[number] = subprocess.Popen(
                    self.network.command(number, *under, *sidecar),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=ROOT,
                )

    def running(self) -> list[int]:
        """Return the replicas whose sidecar runs."""
        return [number for number, process in sorted(self.processes.items()) if process.poll() is None]

    def signal(self, number: int, which: signal.Signals) -> None:
        """Send a replica's sidecar a signal."""
        self.processes[number].send_signal(which)

    def kill(self, *numbers: int) -> None:
        """SIGKILL sidecars at one moment; their apps die with them."""
        for number in numbers:
            self.processes[number].kill()
        for number in numbers:
            self.processes[number].wait()

    def kill_app(self, number: int) -> bool:
        """SIGKILL a replica's app alone; says whether there was one."""
        status = self.status(number)
        if status is None or status.app_pid is None:
            return False
        try:
            os.kill(status.app_pid, signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def exit_code(self, number: int, seconds_max: float = READY_SECONDS_MAX) -> int:
        """Wait for a sidecar to end by itself, and return its exit code."""
        return self.processes[number].wait(seconds_max)

    def drain(self) -> None:
        """Have every replica that runs end in good order; each must."""
        running = self.running()
        for number in running:
            self.signal(number, signal.SIGTERM)
        codes = {number: self.exit_code(number, DRAIN_SECONDS_MAX) for number in running}
        assert not any(codes.values()), codes

    def close(self) -> None:
        """End everything, whatever state it is in."""
        self.network.close()
        for process in self.processes.values():
            process.wait()
        if self.proxy:
            self.proxy.close()

    # --- what can be seen --------------------------------------------------------------------------------------------

    def status(self, number: int) -> Replica | None:
        """Return what a replica says of itself; None if it says nothing."""
        try:
            with Client(f"http://{address(number, 9000)}", STATUS_SECONDS_MAX) as admin:
                return msgspec.json.decode(admin.ask("GET", "/status").body, type=Replica)
        except (NotSent, *LOST):
            return None

    def ready(self, *numbers: int, seconds_max: float = READY_SECONDS_MAX) -> list[Replica]:
        """Wait until replicas, all that run if none is named, are ready, and return what they say."""
        return eventually(lambda: self._all_ready(numbers), seconds_max, "replicas are ready")

    def _all_ready(self, numbers: Sequence[int]) -> list[Replica]:
        said = [self.status(number) for number in numbers or self.running()]
        there = [replica for replica in said if replica and replica.state == "ready"]
        return there if len(there) == len(said) else []

    def leader(self, among: Sequence[int] = ()) -> int:
        """Wait for a leader that has a majority behind it, and return its number."""

        def look() -> int | None:
            said = {number: self.status(number) for number in among or self.numbers}
            leading = [number for number, replica in said.items() if replica and replica.role == "leader"]
            return leading[0] if len(leading) == 1 else None

        return eventually(look, 10, "there is a leader")

    def settled(self, seconds_max: float = 60.0) -> list[Replica]:
        """Wait until all that run are ready at one applied index; they must agree on its digest (I4, I5)."""

        def look() -> list[Replica]:
            there = self._all_ready(())
            return there if len({replica.applied for replica in there}) == 1 else []

        there = eventually(look, seconds_max, "all replicas are ready at one index")
        assert len({replica.digest for replica in there}) == 1, there
        return there

    def values(self) -> dict[str, int]:
        """Ask all that run, and every copy of the counter past its sidecar, for the counter's value."""
        values = {}
        for number in self.running():
            for what, port in (("replica", 8000), ("copy", 3000)):
                with Client(f"http://{address(number, port)}") as client:
                    values[f"{what} {number}"] = client.ask("GET", "/integer").value
        return values

    def log_file(self, number: int) -> Path:
        return self.directory / f"r{number}.log"

    def log(self, number: int) -> str:
        return self.log_file(number).read_text(errors="replace")

    def troubles(self) -> list[str]:
        """Return every line of a log that shows a crash nobody meant (I8)."""
        return [
            f"r{number}: {line}"
            for number in self.numbers
            for line in self.log(number).splitlines()
            if any(trouble in line for trouble in TROUBLES)
        ]

    # --- links -------------------------------------------------------------------------------------------------------

    def shape(self, shape: Shape, links: Sequence[Link]) -> None:
        """Give links a shape. The cluster must have been started `shaped`."""
        assert self.proxy is not None
        for link in links:
            self.proxy.shape(link, shape)


@contextmanager
def running(
    directory: Path, replicas: int = 3, *, shaped: bool = False, consensus: Consensus = "paxos"
) -> Iterator[Lab]:
    """Run a cluster until the block ends, which is inside the clients' node.

    `shaped` has all links between replicas go through a link proxy from the start.
    """
    lab = Lab(directory, replicas, consensus)
    try:
        if shaped:
            lab.proxy = Proxy(lab.network)
            lab.network.impose(Fault.SHAPE, [link for link in between(lab.numbers, lab.numbers) if link[0] != link[1]])
        lab.start()
        with inside(lab.network.place(CLIENTS)):
            lab.ready()
            yield lab
    finally:
        lab.close()
