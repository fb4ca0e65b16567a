"""Consensus as pure state machines: events in, effects out.

`core` is the contract every protocol keeps and every driver serves; `quorum` is the arithmetic they share; `paxos` is
the first protocol behind it. Nothing here reads a clock, a socket, a disk or a global random generator, and nothing
logs: the same events give the same effects, so that the simulator can replay any run.
"""
