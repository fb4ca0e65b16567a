"""The model application: registers behind the real session table, whose digest is compared at equal index.

It is what the replica room and the service together are: commands are judged by `replica.sessions`, executed once, and
chained into a digest with what came of them. Its state goes into snapshots and comes back out of them, sessions and
all. A command carries its number, which it writes to the register it belongs to.

Windows of sessions are counted in positions. Each command stands for `STRIDE` of them here, so that windows pass many
times in one run.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import msgspec

from quorate import limits
from quorate.replica.sessions import SessionTable
from quorate.types import Base, Batch, Command, Index, Membership, Outcome
from quorate.wire import encode_batch, encode_command

SESSION_COMMANDS = 64
"""Commands for which an outcome is kept, as positions of the real window."""

STRIDE = limits.SESSION_WINDOW // SESSION_COMMANDS

REGISTERS = 5

DONE = 200
"""The status of a command that was executed, now or before; any other is a refusal to execute it."""


class Snapshot(NamedTuple):
    """The application's state at one point of the order, and what a log that begins there has to know."""

    base: Base
    membership: Membership
    state: bytes


class Effect(NamedTuple):
    """What came of one command."""

    number: int
    status: int
    executed: bool
    """False: it was answered from its session, or refused."""


class _State(msgspec.Struct, array_like=True):
    index: Index
    time_ms: int
    digest: bytes
    registers: list[int]
    sessions: list[bytes]


_state_decoder = msgspec.msgpack.Decoder(_State)


def command_of(number: int, stamp: Index, time_ms: int) -> Command:
    """Return the command of a client's numbered write, as the replica that takes it makes it."""
    key = number.to_bytes(16, "big")
    return Command(key, stamp, time_ms, 0, key, b"POST", b"", key)


def batch_of(command: Command) -> Batch:
    """Return the batch of one command."""
    return encode_batch([encode_command(command)])


def number_of(command: Command) -> int:
    """Return the number of a client's write."""
    return int.from_bytes(command.request_id[8:], "big")


def register_of(number: int) -> int:
    """Return which register a client's write goes to."""
    return number % REGISTERS


class App:
    """The state as of `index`."""

    def __init__(self) -> None:
        self.index: Index = 0
        self.time_ms = 0
        """The agreed time."""
        self.digest = b""
        self.registers = [0] * REGISTERS
        self.sessions = SessionTable()

    def apply(self, command: Command) -> Effect:
        """Take the next command of the order."""
        self.index += 1
        self.time_ms = max(self.time_ms, command.time_ms)
        number, position = number_of(command), self.index * STRIDE
        outcome = self.sessions.judge(position, command).outcome
        executed = outcome is None
        if outcome is None:
            self.registers[register_of(number)] = number
            outcome = Outcome(DONE, b"", b"%d" % self.index)
            self.sessions.store(position, command, outcome)
        step = b"%d %d %d %d %b " % (self.index, self.time_ms, number, outcome.status, outcome.body)
        self.digest = hashlib.blake2b(self.digest + step, digest_size=8).digest()
        return Effect(number, outcome.status, executed)

    def stamp(self) -> Index:
        """Return what a command submitted now is stamped with."""
        return self.index * STRIDE

    def answered(self, number: int) -> int | None:
        """Return the status of a write whose session is still stored."""
        session = self.sessions.find(number.to_bytes(16, "big"))
        return None if session is None else session.outcome.status

    def dump(self) -> bytes:
        """Return the whole state."""
        sessions = list(self.sessions.dump())
        return msgspec.msgpack.encode(_State(self.index, self.time_ms, self.digest, self.registers, sessions))

    @classmethod
    def load(cls, data: bytes) -> App:
        """Return an application in the state that `dump` returned."""
        state, app = _state_decoder.decode(data), cls()
        app.index, app.time_ms, app.digest, app.registers = state.index, state.time_ms, state.digest, state.registers
        app.sessions = SessionTable.load(state.sessions)
        return app
