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
"""Slots in flight. It also bounds what an acceptor holds above its chosen prefix, and so the size of a Promise."""

BATCH_BYTES_MAX = 256 * 1024
"""A batch takes no further command past this; one command alone may be larger (COMMAND_BYTES_MAX)."""

PENDING_BYTES_MAX = 64 * 1024 * 1024
"""Commands a leader holds while its window is full; past it, proposals are declined."""

LEARN_BYTES = 1024 * 1024
"""Soft size of one catch-up answer: large enough for full speed, small enough not to starve heartbeats."""

LEARN_SLOTS_MAX = 2048
"""Slots in one catch-up answer, for logs of tiny entries."""

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
REQUEST_SECONDS_MAX = 10.0
"""Default deadline of one request: past it the client is told not_proposed or outcome_unknown."""

# --- the replica -----------------------------------------------------------------------------------------------------

IN_FLIGHT_MAX = 2048
"""Calls one replica holds for its clients; past it new ones are refused with 503 `overloaded`."""

IN_FLIGHT_BYTES_MAX = 32 * 1024 * 1024
"""Bytes of those calls."""

SESSION_WINDOW = 65_536
"""Index positions for which a stored outcome answers a retry (P4)."""

SESSION_BYTES_MAX = 64 * 1024 * 1024
"""Bytes of stored outcomes; the oldest go first. Counted from outcomes alone, so that replicas evict the same ones."""

TOMBSTONE_WINDOW = 8 * SESSION_WINDOW
"""Positions for which the bare key is remembered after its outcome went: a late retry is refused, never executed."""

DELIVERY_CACHE_BYTES = 16 * 1024 * 1024
"""Chosen batches kept in memory for the apply loop and for peers just behind; older ones are read from the store."""

LAG_MAX = 4096
"""Index positions a replica may trail what it knows to be chosen and still be ready."""

# --- peers -----------------------------------------------------------------------------------------------------------

FRAME_BYTES_MAX = 64 * 1024 * 1024
"""A Promise may carry a whole window of the largest batches."""

PEER_BUFFER_BYTES_MAX = 96 * 1024 * 1024
"""Unsent bytes towards one peer; past it messages are dropped, which the cores expect of any network."""

COMMAND_BYTES_MAX = BODY_BYTES_MAX + HEAD_BYTES_MAX + 4096

assert HEARTBEAT_TICKS * 5 < ELECTION_TICKS_MIN < ELECTION_TICKS_MAX
assert WINDOW_SLOTS * (BATCH_BYTES_MAX + COMMAND_BYTES_MAX) < FRAME_BYTES_MAX <= PEER_BUFFER_BYTES_MAX
assert IN_FLIGHT_BYTES_MAX < PENDING_BYTES_MAX
assert SESSION_WINDOW < TOMBSTONE_WINDOW
