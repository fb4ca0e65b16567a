"""Every bound, with its unit and its reason. Relations between bounds are asserted on import.

Names end in the unit and the sense of the bound. What an operator may change is a setting whose default is taken from
here.
"""

from __future__ import annotations

# --- time (the cores count ticks; only the driver knows how long one is) ---------------------------------------------

TICK_SECONDS = 0.05
"""Fine enough for a fail-over well under 2 s, coarse enough that an idle replica sleeps."""

HEARTBEAT_TICKS = 2
"""A leader is heard at least every 100 ms."""

ELECTION_TICKS_MIN = 12
ELECTION_TICKS_MAX = 20
"""0.6 to 1 s of silence before a replica canvasses: 6 heartbeats, so that a busy machine does not depose its leader."""

RESEND_TICKS = 4
"""An unanswered Accept, Learn or ReadQuery is sent again after 200 ms."""

# --- consensus -------------------------------------------------------------------------------------------------------

WINDOW_SLOTS = 32
"""Slots an acceptor votes in above its chosen prefix; it bounds its memory and the size of a Promise."""

AHEAD_SLOTS = 4
"""Batches a leader keeps in flight: enough to overlap fsyncs with messages, few enough that what waits shares a batch,
and far from the window, so that a follower a little behind need not refuse."""

RESEND_SLOTS_MAX = 4
"""Slots sent again in one tick: the lowest hold up all others, and a slow network must not be flooded."""

BATCH_BYTES_MAX = 256 * 1024
"""A batch takes no further command past this; one command alone may be larger (COMMAND_BYTES_MAX)."""

PENDING_BYTES_MAX = 64 * 1024 * 1024
"""Commands a leader holds while its window is full; past it, proposals are declined."""

LEARN_BYTES = 1024 * 1024
"""Soft size of one catch-up answer: large enough for full speed, small enough not to starve heartbeats."""

LEARN_SLOTS_MAX = 2048
"""Slots in one catch-up answer, for logs of tiny entries."""

CHANGE_SECONDS_MAX = 5.0
"""A change of membership that was not answered for so long may have been made or not."""

ADDRESS_CHARACTERS_MAX = 300
"""A host name has at most 253, and a port follows."""

# --- the front door (FAULTS.md 3a) -----------------------------------------------------------------------------------

REQUEST_LINE_BYTES_MAX = 8 * 1024
HEAD_BYTES_MAX = 16 * 1024
FIELDS_MAX = 100
BODY_BYTES_MAX = 1024 * 1024
"""Default for a request body: a consensus value must fit memory several times over, so large uploads stay out."""
CHUNK_EXTENSION_BYTES_MAX = 1024
RESPONSE_HEAD_BYTES_MAX = 64 * 1024
RESPONSE_BODY_BYTES_MAX = 8 * 1024 * 1024
INTERIM_RESPONSES_MAX = 8
"""1xx answers of the service before its final one."""

HEAD_SECONDS_MAX = 10.0
BODY_SECONDS_MAX = 60.0
BODY_GRACE_SECONDS = 10.0
BODY_BYTES_PER_SECOND_MIN = 1024
"""After the grace a body must keep this average, or its sender gets 408."""
IDLE_SECONDS_MAX = 15.0
CONNECTIONS_MAX = 4096
RESERVED_DESCRIPTORS = 48
"""File descriptors that clients never get: the log, its threads and listeners, each peer twice, and the service."""
TUNNELS_MAX = 4096
"""Tunnels of one replica, counted among its connections: every one of those may be a WebSocket."""
CONNECTIONS_REFUSED_MAX = 512
"""Connections past CONNECTIONS_MAX that are told so before they close; past both, they are cut without a word."""
LINGER_SECONDS = 2.0
"""After a last answer: time for the client to read it and close, before a reset could take it away (RFC 9112 §9.6)."""
PIPELINED_BYTES_MAX = 64 * 1024
"""Bytes behind the request being served; past it the connection is not read."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Unsent bytes of answers on one connection at which no further request is taken from it."""
WRITE_SECONDS_MAX = 60.0
"""A client that leaves the write buffer full for this long is cut off."""
TUNNEL_BUFFER_BYTES = 64 * 1024
"""Unsent bytes of a tunnel, each way, at which its other end is no longer read."""
TUNNEL_ENDING_SECONDS_MAX = 5.0
"""From the end of one side of a tunnel to that of the whole: time for what is under way, none for one who reads no
more."""
TUNNEL_KEEPALIVE_SECONDS = 30
"""A tunnel may be silent for ever: whether its ends are still there is asked after this, by TCP,"""
TUNNEL_KEEPALIVE_PROBE_SECONDS = 10
TUNNEL_KEEPALIVE_PROBES = 3
"""and so often in vain before it is given up."""
IDEMPOTENCY_KEY_BYTES_MAX = 256
"""As long as the longest keys of payment services, which made the field common."""
REQUEST_SECONDS_MAX = 10.0
"""Default deadline of one request: past it the client is told not_proposed or outcome_unknown."""

# --- the replica -----------------------------------------------------------------------------------------------------

IN_FLIGHT_MAX = 2048
"""Calls one replica holds for its clients; past it new ones are refused with 503 `overloaded`."""

IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of those calls."""

SESSION_WINDOW = 131_072
"""Index positions for which a stored outcome answers a retry (P4)."""

SESSION_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of stored outcomes; the oldest go first. Counted from outcomes alone, so that replicas evict the same ones."""

TOMBSTONE_WINDOW = 4 * SESSION_WINDOW
"""Positions for which the bare key is remembered after its outcome went: a late retry is refused, never executed."""

DELIVERY_CACHE_BYTES = 16 * 1024 * 1024
"""Chosen batches kept in memory for the apply loop and for peers just behind; older ones are read from the store."""

DELIVERY_SLOTS_MAX = 64
"""Batches the apply loop takes at a time; it decodes them in one go and must not hold up the event loop."""

REPROPOSE_SECONDS = 1.0
"""How long a command may stay unseen before it is proposed again under its id: a lost Forward or a dead leader."""

UNPROPOSED_SECONDS_MAX = 2.0
"""A command that could not be proposed for so long is answered `not_proposed`: an election takes half of that."""

SWEEP_SECONDS = 0.1
"""Deadlines of waiting calls, and of client connections, are looked at this often, by one timer each."""

PIPELINE_CALLS_MAX = 64
"""Ordered calls on their way to a service that is declared to take pipelined requests one after the other."""

READ_CONNECTIONS_MAX = 16
"""Connections to the service for reads; one call at a time on each."""

PASS_CONNECTIONS_MAX = 256
"""Connections to the service for calls of mode pass, apart from those of reads: a passed call may itself wait for reads
and commands that it made through the front door, and so these must never wait for it."""

PASSED_MAX = 1024
"""Calls of mode pass one replica holds: half of IN_FLIGHT_MAX, so that what they ask for in turn finds room."""

SERVICE_IDLE_SECONDS_MAX = 1.0
"""A connection to the service idle for longer is replaced before use: gunicorn closes its own after 2 s, and a
call sent into a closing connection could not be told from a lost one."""

SERVICE_CALL_SECONDS_MAX = 30.0
"""A service that takes longer for one ordered call counts as hung and is restarted."""

SERVICE_WATCH_SECONDS = 0.5
"""Calls to the service that have taken too long are looked for this often."""

NEIGHBOUR_WATCH_SECONDS = 0.1
"""Whether a neighbour service listens is looked at this often: a restart in between, faster than any container's, would
go unseen. A child's end is told by the kernel."""

SERVICE_CONNECT_SECONDS_MAX = 5.0
"""A connection to the service, which is next door, is up within this time or counts as refused."""

SERVICE_START_SECONDS_MAX = 30.0
"""A service that does not listen within this time of its start is restarted."""

SERVICE_PORT_SECONDS_MAX = 3.0
"""A killed service frees its port within this time, or the port is somebody else's."""

SERVICE_EXIT_GRACE_SECONDS = 0.25
"""After a lost connection, the time in which a dying service process shows as dead."""

BACKOFF_SECONDS_MIN = 0.1
BACKOFF_SECONDS_MAX = 5.0
"""Pause before a crashed process is started again; doubled at each crash, forgotten after BACKOFF_RESET_SECONDS."""
BACKOFF_RESET_SECONDS = 10.0

PERSIST_BACKLOG_BYTES_MAX = 64 * 1024 * 1024
"""Votes waiting for a slow disk; past it, what peers and clients send is dropped as if the network had lost it."""

ROOM_TICKS = 20
"""Room on the disk is looked at once per second."""

DISK_STALL_SECONDS_MAX = 1.0
"""A leader whose disk has been at one commit for so long hands over: all others wait for it."""

STALL_SECONDS_MAX = 1.0
"""An event loop that did not turn for so long was paused or starved: others may have gone on without this replica."""

LAG_MAX = 4096
"""Index positions a replica may trail what it knows to be chosen and still be ready."""

# --- peers -----------------------------------------------------------------------------------------------------------

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""A Promise may carry a whole window of the largest batches."""

PEER_BUFFER_BYTES_MAX = 96 * 1024 * 1024
"""Unsent bytes towards one peer; past it messages are dropped, which the cores expect of any network."""

COUNTER_MAX = 2**62
"""The largest ballot, slot or token a peer may name: out of reach for honest ones, far from 64 bits for arithmetic."""

STATE_BUFFER_BYTES_MAX = 1024 * 1024
"""Unsent bytes of snapshots and their like towards one peer; past it they are dropped, and the receiver asks again."""

STATE_YIELD_BYTES = 64 * 1024
"""Unsent bytes towards a peer at which its snapshots wait, so that no heartbeat queues behind more than a chunk."""

KERNEL_UNSENT_BYTES = 128 * 1024
"""What the kernel takes of a connection ahead of the wire (TCP_NOTSENT_LOWAT): in there nothing can be overtaken."""

MESH_BEAT_SECONDS = 1.0
"""How often peers are told of the store's commits, what they told is saved, and certificate files are looked at."""

HELLO_BYTES_MAX = 2048
"""A stranger's first frame, which has to be held before it is known who sent it."""

REFUSAL_CHARACTERS_MAX = 300
"""The reason a refused replica is told, for its log."""

HELLO_SECONDS_MAX = 2.0
"""From the start of a connection, either way, to a greeting both accept."""

UNGREETED_CONNECTIONS_MAX = 64
"""Accepted connections that have not yet said who they are; past it new ones are closed."""

RECONNECT_SECONDS_MIN = 0.05
RECONNECT_SECONDS_MAX = 1.0
"""The pause before a peer is dialled again is drawn from below a bound that doubles from MIN to MAX."""

PEER_ACK_SECONDS_MAX = 3.0
"""Sent bytes a peer's machine has not acknowledged for so long mean a dead connection (TCP_USER_TIMEOUT)."""

REFUSAL_LOG_SECONDS = 1.0
"""At most one log line about refused connections in this time; all are counted."""

CERTIFICATE_DAYS = 365
"""How long a replica's certificate is good for; renewing takes no restart."""

AUTHORITY_DAYS = 3650
"""How long a cluster's certificate authority is good for; replacing it touches every replica."""

# --- the store -------------------------------------------------------------------------------------------------------

LOG_MAP_BYTES = 64 * 1024**3
"""Address space LMDB reserves, and so the largest log; the file itself grows as it is filled."""

LOG_READERS_MAX = 8
"""Reader slots of LMDB: the event loop and a tool or two; the default of 126 costs pages for nothing."""

LOG_COUNTS_SLOTS = 4096
"""Envelopes read in one transaction when a whole log is counted: none may outlive its use."""

LOG_VERIFY_PROGRESS_SLOTS = 256
"""How finely a scan that is killed by a bad page can say where it was."""

LOG_TRIM_RECORDS_MAX = 256
"""Records below the base that one commit removes besides as many as it writes: a few milliseconds beside an fsync."""

LOG_DAMAGED_SLOTS_MAX = 16
"""Damaged slots a log may have and still be repaired: more is not a spot but a failing disk."""

LOG_DIGEST_SUMS = LOG_DAMAGED_SLOTS_MAX + 2
"""Sums in the digest of a log: one for each damaged slot, and two left over to judge all others."""

LOG_COPY_BYTES = 8 * 1024 * 1024
"""Records copied in one transaction when a damaged log is copied: LMDB holds that much in memory."""

ASYNC_SYNC_SECONDS = 1.0
"""In storage mode `async`: what a commit said is durable at most about this much later."""

DISK_LOW_BYTES = 64 * 1024 * 1024
DISK_LOW_SHARE = 0.05
"""With less than the larger of the two free, new commands are refused: as much as may wait for a slow disk."""
DISK_LOW_BYTES_MAX = 4 * 1024**3
DISK_LOW_SHARE_MAX = 0.25
"""But neither more than this, which is plenty, nor more than this share of a small file system."""
DISK_FULL_BYTES = 16 * 1024 * 1024
"""With less than this free, or half of that reserve where it is smaller, not even what was promised may find room."""

# --- snapshots -------------------------------------------------------------------------------------------------------

CHECKPOINT_ENTRIES = 25_000
"""Default distance of checkpoints in commands: what a restarted copy has to execute again is gone through in seconds,
and a session table is not written more often than that pays for."""

CHECKPOINT_BYTES = 64 * 1024 * 1024
"""The same in bytes of commands, for large ones."""

SNAPSHOT_CHUNK_BYTES = 64 * 1024
"""What is hashed, sent and asked for again as one piece: half a millisecond of a gigabit link."""

SNAPSHOT_BYTES_MAX = 4 * 1024**3
"""A larger service state is not taken: its copies would not fit disks and patience."""

MANIFEST_BYTES_MAX = 4 * 1024 * 1024
"""36 bytes for each chunk of the largest snapshot, and what is said of the whole."""

SNAPSHOTS_KEPT = 2
"""Whole snapshots on disk: should the newest be damaged, the log still reaches back to the one before."""

SNAPSHOTS_PINNED_MAX = 2
"""Older snapshots kept besides because a peer is still fetching them."""

SNAPSHOT_PIN_SECONDS = 30.0
"""After a peer's last request a snapshot is kept for so long: it may only have lost its connection."""

SNAPSHOT_SYNC_BYTES = 4 * 1024 * 1024
"""Bytes of a session table written between two fsyncs: one large fsync would hold up those of the log."""

SESSION_SLICE = 512
"""Positions whose sessions are encoded in one go, under a millisecond for usual outcomes. Slices are cut at multiples
of this, so that tables at different indices have most slices, and so most chunks, in common."""

CAPTURE_SECONDS_MAX = 60.0
"""From the start to the end of taking or restoring a service's state; deliveries to this copy wait for so long."""

STATE_SILENCE_SECONDS_MAX = 10.0
"""A service or a hook that gives or takes no byte of its state for so long has failed."""

SNAPSHOT_TELL_SECONDS = 1.0
"""How often peers are told what snapshot is offered here."""

SNAPSHOT_HEARD_SECONDS = 5.0
"""A peer that told nothing for longer counts as away."""

SNAPSHOT_REQUESTS_MAX = 4
"""Chunks asked of one peer and not yet answered."""

SNAPSHOT_REQUEST_SECONDS_MAX = 10.0
"""A chunk that has not come in this time, which a slow link may need, is asked of whoever is free."""

SNAPSHOT_MISSES_MAX = 32
"""A peer that lacks this many chunks in a row, picked at random, has too few of them to go on asking."""

SNAPSHOT_SERVED_MAX = 64
"""Requests of peers waiting for the disk; further ones are dropped, and come again."""

SNAPSHOT_LEAD_ENTRIES = 10_000
"""How far a peer's snapshot must be ahead for a restart of the service from it to beat executing what lies between."""

REPLAYED_ENTRY_BYTES = 10_000
"""Bytes of a snapshot that are fetched and restored in the time in which one command is executed again."""

LOG_ENTRIES_WARN = 1_000_000
"""An untrimmed log of so many commands is warned of, and each time it has doubled since."""

# --- the supervisor and the command line -----------------------------------------------------------------------------

REPLICAS_MAX = 9
"""Replicas of one cluster at a time: past it a larger quorum only costs."""

REPLICA_ID_MAX = 65_535
"""Replicas that ever were: ids are never given a second time."""

CONFIG_BYTES_MAX = 1024 * 1024
"""A settings file; a larger one is a mistake."""

STATUS_POLL_SECONDS = 0.5
STATUS_SECONDS_MAX = 1.0
"""A sidecar that does not tell its status within this is shown as silent."""
STATUS_BYTES_MAX = 256 * 1024

LOG_LINE_BYTES_MAX = 16 * 1024
"""A longer line of a replica's output is cut into pieces."""
LOG_FILE_BYTES_MAX = 16 * 1024 * 1024
"""A replica's log file; then it becomes the one old file that is kept."""

DRAIN_SECONDS_MAX = 10.0
"""From the first request to stop until what is left is killed."""

COMMAND_BYTES_MAX = BODY_BYTES_MAX + HEAD_BYTES_MAX + 4096

assert HEARTBEAT_TICKS * 5 < ELECTION_TICKS_MIN < ELECTION_TICKS_MAX
assert WINDOW_SLOTS * (BATCH_BYTES_MAX + COMMAND_BYTES_MAX) < FRAME_BYTES_MAX <= PEER_BUFFER_BYTES_MAX
assert STATE_YIELD_BYTES < STATE_BUFFER_BYTES_MAX < PEER_BUFFER_BYTES_MAX
assert AHEAD_SLOTS * 2 <= WINDOW_SLOTS
assert PASS_CONNECTIONS_MAX < PASSED_MAX < IN_FLIGHT_MAX
assert RECONNECT_SECONDS_MIN < RECONNECT_SECONDS_MAX
assert IN_FLIGHT_BYTES_MAX < PENDING_BYTES_MAX
assert DISK_FULL_BYTES < DISK_LOW_BYTES < DISK_LOW_BYTES_MAX
assert SWEEP_SECONDS * 5 < STALL_SECONDS_MAX
assert RESPONSE_BODY_BYTES_MAX + RESPONSE_HEAD_BYTES_MAX + 1024 < SESSION_BYTES_MAX
assert SESSION_WINDOW < TOMBSTONE_WINDOW
assert BACKOFF_SECONDS_MIN < BACKOFF_SECONDS_MAX
assert SNAPSHOT_BYTES_MAX // SNAPSHOT_CHUNK_BYTES * 40 < MANIFEST_BYTES_MAX
assert 2 * SNAPSHOT_TELL_SECONDS < SNAPSHOT_HEARD_SECONDS < SNAPSHOT_PIN_SECONDS
