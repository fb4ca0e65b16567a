"""The cores by name."""

from __future__ import annotations

from quorate.registry import CORES, MESSAGES, resolve
from quorate.sim.kits import KITS


def test_every_core_of_the_registry_is_simulated_as_it_is_run() -> None:
    assert KITS.keys() == CORES.keys()
    for name, kit in KITS.items():
        assert kit.core is resolve(CORES, name)
        assert kit.messages == resolve(MESSAGES, name)
