"""Protocols: client bytes to requests, the service's bytes to outcomes, and back. Pure: no clock, socket or log.

One strict HTTP/1.1 of our own (RFC 9110, RFC 9112), since no Python parser is strict enough to stand before another
server (FAULTS.md §0.8). Strict means: what two servers could read in two ways is refused, never repaired, and bytes of
a client are never forwarded. A request is parsed, and written anew in one canonical form.

    fields      the grammar both directions share: lines, field lines, framing values, hop-by-hop names, bounds
    chunked     the chunked transfer coding
    requests    a client's bytes -> `Request`, or a refusal with its problem document
    responses   the service's bytes -> `Outcome`, and an `Outcome` -> a client's bytes
    canonical   `Request` -> `Call`, and a `Call` -> the service's bytes
    upgrades    the opening handshake of WebSocket
    problems    refusals as application/problem+json

Parsers are fed bytes and hand back events; however the bytes are cut, the events are the same. Both sides answer
nonsense by one exception each (`BadRequest`, `BadResponse`), after which a parser is spent and its connection closes.
"""
