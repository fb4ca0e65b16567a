"""Members at the admin listener of a sidecar: who takes part, and one change at a time.

    GET  /members
    POST /members    {"add": {"replica": 4, "address": "10.0.0.4:7100"}} or {"remove": {"replica": 2}}

A change goes to the leader, wherever that is. It must bear `If-Match` with the version it is meant for, so that two
operators do not undo each other's work (RFC 9110 §13.1.1). A refusal is a 409 that says why; no answer in time is a
504: the change may have been made, and GET tells. A request that a web page could have sent is refused.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from quorate import limits
from quorate.consensus.core import Change
from quorate.intercept.connection import Respond
from quorate.ordering import Ordering
from quorate.protocols.problems import problem
from quorate.protocols.requests import Request
from quorate.types import Outcome, ReplicaId

JSON = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"


class Newcomer(Struct, frozen=True, forbid_unknown_fields=True):
    """Who comes, and where it listens for its peers."""

    replica: Annotated[int, Meta(ge=1, le=limits.REPLICA_ID_MAX)]
    address: Annotated[str, Meta(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:]+):[0-9]{1,5}$", max_length=300)]


class Leaver(Struct, frozen=True, forbid_unknown_fields=True):
    """Who goes."""

    replica: Annotated[int, Meta(ge=1, le=limits.REPLICA_ID_MAX)]


class Wish(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST: one of both."""

    add: Newcomer | None = None
    remove: Leaver | None = None

    def change(self) -> Change | None:
        """Return what is asked for, if it is one thing."""
        match self.add, self.remove:
            case (Newcomer(replica=replica, address=address), None):
                return Change(ReplicaId(replica), address)
            case (None, Leaver(replica=replica)):
                return Change(ReplicaId(replica), None)
        return None


_wish_decoder = msgspec.json.Decoder(Wish)


class Members:
    """Answers requests for /members from what `ordering` knows."""

    def __init__(self, ordering: Ordering) -> None:
        self._ordering = ordering

    def document(self) -> dict[str, Any]:
        """Who takes part, as far as it is known here."""
        membership, status = self._ordering.membership, self._ordering.status()
        addresses = dict(membership.addresses)
        return {
            "version": membership.version,
            "last_id": membership.last_id,
            "leader": status.leader,
            "members": [
                {
                    "name": f"r{member}",
                    "replica": member,
                    "role": "voter" if member in membership.voters else "learner",
                    "address": addresses.get(member),
                    "reached": status.reached.get(member, status.point),
                }
                for member in membership.members
            ],
        }

    def tell(self) -> Outcome:
        """Answer a GET."""
        version = self._ordering.membership.version
        return Outcome(200, JSON + b'ETag: "%d"\r\n' % version, msgspec.json.encode(self.document()) + b"\n")

    def change(self, request: Request, respond: Respond) -> None:
        """Answer a POST, once the leader has."""
        wish = self._wish(request)
        if isinstance(wish, Outcome):
            respond(wish, b"", False)
            return
        answered = False

        def answer(outcome: Outcome) -> None:
            nonlocal answered
            if not answered:
                answered = True
                late.cancel()
                respond(outcome, b"", False)

        late = asyncio.get_running_loop().call_later(limits.CHANGE_SECONDS_MAX, lambda: answer(_UNKNOWN))
        self._ordering.change(wish, lambda refusal: answer(self._conflict(refusal) if refusal else self.tell()))

    def _wish(self, request: Request) -> Change | Outcome:
        """Return what a request asks for, or why it is refused."""
        if request.get(b"origin") is not None:
            return _FROM_BROWSER
        if (request.get(b"content-type") or b"").partition(b";")[0].strip().lower() != b"application/json":
            return _NOT_JSON
        try:
            change = _wish_decoder.decode(request.body).change()
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            return problem(400, "bad_change", f"Not a change of membership: {error}", _HOW)
        if change is None:
            return problem(400, "bad_change", "Not one change of membership: give either add or remove", _HOW)
        expected = request.get(b"if-match")
        if expected is None:
            return _UNCONDITIONAL
        if expected.strip(b'"') != b"%d" % self._ordering.membership.version:
            return self._conflict(f"the membership is at version {self._ordering.membership.version} by now; ask again")
        return change

    def _conflict(self, refusal: str) -> Outcome:
        return problem(409, "change_refused", refusal, "look at GET /members; nothing was changed")


_HOW = 'POST {"add": {"replica": 4, "address": "10.0.0.4:7100"}} or {"remove": {"replica": 2}}'
_FROM_BROWSER = problem(403, "browser_refused", "Requests from web pages are refused", "use the command line or curl")
_NOT_JSON = problem(415, "not_json", "A change of membership is sent as application/json", _HOW)
_UNCONDITIONAL = problem(
    428, "precondition_required", "A change of membership has to say what it changes", "send If-Match with the version"
)
_UNKNOWN = problem(
    504, "change_unknown", "No leader has answered in time", "look at GET /members whether the change was made"
)
