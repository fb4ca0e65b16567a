"""Mutual TLS between replicas: who is who is settled by certificates of the cluster's own authority.

Both ends show a certificate, and take one only from the authority in `ca`, which signs for this cluster and nobody
else. A replica's certificate bears the URI `quorate://<cluster>/r<N>`, which the greeter compares with the greeting;
host names play no part between replicas, since these may move.

- Certificates are looked at as their peers would see them, by a handshake of each new pair with itself in memory: a
  pair that does not fit, is signed by another or has expired is found before anybody is refused because of it.
- Rotation needs no restart: when files change, what is in them is tried, and then used for new handshakes. Files that
  fail are logged, once, and what was loaded stays. An authority added to `ca` is trusted from then on; one taken out of
  it is trusted until the restart.
- A key that others than its owner may read is refused; the group may where the file is another user's, as in a mounted
  secret.
"""

from __future__ import annotations

import os
import ssl
import time
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import quote

import structlog

from quorate.errors import Misuse
from quorate.types import ReplicaId

log = structlog.get_logger(__name__)

_RENEW = "renew it with `quorate tls renew`, or make a set with `quorate tls init`"


class TlsFiles(NamedTuple):
    """PEM files: the authority (or several), this replica's certificate, and its key."""

    ca: Path
    cert: Path
    key: Path

    @classmethod
    def of(cls, directory: Path, name: str) -> TlsFiles:
        """Return where `quorate tls init` put the files of `name`: "r1", "admin"."""
        return cls(directory / "ca.pem", directory / f"{name}.pem", directory / f"{name}.key")


def replica_uri(cluster: str, replica: ReplicaId) -> str:
    """Return the name by which a certificate knows a replica."""
    return f"quorate://{quote(cluster, safe='')}/r{replica}"


def certified_uris(certificate: object) -> frozenset[str]:
    """Return the URIs in the other end's certificate, as `getpeercert` gives it."""
    names = cast("dict[str, tuple[tuple[str, str], ...]]", certificate).get("subjectAltName", ())
    return frozenset(value for kind, value in names if kind == "URI")


def handshake_fault(error: ssl.SSLError) -> str:
    """Return why a handshake failed, in words for a log line."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted: {error.verify_message}"
    return f"no TLS handshake: {_words(error)}"


class Credentials:
    """One replica's certificate and authority, as contexts that stay current.

    `server` serves peers, and as well an admin listener: it takes every certificate of the cluster's authority.
    Raises `Misuse` if the files are no good.
    """

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamps = self._look()
        self.server, self.client, self.expires_at = _contexts(files)
        """`expires_at` is in seconds since the epoch."""
        self._expiry_logged = False

    def refresh(self) -> None:
        """Take up files that have changed; never raises. Call it now and then."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            self._reload()
        if time.time() >= self.expires_at and not self._expiry_logged:
            self._expiry_logged = True
            log.error("own certificate has expired", file=str(self._files.cert), hint=_RENEW)

    def _reload(self) -> None:
        try:
            _, _, expires_at = _contexts(self._files)
            for context in (self.server, self.client):
                _load(context, self._files)
        except Misuse as error:
            log.error("new certificate not taken, the old one stays", why=error.what, hint=error.hint)
            return
        self.expires_at, self._expiry_logged = expires_at, False
        log.info("certificate taken up", file=str(self._files.cert), expires_at=_date(expires_at))

    def _look(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(map(_stamp, self._files))


def tool_context(files: TlsFiles) -> ssl.SSLContext:
    """Return the context by which a tool talks to admin listeners, whose host names it checks. Raises `Misuse`."""
    _, context, _ = _contexts(files)
    context.check_hostname = True
    return context


def _stamp(file: Path) -> tuple[int, int, int] | None:
    """Tell one content of a file from another; links are followed, so that an exchanged link counts."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _contexts(files: TlsFiles) -> tuple[ssl.SSLContext, ssl.SSLContext, float]:
    """Return the contexts of both directions, which have shaken hands with each other, and when they expire."""
    _check_mode(files.key)
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for context in (server, client):
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        _load(context, files)
    try:
        own = _shake_hands(server, client)
    except ssl.SSLError as error:
        raise Misuse(f"{handshake_fault(error)} - {files.cert}, authority {files.ca}", _RENEW) from error
    return server, client, float(ssl.cert_time_to_seconds(cast("str", own["notAfter"])))


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    try:
        context.load_verify_locations(files.ca)
        context.load_cert_chain(files.cert, files.key, password=_no_password)
    except ssl.SSLError as error:
        what = f"certificate and key can't be used: {_words(error)} - {files.cert}, {files.key}, {files.ca}"
        raise Misuse(what, "make a set with `quorate tls init`") from error
    except OSError as error:
        what = f"TLS file can't be read: {error.strerror} - {files.ca}, {files.cert} or {files.key}"
        raise Misuse(what, "make a set with `quorate tls init`") from error


def _words(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _no_password() -> str:
    """Answer for the terminal, which would be asked for the password of an encrypted key otherwise."""
    return ""


def _check_mode(key: Path) -> None:
    try:
        status = key.stat()
    except OSError as error:
        raise Misuse(f"key can't be read: {error.strerror} - {key}", "make one with `quorate tls init`") from error
    if status.st_mode & (0o077 if status.st_uid == os.geteuid() else 0o027):
        raise Misuse(f"key is open to others, mode {status.st_mode & 0o777:04o} - {key}", f"chmod 600 {key}")


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, object]:
    """Do a handshake in memory and return the certificate that was shown. Raises ssl.SSLError."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    waiting = ends
    while waiting:
        waiting = [end for end in ends if not _advance(end)]
    return cast("dict[str, object]", ends[0].getpeercert())


def _advance(end: ssl.SSLObject) -> bool:
    """Go on with a handshake and say whether this end is through."""
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
