"""What Multi-Paxos replicas say to each other: one small type per message.

The letters of the papers: Prepare is 1a, Promise 1b, Accept 2a, Accepted 2b ("Paxos Made Simple" §2.2). Canvass and
Support ask, before a ballot is spent, whether it could win; Preempted tells a proposer of a higher ballot; Learn and
Learned are catch-up; ReadQuery and ReadAnswer carry read barriers.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from quorate import limits
from quorate.types import Ballot, Batch, Slot, Vote


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """Base of the tagged union."""


class Canvass(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Would you promise `ballot`? `chosen` is the candidate's prefix, so that a laggard is not helped into office."""

    ballot: Ballot
    chosen: Slot


class Support(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """I would promise `ballot`. It binds to nothing."""

    ballot: Ballot


class Prepare(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """1a, for every slot from `first` on at once."""

    ballot: Ballot
    first: Slot


class Promise(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """1b: I will accept nothing below `ballot`; my votes above `chosen`, my chosen prefix, are these."""

    ballot: Ballot
    chosen: Slot
    votes: Annotated[tuple[tuple[Slot, Vote], ...], msgspec.Meta(max_length=limits.WINDOW_SLOTS)]


class Accept(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """2a: vote for `batch` in `slot`; the leader knows everything up to `chosen` to be chosen."""

    ballot: Ballot
    slot: Slot
    batch: Batch
    chosen: Slot


class Accepted(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """2b, told to every learner directly."""

    ballot: Ballot
    slot: Slot


class Preempted(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """Refusal of a ballot: I have promised `ballot`, which is higher."""

    ballot: Ballot


class Heartbeat(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """The leader of `ballot` is alive; `round` numbers the confirmations that read barriers wait for."""

    ballot: Ballot
    chosen: Slot
    round: int


class HeartbeatAck(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=9):
    """I have promised no ballot above `ballot`, as of `round`; my own prefix ends at `chosen`."""

    ballot: Ballot
    chosen: Slot
    round: int


class Forward(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=10):
    """Commands from a follower's clients, for the leader to propose."""

    batch: Batch


class Learn(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=11):
    """Send me chosen values from `first` on."""

    first: Slot


class Learned(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=12):
    """Chosen values of the slots `first`, `first + 1`, …; `chosen` is the sender's prefix."""

    first: Slot
    votes: Annotated[tuple[Vote, ...], msgspec.Meta(max_length=limits.LEARN_SLOTS_MAX)]
    chosen: Slot


class ReadQuery(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=13):
    """Which slot must I have applied to read? I have promised no ballot above `ballot`. `query` names the question."""

    query: int
    ballot: Ballot


class ReadAnswer(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=14):
    """The answer to `query`: apply up to `slot`."""

    query: int
    slot: Slot


PaxosMessage = (
    Canvass | Support | Prepare | Promise | Accept | Accepted | Preempted | Heartbeat | HeartbeatAck
    | Forward | Learn | Learned | ReadQuery | ReadAnswer
)  # fmt: skip
