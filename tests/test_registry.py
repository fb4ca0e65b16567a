"""The one list of names: everything in it exists, and nothing else does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from quorate import registry
from quorate.consensus.paxos.node import PaxosCore
from quorate.errors import Misuse

TABLES = (registry.CORES, registry.MESSAGES, registry.STORES, registry.TRANSPORTS)


@pytest.mark.parametrize("table", TABLES)
def test_every_name_stands_for_something(table: Mapping[str, str]) -> None:
    for name in table:
        assert registry.resolve(table, name) is not None


def test_every_core_has_its_messages() -> None:
    assert registry.CORES.keys() == registry.MESSAGES.keys()


def test_a_name_becomes_the_thing_itself() -> None:
    assert registry.resolve(registry.CORES, "paxos") is PaxosCore


def test_an_unknown_name_is_misuse_and_the_known_ones_are_told() -> None:
    with pytest.raises(Misuse, match="'floppy'") as refused:
        registry.resolve(registry.STORES, "floppy")
    assert "sync" in refused.value.hint
    assert "memory" in refused.value.hint
