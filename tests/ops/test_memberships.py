"""A cluster's membership by way of its supervisor, or of any one sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.ops.conftest import Quorate
from tests.ops.running import Running, all_in

from quorate.errors import Misuse
from quorate.ops.memberships import Supervised, Unsupervised

PICKED = "127.0.0.1:1"
"""Where nobody listens: a newcomer that is never started."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path, "--replicas", "2")
    running.wait(all_in("ready"))
    yield running
    running.kill()


def names(cluster: Supervised | Unsupervised) -> list[str]:
    return [member["name"] for member in cluster.members()["members"]]


def test_a_sidecar_is_as_good_as_a_supervisor(run: Running, quorate: Quorate) -> None:
    supervised = Supervised(run.directory.living())
    url = run.rows()["r2"]["admin_url"]
    unsupervised = Unsupervised(url + "/", PICKED, None)
    assert names(unsupervised) == names(supervised) == ["r1", "r2"]

    assert unsupervised.add() == "r3"
    assert names(supervised) == ["r1", "r2", "r3"]
    with pytest.raises(Misuse, match="replica 3 is still catching up"):
        unsupervised.add()
    assert [member["name"] for member in unsupervised.remove("r3")["members"]] == ["r1", "r2"]
    assert unsupervised.add() == "r4", "ids are never given again"
    unsupervised.remove("r4")

    listed = quorate("members", "list", "--admin", url)
    assert [line.split()[0] for line in listed.out.splitlines()[1:]] == ["r1", "r2"]
    unwanted = quorate("members", "remove", "r9", "--admin", url)
    assert (unwanted.code, unwanted.err.splitlines()) == (2, [unwanted.err.strip()])
    assert "replica 9 is no member" in unwanted.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("add", "--admin", "http://127.0.0.1:1"), "where does it listen"),
        (("add", "--address", PICKED), "go with --admin"),
        (("list", "--tls", "tls"), "go with --admin"),
        (("remove", "one", "--admin", "http://127.0.0.1:1"), "is no replica's name"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anybody_is_asked(
    quorate: Quorate, arguments: tuple[str, ...], why: str
) -> None:
    done = quorate("members", *arguments)
    assert done.code == 2
    assert why in done.err
