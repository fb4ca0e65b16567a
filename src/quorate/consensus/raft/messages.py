"""What Raft replicas say to each other: one small type per message.

RequestVote and Append are the dissertation's RPCs, their answers messages of their own; a refusal is said only where it
helps: HigherTerm to whoever is behind, Mismatch to a leader. PreVote asks, before a term is spent, whether it could be
won. Heartbeat is an AppendEntries without entries and without the check of the log, so that it speaks for the term
alone and waits for no disk. Committed spares whoever took a client's command the wait for the next Append.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from quorate import limits
from quorate.consensus.messages import Message, SharedMessage
from quorate.types import Slot, Vote


class PreVote(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=16):
    """Would you vote for me in `term`? My log ends in slot `last` with an entry of `last_term` (§9.6)."""

    term: int
    last: Slot
    last_term: int


class PreVoteGranted(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=17):
    """I would vote for you in `term`. It binds to nothing."""

    term: int


class RequestVote(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=18):
    """Vote for me in `term` (§3.4); `told` if the leader itself asked me to stand (§4.2.3)."""

    term: int
    last: Slot
    last_term: int
    told: bool


class VoteGranted(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=19):
    """I have voted for you in `term`, and will vote for nobody else in it."""

    term: int


class Append(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=20):
    """The leader of `term` has `entries` behind slot `prev`, whose entry is of `prev_term` (§3.5).

    It knows everything up to `chosen` to be chosen.
    """

    term: int
    prev: Slot
    prev_term: int
    entries: Annotated[tuple[Vote, ...], msgspec.Meta(max_length=limits.WINDOW_SLOTS)]
    chosen: Slot


class Appended(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=21):
    """My log agrees with that of the leader of `term` up to `slot`, durably; my own prefix ends at `chosen`."""

    term: int
    slot: Slot
    chosen: Slot


class Mismatch(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=22):
    """I can't tell that my log agrees with yours up to `prev`; a leader's does up to `chosen`, my own prefix."""

    term: int
    prev: Slot
    chosen: Slot


class Committed(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=23):
    """The leader of `term` knows everything up to `chosen` to be chosen."""

    term: int
    chosen: Slot


class Heartbeat(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=24):
    """The leader of `term` is alive; `round` numbers the confirmations that read barriers wait for."""

    term: int
    chosen: Slot
    round: int


class HeartbeatAck(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=25):
    """I know of no term above `term`, as of `round`; my own prefix ends at `chosen`."""

    term: int
    chosen: Slot
    round: int


class HigherTerm(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=26):
    """Your term is over: I know of `term` (§3.3)."""

    term: int


RaftMessage = (
    SharedMessage
    | PreVote
    | PreVoteGranted
    | RequestVote
    | VoteGranted
    | Append
    | Appended
    | Mismatch
    | Committed
    | Heartbeat
    | HeartbeatAck
    | HigherTerm
)
