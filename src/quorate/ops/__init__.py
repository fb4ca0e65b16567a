"""The operator's room: the command line, the local supervisor, one sidecar's process, and what they show.

It composes: here settings become objects, and nowhere else. It decides nothing about order or requests, so a cluster
goes on without it, as it does in containers.

    cli             entry point; turns every error into one line and an exit code
    commands        the verbs, with their options; members_commands, tls_commands, sim_commands: those of one subject
    supervisor      `quorate run`: one machine's cluster; child: one sidecar process of it; control: its admin listener
    client          asks admin listeners; memberships: the two ways to a cluster's members
    changes         how a run's replicas come and go; members: how a sidecar is asked to change who takes part
    rundir, ports   what a run keeps on disk, and which port is whose
    view, output    tables, prefixes and log lines
    demo            the story of a leader that died, told with real processes
    sidecar, admin  one replica: its life and its admin listener; compose: its rooms, built from settings
    tls             certificates
    procs           children that end with their parent

Exit codes: 0 done, 1 failed, 2 usage, 3 identity or lock, 4 disk, 5 network, 130 interrupted.
What was asked for goes to stdout; everything said about it goes to stderr.
"""
