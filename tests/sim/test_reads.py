"""Reads on their way through a barrier."""

from __future__ import annotations

from quorate.sim.reads import Read, Reads

A, B, C = (Read(register, lambda _: None) for register in range(3))


def test_what_arrives_while_a_barrier_is_outstanding_waits_for_the_next() -> None:
    reads = Reads()
    reads.arrived.append(A)
    reads.ask(observed=7)
    reads.arrived += [B, C]
    assert (reads.asked, reads.token, reads.observed) == ([A], 1, 7)
    reads.release(9)
    reads.ask(observed=8)
    assert (reads.asked, reads.arrived, reads.token) == ([B, C], [], 2)


def test_a_released_read_waits_for_its_slot() -> None:
    reads = Reads()
    for read, slot in ((A, 5), (B, 3)):
        reads.arrived.append(read)
        reads.ask(0)
        reads.release(slot)
    assert reads.take(2) == []
    assert reads.take(4) == [B]
    assert reads.take(5) == [A]
    assert reads.take(9) == []
