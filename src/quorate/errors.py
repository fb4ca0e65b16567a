"""The three error families. A refusal that is normal life (no leader, overloaded) is a value, not an error.

Misuse: the caller, here or at the command line, broke a contract. It is told; nothing else happens.
Misbehaviour: a peer, a client or the service sent nonsense. It is refused, counted, and its connection closed.
Broken: an invariant or a disk failed. The process ends; recovery is the handler.
"""

from __future__ import annotations


class QuorateError(Exception):
    """Base of all three families: one line that says what happened, and one that says what to do about it."""

    exit_code = 1

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} - {self.hint}" if self.hint else self.what


class Misuse(QuorateError):
    """The caller broke the contract (wrong option, wrong order of calls)."""

    exit_code = 2


class Misbehaviour(QuorateError):
    """A peer, client or service sent what the protocol forbids."""


class Broken(QuorateError):
    """State can no longer be vouched for: the process must end and recover from disk and peers."""


class LogTrimmed(Broken):
    """A part of the log was asked for that only a snapshot stands for now: somebody lost his place."""


class IdentityRefused(Broken):
    """The data directory belongs to someone else, is in use, or lost its contents."""

    exit_code = 3


class StorageBroken(Broken):
    """The disk failed a read or a commit, or holds a damaged record."""

    exit_code = 4


class NetworkRefused(Misuse):
    """An address can't be listened on or reached."""

    exit_code = 5
