"""Planted bugs: mistakes others have made, built into a copy of the system, each of which the simulator must catch.

A simulator that finds nothing proves something only if it would have found something. `cores`, `paxos` and `raft` hold
broken protocols, `parts` broken drivers, applications and doors; `table` names them all, says which invariant has to
break, and hunts each through seeds until it does. The list follows FAULTS.md §4, with those of earlier tests behind it.
"""
