"""Certificates of a cluster: an authority of its own, one certificate for each replica, one for the operator's tools.

    ca.pem, ca.key          the authority; its key is needed to issue only, and belongs on no replica
    r1.pem, r1.key, ...     replicas: `quorate://<cluster>/r1` beside the host names of its admin listener
    admin.pem, admin.key    tools: `quorate://<cluster>/admin`

Keys are EC P-256, readable by their owner alone. A certificate is good for both directions, since each replica dials
and is dialled. Nothing is overwritten but by `renew`, which puts new keys and certificates in place of the present
ones, under the same authority and names; running replicas take them up by themselves.

The work is done by the `cryptography` package, an extra: import this module where it is needed. Raises `Misuse` on
import if the package is not there.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from quorate.errors import Misuse
from quorate.files import replace_file
from quorate.limits import AUTHORITY_DAYS, CERTIFICATE_DAYS
from quorate.transport.tls import replica_uri
from quorate.types import ReplicaId

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError as error:
    raise Misuse(
        "certificates are made by the cryptography package, which is not installed", "pip install 'quorate[tls]'"
    ) from error

ADMIN = "admin"
_AUTHORITY = "ca"
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_CLOCKS_APART = datetime.timedelta(hours=1)
"""A certificate is good from before its making: the clocks of machines differ."""


def init(
    directory: Path,
    cluster: str,
    replicas: Iterable[ReplicaId],
    hosts: Sequence[str] = (),
    days: float = CERTIFICATE_DAYS,
) -> list[Path]:
    """Make the whole set and return its certificates. `hosts` are names and addresses of the admin listeners.

    Raises `Misuse` if one of the files is there already, or can't be written.
    """
    uris = {f"r{replica}": replica_uri(cluster, replica) for replica in replicas}
    uris[ADMIN] = _uri(cluster, ADMIN)
    _prepare(directory, (_AUTHORITY, *uris))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _authority(cluster, key)
    _write(directory, _AUTHORITY, certificate, key)
    for name, uri in uris.items():
        _issue(directory, name, _names(uri, hosts), days, (certificate, key))
    return [directory / f"{name}.pem" for name in (_AUTHORITY, *uris)]


def add(directory: Path, replica: ReplicaId, hosts: Sequence[str] = (), days: float = CERTIFICATE_DAYS) -> list[Path]:
    """Issue a certificate for one more replica and return it. Raises `Misuse` as `init`, or without an authority."""
    authority = _load(directory, _AUTHORITY)
    cluster_uri = _alternative_names(authority[0]).get_values_for_type(x509.UniformResourceIdentifier)[0]
    name = f"r{replica}"
    _prepare(directory, (name,))
    uri = cluster_uri.removesuffix(_AUTHORITY) + name
    _issue(directory, name, _names(uri, hosts), days, authority)
    return [directory / f"{name}.pem"]


def renew(directory: Path, days: float = CERTIFICATE_DAYS) -> list[Path]:
    """Issue every certificate in `directory` again, and return them. Raises `Misuse` without an authority."""
    authority = _load(directory, _AUTHORITY)
    names = sorted(path.stem for path in directory.glob("*.pem") if path.stem != _AUTHORITY)
    for name in names:
        present, _ = _load(directory, name)
        _issue(directory, name, _alternative_names(present), days, authority)
    return [directory / f"{name}.pem" for name in names]


_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _authority(cluster: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = _common_name("Quorate cluster authority")
    usage = _key_usage(signs_certificates=True)
    return (
        _builder(name, name, key.public_key(), AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(_names(_uri(cluster, _AUTHORITY), ()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _issue(
    directory: Path, name: str, alternative_names: x509.SubjectAlternativeName, days: float, authority: _Pair
) -> None:
    certificate, authority_key = authority
    key = ec.generate_private_key(ec.SECP256R1())
    issued = (
        _builder(_common_name(name), certificate.subject, key.public_key(), days, certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .add_extension(alternative_names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    _write(directory, name, issued, key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    days: float,
    until_max: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(min(until, until_max or until))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _uri(cluster: str, name: str) -> str:
    return f"quorate://{quote(cluster, safe='')}/{name}"


def _common_name(text: str) -> x509.Name:
    """Return a name for people; X.520 bounds it to 64 bytes, so clusters are named by URI instead."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _names(uri: str, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    reached = map(_host, dict.fromkeys((*_LOOPBACK, *hosts)))
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri), *reached])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return _host_name(host)


def _host_name(host: str) -> x509.DNSName:
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise Misuse(f"host {host!r} is neither a name in ASCII nor an address", "give it in its IDNA form") from error


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value


# --- files -----------------------------------------------------------------------------------------------------------


def _prepare(directory: Path, names: Iterable[str]) -> None:
    """Make the directory if need be, and see that none of the files to come is there."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Misuse(f"directory can't be made: {error.strerror} - {directory}", "give another") from error
    for name in names:
        for path in (directory / f"{name}.pem", directory / f"{name}.key"):
            if path.exists():
                raise Misuse(f"is there already - {path}", "see `quorate tls renew`, or give another directory")


def _write(directory: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    _replace(directory / f"{name}.key", secret, 0o600)
    _replace(directory / f"{name}.pem", certificate.public_bytes(pem), 0o644)


def _replace(path: Path, data: bytes, mode: int) -> None:
    try:
        replace_file(path, data, mode)
    except OSError as error:
        raise Misuse(f"can't be written: {error.strerror} - {path}", "give a writable directory") from error


def _load(directory: Path, name: str) -> _Pair:
    certificate, secret = directory / f"{name}.pem", directory / f"{name}.key"
    try:
        key = serialization.load_pem_private_key(secret.read_bytes(), password=None)
        loaded = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError, TypeError) as error:
        what = f"can't be read: {getattr(error, 'strerror', None) or error} - {certificate} and {secret}"
        raise Misuse(what, "make a set with `quorate tls init`") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Misuse(f"is no EC key - {secret}", "make a set with `quorate tls init`")
    return loaded, key
