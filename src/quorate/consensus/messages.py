"""What replicas say to each other whatever the protocol: one small type per message.

Forward carries commands to the leader; Learn and Learned are catch-up, and Behind its refusal; ReadQuery and ReadAnswer
carry read barriers; ChangeQuery and ChangeAnswer changes of membership; TakeOver hands leadership over. Tags up to 15
belong to these; each protocol's own messages have tags of their own above.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from quorate import limits
from quorate.types import Ballot, Batch, ReplicaId, Slot, Vote


class Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """Base of the tagged unions."""


class Forward(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Commands from a follower's clients, for the leader to propose."""

    batch: Batch


class Learn(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Send me chosen values from `first` on."""

    first: Slot


class Learned(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Chosen values of the slots `first`, `first + 1`, …; `chosen` is the sender's prefix."""

    first: Slot
    votes: Annotated[tuple[Vote, ...], msgspec.Meta(max_length=limits.LEARN_SLOTS_MAX)]
    chosen: Slot


class Behind(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """The answer to a Learn of what the sender no longer holds: its log begins after `base`; a snapshot covers that."""

    base: Slot


class ReadQuery(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """Which slot must I have applied to read? I have promised no ballot above `ballot`. `query` names the question."""

    query: int
    ballot: Ballot


class ReadAnswer(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """The answer to `query`: apply up to `slot`."""

    query: int
    slot: Slot


class ChangeQuery(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """An operator at the sender asks for a change: `replica` comes and listens at `address`, or goes if that is None.

    `query` names the question.
    """

    query: int
    replica: ReplicaId
    address: Annotated[str, msgspec.Meta(max_length=limits.ADDRESS_CHARACTERS_MAX)] | None


class ChangeAnswer(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """The change asked for by `query` was made, or refused for the reason given."""

    query: int
    refusal: str


class TakeOver(Message, frozen=True, array_like=True, forbid_unknown_fields=True, tag=9):
    """The leader of `ballot` asks the receiver to lead: stand at once, without asking others first.

    Ongaro, "Consensus", §3.10: TimeoutNow.
    """

    ballot: Ballot


SharedMessage = Forward | Learn | Learned | Behind | ReadQuery | ReadAnswer | ChangeQuery | ChangeAnswer | TakeOver
