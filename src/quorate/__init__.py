"""Quorate makes a stateful HTTP service survive the loss of machines, without a change to the service.

The floors, lowest first; each imports only from below: types errors limits < consensus, protocols < wire < storage,
transport < ordering < replica < intercept < config, registry, ops. `sim` sits beside them. ARCHITECTURE.md walks one
request through the rooms.
"""

__version__ = "0.1.0"
