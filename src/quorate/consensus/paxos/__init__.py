"""Multi-Paxos with a stable leader ("Paxos Made Simple" §3), one file per role.

`acceptor` votes, `proposer` leads, `learner` finds out what is chosen, `election` decides when to try to lead; `node`
is all four of one replica behind the core contract, and `messages` is what replicas say to each other.

As built, beyond the paper: phase 1 covers all open slots at once; a candidate first asks whether it would win
(Canvass); a new leader closes the gap to the most advanced of its promisers before it proposes; acceptors tell every
learner directly; a leader that no quorum answers resigns; reads are confirmed by a quorum and never enter the log.
"""
