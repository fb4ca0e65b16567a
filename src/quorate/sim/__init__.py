"""A deterministic world: whole clusters in one thread, on virtual time, drawn from a seed.

The same seed gives the same bytes, in any process and under any PYTHONHASHSEED. Real here are the cores, the encoding
of their messages and the session table; simulated are time, network, disks, processes, clients and operators:

- `swarm` draws what a seed brings, and throws the dice for faults; `scenario` is a seed less what is left out
- `clock` is virtual time and the transcript of what happened; `network` and `disk` are where faults strike
- `process` is one life of a replica: a core behind the simplest driver that keeps its contract, with `reads` through
  barriers, snapshots kept and fetched by `transfer`, and the model application `app`; `machine` lets it die, and keeps
  its door; `repair` mends a damaged log before it starts
- `nemesis` kills, pauses and parts, `rot` damages disks, `admin` changes the members
- `clients` write and read, and remember what they were told
- `invariants` judges every commit, message, delivery, effect and answer, with the `rules` that `rules_paxos` and
  `rules_raft` add, and tells of a `violation`; `checker` judges histories of reads and writes
- `kits` names the cores; `world` puts one seed together, `run` runs many and reports, `minimise` makes a failure small,
  and `planted` shows that bugs are found

It refuses to vouch for a run in which nothing was chosen, or for a batch in which a class of faults struck too seldom.
"""
