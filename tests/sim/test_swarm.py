"""What a seed brings, and the dice."""

from __future__ import annotations

from quorate.sim.swarm import RATES, Fault, Faults, draw


def test_a_seed_always_brings_the_same_and_another_seed_something_else() -> None:
    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_swarms_differ_in_size_and_switch_every_fault_on_and_off() -> None:
    swarms = [draw(seed) for seed in range(200)]
    assert {swarm.replicas for swarm in swarms} == {1, 2, 3, 5}
    for fault in RATES:
        brought = sum(fault in swarm.rates for swarm in swarms)
        assert 30 < brought < 90, fault


def test_rates_stay_within_their_bounds() -> None:
    for seed in range(50):
        for fault, rate in draw(seed).rates.items():
            low, high = RATES[fault]
            assert low <= rate <= high


def test_a_swarm_is_described_in_one_line() -> None:
    swarm = draw(1)._replace(replicas=3, clients=2, safety_ticks=9, checkpoint_commands=10, eager_trim=False)
    start = "3 replicas, 2 clients, a snapshot each 10 commands, trimmed with care, 9 ticks of"
    assert str(swarm._replace(rates={Fault.LOSS: 0.25})) == f"{start} loss 0.250"
    assert str(swarm._replace(rates={})) == f"{start} peace"


def test_dice_count_each_hit_and_fall_well_once_healed() -> None:
    faults = Faults(1, {Fault.LOSS: 1.0, Fault.DELAY: 0.5})
    assert all(faults.strikes(Fault.LOSS) for _ in range(10))
    delayed = sum(faults.strikes(Fault.DELAY) for _ in range(100))
    assert not faults.strikes(Fault.PAUSE)
    assert faults.hits == {Fault.LOSS: 10, Fault.DELAY: delayed}
    assert 20 < delayed < 80
    faults.heal()
    assert not faults.strikes(Fault.LOSS)
    assert faults.rate(Fault.LOSS) == 0


def test_throwing_the_dice_alone_counts_nothing() -> None:
    faults = Faults(1, {Fault.CRASH: 1.0})
    assert faults.falls(Fault.CRASH)
    assert faults.hits == {Fault.CRASH: 0}
    faults.hit(Fault.LOST_WRITE)
    assert faults.hits[Fault.LOST_WRITE] == 1


def test_the_dice_of_one_fault_fall_the_same_without_the_others() -> None:
    together, alone = Faults(1, {Fault.LOSS: 0.5, Fault.DELAY: 0.5}), Faults(1, {Fault.LOSS: 0.5})
    for _ in range(20):
        together.falls(Fault.DELAY)
        assert together.falls(Fault.LOSS) == alone.falls(Fault.LOSS)
