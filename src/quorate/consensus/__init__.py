"""Consensus as pure state machines: events in, effects out.

`core` is the contract every protocol keeps and every driver serves. `paxos` and `raft` are the protocols; what does not
depend on the choice is in `member`, their base, made of `election`, `office` (a leader's), `catchup`, `reads`,
`membership`, `quorum` and `outbox`. Nothing here reads a clock, a socket, a disk or a global random generator, and
nothing logs: the same events give the same effects, so that the simulator can replay any run.
"""
