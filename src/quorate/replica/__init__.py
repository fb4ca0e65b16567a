"""One copy of the service, kept identical to the others.

`replica` takes calls from the front door and answers them; `apply` executes the ordered ones, in order, once;
`sessions` remembers what was executed; `reads` holds calls that stay off the log until their read barrier; `upstream`
speaks HTTP to the service; `tunnels` ask it for WebSockets, which `relay` then carries; `service` is its process;
`recovery` brings a dead or lagging copy back.

`checkpoints` takes snapshots of the service through one of the `drivers`, `restore` begins with them; `transfer` gets
them from peers, chunk by chunk as `chunk_requests` shares them out; `trimming` drops the log they stand for. Nothing
here knows how the order comes about.
"""
