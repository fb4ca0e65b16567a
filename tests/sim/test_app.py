"""The model application: sessions, digest, and state out of a snapshot."""

from __future__ import annotations

from quorate.sim.app import DONE, REGISTERS, SESSION_COMMANDS, App, command_of, number_of, register_of


def test_a_command_carries_its_number() -> None:
    assert number_of(command_of(300, 0, 0)) == 300


def test_a_command_takes_effect_once() -> None:
    app = App()
    first = app.apply(command_of(7, 0, 0))
    again = app.apply(command_of(7, app.stamp(), 0))
    assert (first.executed, again.executed) == (True, False)
    assert first.status == again.status == app.answered(7) == DONE
    assert app.registers[register_of(7)] == 7
    assert app.index == 2


def test_a_session_passes_and_its_retry_is_refused_rather_than_executed() -> None:
    app = App()
    for number in range(1, SESSION_COMMANDS + 2):
        app.apply(command_of(number, app.stamp(), 0))
    late = app.apply(command_of(1, app.stamp(), 0))
    assert not late.executed
    assert late.status != DONE
    assert app.answered(1) is None


def test_a_command_that_was_long_on_its_way_is_refused() -> None:
    app = App()
    for number in range(1, SESSION_COMMANDS + 2):
        app.apply(command_of(number, app.stamp(), 0))
    assert not app.apply(command_of(999, 0, 0)).executed


def test_the_agreed_time_never_goes_back() -> None:
    app = App()
    for time_ms in (5, 9, 3):
        app.apply(command_of(time_ms, 0, time_ms))
    assert app.time_ms == 9


def test_equal_histories_give_equal_digests_and_others_do_not() -> None:
    def digest(*numbers: int) -> bytes:
        app = App()
        for number in numbers:
            app.apply(command_of(number, 0, 0))
        return app.digest

    assert digest(1, 2) == digest(1, 2)
    assert len({digest(1, 2), digest(2, 1), digest(1), digest(1, 1)}) == 4


def test_the_state_out_of_a_snapshot_goes_on_as_the_original() -> None:
    app = App()
    for number in range(1, 3 * SESSION_COMMANDS):
        app.apply(command_of(number, app.stamp(), number))
    copy = App.load(app.dump())
    assert copy.dump() == app.dump()
    for number in (1, 3 * SESSION_COMMANDS - 1, 999):
        assert copy.apply(command_of(number, app.stamp(), 0)) == app.apply(command_of(number, app.stamp(), 0))
    assert copy.digest == app.digest
    assert len(copy.registers) == REGISTERS
