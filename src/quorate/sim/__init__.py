"""A deterministic world: whole clusters in one thread, on virtual time, drawn from a seed.

The same seed gives the same bytes, in any process and under any PYTHONHASHSEED. Real here are the cores and the
encoding of their messages; simulated are time, network, disks, processes and clients:

- `swarm` draws what a seed brings, and throws the dice for faults
- `clock` is virtual time and the transcript of what happened; `network` and `disk` are where faults strike
- `process` is one life of a replica: a core behind the simplest driver that keeps its contract; `machine` lets it die
- `nemesis` kills, pauses and parts; `clients` write and read, and remember what they were told
- `invariants` judges every commit, message, delivery and answer; `checker` judges histories of reads and writes
- `world` puts one seed together; `run` runs many and reports

It refuses to vouch for a run in which nothing was chosen, or for a batch in which some fault never struck. Only `run`
names a core; the judge looks closer at the messages of Paxos.
"""
