"""The messages of all protocols: their tags tell them apart, and their bounds hold."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest
from tests.consensus.conversation import vote

from quorate import limits, registry
from quorate.consensus import messages as m

PROTOCOLS = sorted(registry.MESSAGES)


def tag(message: type[m.Message]) -> int:
    value = message.__struct_config__.tag
    assert isinstance(value, int)
    return value


def test_shared_messages_have_tags_up_to_15() -> None:
    assert all(1 <= tag(message) <= 15 for message in get_args(m.SharedMessage))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_speaks_the_shared_messages_and_has_tags_of_its_own(protocol: str) -> None:
    spoken = get_args(registry.resolve(registry.MESSAGES, protocol))
    own = set(spoken) - set(get_args(m.SharedMessage))
    assert set(get_args(m.SharedMessage)) < set(spoken)
    assert all(tag(message) > 15 for message in own)
    assert len({tag(message) for message in spoken}) == len(spoken)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_message_of_a_protocol_has_a_handler(protocol: str) -> None:
    core = registry.resolve(registry.CORES, protocol)
    assert set(core.messages) == set(get_args(registry.resolve(registry.MESSAGES, protocol)))


def test_an_answer_with_too_many_values_is_refused() -> None:
    votes = (vote(1, 1, "a"),) * (limits.LEARN_SLOTS_MAX + 1)
    kept = msgspec.msgpack.encode(m.Learned(1, votes[1:], 1))
    assert msgspec.msgpack.decode(kept, type=m.Learned).first == 1
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(m.Learned(1, votes, 1)), type=m.Learned)


def test_an_address_without_end_is_refused() -> None:
    address = "h" * (limits.ADDRESS_CHARACTERS_MAX + 1)
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(
            msgspec.msgpack.encode(m.ChangeQuery(1, vote(1, 4, "")[0].replica, address)), type=m.ChangeQuery
        )
