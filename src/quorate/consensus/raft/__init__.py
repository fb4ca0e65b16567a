"""Raft (Ongaro, "Consensus: Bridging Theory and Practice", 2014), behind the same contract as Multi-Paxos.

`log` is one replica's entries above its chosen prefix, `progress` what a leader knows of the logs of the others; `node`
elects, replicates and commits, and `messages` is what replicas say to each other.

Its words in those of the contract: an index is a slot, an entry is a vote whose ballot is (term, leader), the commit
index is the end of the chosen prefix, and (term, candidate voted for) is the ballot promised.

As built, beside the dissertation's chapters 3 and 4: a candidate first asks whether it would win (§9.6); a leader that
no quorum answers resigns (§6.2), hands over on request (§3.10), and appends a no-op when elected (§6.4); reads are
confirmed by a quorum and never enter the log (§6.4); entries leave while the leader's own disk works (§10.2.1).

Differing from it: only entries above the chosen prefix are held in memory and sent by a leader, so that none ever has
to search back for where two logs part; who lacks older ones fetches them as chosen values, from whoever has them. And a
leader that learns that more is chosen says so at once, for it may be another replica that answers the client.
"""
