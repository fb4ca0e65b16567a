"""`quorate members` on a real run while clients write: who comes, who goes, and who must not."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import psutil
import pytest
from tests.apps.service import COMMANDS
from tests.e2e.harness import Client, PersistentClient
from tests.ops.conftest import Quorate
from tests.ops.running import Rows, Running, all_in

COUNTER = COMMANDS["counter-python"]


class Writer:
    """Adds one to the counter, again and again; `written` counts the answers."""

    def __init__(self, urls: list[str]) -> None:
        self.written = 0
        self.done = threading.Event()
        self._client = PersistentClient(urls)
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def _write(self) -> None:
        while not self.done.is_set():
            answer = self._client.write("/integer", {"op": "INC", "value": 1})
            assert answer.status == 201, answer
            self.written += 1

    def stop(self) -> int:
        self.done.set()
        self._thread.join()
        self._client.close()
        return self.written


@contextmanager
def writing(urls: list[str]) -> Iterator[Writer]:
    writer = Writer(urls)
    try:
        yield writer
    finally:
        writer.stop()


def agreed(rows: Rows) -> bool:
    """Whether all copies are ready and have applied the same."""
    return all_in("ready")(rows) and len({(row["applied"], row["digest"]) for row in rows.values()}) == 1


def value_at(url: str) -> int:
    with Client(url) as client:
        return client.ask("GET", "/integer").value


def roles(quorate: Quorate, run: Running) -> dict[str, str]:
    done = quorate("members", "list", "-o", "json", "--data-dir", str(run.directory.path))
    assert done.code == 0, done
    return {member["name"]: member["role"] for member in msgspec.json.decode(done.out)["members"]}


@pytest.mark.parametrize("consensus", ["paxos", "raft"])
def test_replicas_come_and_go_under_load_and_a_new_start_knows_them(
    start: Callable[..., Running], quorate: Quorate, consensus: str
) -> None:
    run = start("--replicas", "3", "--consensus", consensus, command=COUNTER)
    before = run.wait(all_in("ready"))
    where = ("--data-dir", str(run.directory.path))
    family = [psutil.Process(before["r1"][key]) for key in ("app_pid", "sidecar_pid")]
    front = run.directory.living().url
    with writing([before["r3"]["client_url"], front]) as writer:
        assert roles(quorate, run) == dict.fromkeys(("r1", "r2", "r3"), "voter")
        added = quorate("members", "add", *where)
        assert (added.code, added.out) == (0, "r4\n")
        assert roles(quorate, run)["r4"] == "voter"
        run.wait(lambda rows: rows["r4"]["state"] == "ready")

        removed = quorate("members", "remove", "r1", *where)
        assert removed == (0, "", "r1 removed; left are r2, r3, r4\n")
        assert psutil.wait_procs(family, 10)[1] == [], "its processes end"
        assert (run.directory.replica("r1") / "data").is_dir(), "its directory stays"

        replaced = quorate("members", "replace", "r2", *where)
        assert (replaced.code, replaced.out) == (0, "r5\n")
        assert roles(quorate, run) == dict.fromkeys(("r3", "r4", "r5"), "voter")
        enough = writer.written + 20
        run.wait(lambda _: writer.written > enough)
    after = run.wait(agreed)
    assert after.keys() == {"r3", "r4", "r5"}
    assert [value_at(row["app_url"]) for row in after.values()] == [writer.written] * 3
    unknown = quorate("members", "remove", "r1", *where)
    assert (unknown.code, unknown.out) == (2, "")
    assert "no replica r1" in unknown.err

    run.process.send_signal(signal.SIGTERM)
    assert run.process.wait(20) == 0
    again = start("--replicas", "3", "--consensus", consensus, command=COUNTER)
    rows = again.wait(agreed)
    assert rows.keys() == {"r3", "r4", "r5"}
    assert value_at(again.directory.living().url) == writer.written
    assert roles(quorate, again) == dict.fromkeys(("r3", "r4", "r5"), "voter")


def test_a_removal_that_would_lose_the_quorum_is_refused(start: Callable[..., Running], quorate: Quorate) -> None:
    run = start("--replicas", "3")
    before = run.wait(lambda rows: all_in("ready")(rows) and leaders(rows))
    (paused,) = leaders(before)
    run.ask(f"/replicas/{paused}/pause", "POST")
    rows = run.wait(lambda rows: leaders(rows) and leaders(rows) != [paused])
    (other,) = rows.keys() - {paused, *leaders(rows)}
    where = ("--data-dir", str(run.directory.path))
    refused = quorate("members", "remove", other, *where)
    assert (refused.code, refused.out) == (2, "")
    assert f"without replica {other[1]} the quorum would be lost: nothing is heard of {paused[1]}" in refused.err
    assert refused.err.count("\n") == 1
    assert run.rows()[other]["sidecar_pid"] == before[other]["sidecar_pid"]
    run.ask(f"/replicas/{paused}/resume", "POST")
    run.wait(all_in("ready"))
    assert roles(quorate, run) == dict.fromkeys(("r1", "r2", "r3"), "voter")


def leaders(rows: Rows) -> list[str]:
    return [name for name, row in rows.items() if row["role"] == "leader" and row["state"] != "paused"]
