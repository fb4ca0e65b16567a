"""Who is let in: each reason to refuse, in order, and greetings that were tampered with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.transport.host import FACTS, HELLO, ME, PEER, refusal

from quorate.errors import IdentityRefused, Misbehaviour
from quorate.limits import HELLO_BYTES_MAX, REPLICAS_MAX
from quorate.transport.acquaintances import Acquaintances, Unwelcome
from quorate.transport.greeter import Dismissed, Greeter
from quorate.types import ReplicaId
from quorate.wire import Channel, FrameReader, Hello, Refusal

GONE = ReplicaId(3)
HELLO_BYTES = HELLO.encode()


@pytest.fixture
def greeter(tmp_path: Path) -> Greeter:
    greeter = Greeter(ME, "bank", 1, "r1.bank:7101", FACTS, Acquaintances(tmp_path))
    greeter.expect(frozenset({PEER}), GONE)
    return greeter


def told(frame: bytes) -> Hello:
    ((channel, payload),) = FrameReader(HELLO_BYTES_MAX).feed(frame)
    assert channel == Channel.MESH
    return Hello.decode(payload)


def test_a_peer_is_let_in(greeter: Greeter) -> None:
    assert greeter.check(HELLO, None) == PEER
    assert greeter.check(HELLO, frozenset({"quorate://bank/admin", "quorate://bank/r2"})) == PEER


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({"cluster": "shop"}, Refusal.STRANGER, "cluster and epoch"),
        ({"epoch": 2}, Refusal.STRANGER, "cluster and epoch"),
        ({"sender": 0}, Refusal.STRANGER, "no peer"),
        ({"sender": ME}, Refusal.STRANGER, "no peer"),
        ({"sender": GONE}, Refusal.REMOVED, "was removed"),
        ({"sender": GONE, "cluster": "shop"}, Refusal.STRANGER, "cluster and epoch"),
        ({"receiver": GONE}, Refusal.STRANGER, "wants replica 3"),
        ({"address": "r2"}, Refusal.STRANGER, "not host:port"),
    ],
    ids=str,
)
def test_who_is_not_meant_is_told_why(greeter: Greeter, changes: dict[str, object], kind: Refusal, why: str) -> None:
    with pytest.raises(Unwelcome, match=why) as refused:
        greeter.check(msgspec.structs.replace(HELLO, **changes), None)
    answer = told(greeter.refusal(PEER, refused.value))
    assert (answer.refusal, answer.receiver, answer.store) == (kind, PEER, b"")
    assert why in answer.why


def test_who_may_have_come_while_we_were_away_is_let_in_as_far_as_there_is_room(greeter: Greeter) -> None:
    newcomers = [msgspec.structs.replace(HELLO, sender=number) for number in range(4, 4 + REPLICAS_MAX + 1)]
    for hello in newcomers[:-1]:
        assert greeter.check(hello, None) == hello.sender
    with pytest.raises(Unwelcome, match="no peer"):
        greeter.check(newcomers[-1], None)
    assert greeter.check(newcomers[0], None) == 4, "who is in stays in"
    greeter.expect(frozenset({PEER, ReplicaId(5)}), ReplicaId(5))
    with pytest.raises(Unwelcome, match="was removed"):
        greeter.check(newcomers[0], None)
    assert greeter.check(newcomers[-1], None) == newcomers[-1].sender, "members take no room of newcomers"


def test_a_newcomer_may_come_again_with_another_disk_until_it_is_a_member(greeter: Greeter) -> None:
    for store in (b"a" * 16, b"b" * 16):
        greeter.check(msgspec.structs.replace(HELLO, sender=4, store=store), None)
    greeter.expect(frozenset({PEER, ReplicaId(4)}), ReplicaId(4))
    greeter.check(msgspec.structs.replace(HELLO, sender=4, store=b"b" * 16), None)
    with pytest.raises(Unwelcome, match="another store"):
        greeter.check(msgspec.structs.replace(HELLO, sender=4, store=b"a" * 16), None)


@pytest.mark.parametrize(
    "certified",
    [set(), {"quorate://bank/r1"}, {"quorate://bank/r22"}, {"quorate://shop/r2"}, {"quorate://bank/admin"}],
    ids=str,
)
def test_a_certificate_of_another_is_refused(greeter: Greeter, certified: set[str]) -> None:
    with pytest.raises(Unwelcome, match="its certificate names"):
        greeter.check(HELLO, frozenset(certified))


def test_a_refused_greeting_is_not_remembered(greeter: Greeter) -> None:
    with pytest.raises(Unwelcome):
        greeter.check(msgspec.structs.replace(HELLO, life=9), frozenset())
    assert greeter.check(HELLO, None) == PEER


def test_a_store_that_was_replaced_is_refused(greeter: Greeter) -> None:
    greeter.check(HELLO, None)
    with pytest.raises(Unwelcome) as refused:
        greeter.check(msgspec.structs.replace(HELLO, store=b"another"), None)
    assert refused.value.refusal == Refusal.OTHER_STORE


@pytest.mark.parametrize("kind", list(Refusal)[1:])
def test_a_refusal_is_taken_for_what_it_is(greeter: Greeter, kind: Refusal) -> None:
    with pytest.raises(Dismissed, match="replica 2 refuses this one: so there") as dismissed:
        greeter.check(told(refusal(kind, "so there")), None)
    assert isinstance(dismissed.value.error, IdentityRefused) == (kind is not Refusal.STRANGER)


def test_a_long_reason_is_cut_to_its_bound(greeter: Greeter) -> None:
    with pytest.raises(Unwelcome) as refused:
        greeter.check(msgspec.structs.replace(HELLO, cluster="x" * 1000), None)
    assert len(told(greeter.refusal(PEER, refused.value)).why) == 300


@given(
    st.lists(st.tuples(st.integers(0, len(HELLO_BYTES) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.data()
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_damage_is_a_greeting_or_misbehaviour(
    greeter: Greeter, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    damaged = bytearray(HELLO_BYTES)
    for place, byte in changes:
        damaged[place] = byte
    del damaged[data.draw(st.integers(len(damaged) // 2, len(damaged))) :]
    try:
        sender = greeter.check(Hello.decode(bytes(damaged)), None)
        assert sender == PEER or sender > GONE, "what passes for a newcomer is let in"
    except Misbehaviour:
        return
