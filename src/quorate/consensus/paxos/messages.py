"""What Multi-Paxos replicas say to each other: one small type per message.

The letters of the papers: Prepare is 1a, Promise 1b, Accept 2a, Accepted 2b ("Paxos Made Simple" §2.2). Canvass and
Support ask, before a ballot is spent, whether it could win; Preempted tells a proposer of a higher ballot.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from quorate import limits
from quorate.consensus.messages import Message, SharedMessage
from quorate.types import Ballot, Batch, Slot, Vote


class Canvass(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=16):
    """Would you promise `ballot`? `chosen` is the candidate's prefix, so that a laggard is not helped into office."""

    ballot: Ballot
    chosen: Slot


class Support(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=17):
    """I would promise `ballot`. It binds to nothing."""

    ballot: Ballot


class Prepare(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=18):
    """1a, for every slot from `first` on at once."""

    ballot: Ballot
    first: Slot


class Promise(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=19):
    """1b: I will accept nothing below `ballot`; my votes above `chosen`, my chosen prefix, are these."""

    ballot: Ballot
    chosen: Slot
    votes: Annotated[tuple[tuple[Slot, Vote], ...], msgspec.Meta(max_length=limits.WINDOW_SLOTS)]


class Accept(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=20):
    """2a: vote for `batch` in `slot`; the leader knows everything up to `chosen` to be chosen."""

    ballot: Ballot
    slot: Slot
    batch: Batch
    chosen: Slot


class Accepted(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=21):
    """2b, told to every learner directly."""

    ballot: Ballot
    slot: Slot


class Preempted(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=22):
    """Refusal of a ballot: I have promised `ballot`, which is higher."""

    ballot: Ballot


class Heartbeat(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=23):
    """The leader of `ballot` is alive; `round` numbers the confirmations that read barriers wait for."""

    ballot: Ballot
    chosen: Slot
    round: int


class HeartbeatAck(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=24):
    """I have promised no ballot above `ballot`, as of `round`; my own prefix ends at `chosen`."""

    ballot: Ballot
    chosen: Slot
    round: int


PaxosMessage = (
    SharedMessage | Canvass | Support | Prepare | Promise | Accept | Accepted | Preempted | Heartbeat | HeartbeatAck
)
