"""A cluster's certificates, as they are made and as OpenSSL sees them (tests/transport/test_tls.py)."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from quorate.errors import Misuse
from quorate.ops import tls
from quorate.transport.tls import Credentials, TlsFiles, tool_context
from quorate.types import ReplicaId

ONE, TWO, THREE = (ReplicaId(number) for number in (1, 2, 3))


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    directory = tmp_path / "tls"
    tls.init(directory, "bank", (ONE, TWO), ["r.bank.svc", "192.0.2.7"], days=30)
    return directory


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names(path: Path) -> x509.SubjectAlternativeName:
    return certificate(path).extensions.get_extension_for_class(x509.SubjectAlternativeName).value


def uris(path: Path) -> list[str]:
    return names(path).get_values_for_type(x509.UniformResourceIdentifier)


def test_a_set_is_made(directory: Path) -> None:
    made = {path.name for path in directory.iterdir()}
    assert made == {f"{name}.{kind}" for name in ("ca", "r1", "r2", "admin") for kind in ("pem", "key")}
    assert uris(directory / "r1.pem") == ["quorate://bank/r1"]
    assert uris(directory / "r2.pem") == ["quorate://bank/r2"]
    assert uris(directory / "admin.pem") == ["quorate://bank/admin"]
    assert names(directory / "r1.pem").get_values_for_type(x509.DNSName) == ["localhost", "r.bank.svc"]
    addresses = names(directory / "r1.pem").get_values_for_type(x509.IPAddress)
    assert [str(address) for address in addresses] == ["127.0.0.1", "::1", "192.0.2.7"]


def test_keys_are_their_owner_s(directory: Path) -> None:
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    for path in directory.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_certificates_are_good_for_their_days_and_both_directions_and_sign_nothing(directory: Path) -> None:
    one = certificate(directory / "r1.pem")
    left = one.not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert datetime.timedelta(days=29) < left < datetime.timedelta(days=30)
    usage = one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usage) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    one.verify_directly_issued_by(certificate(directory / "ca.pem"))


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    tls.init(tmp_path, "bank", (ONE,), days=100_000)
    ends = {certificate(tmp_path / name).not_valid_after_utc for name in ("ca.pem", "r1.pem")}
    assert len(ends) == 1


@pytest.mark.parametrize("name", ["r1", "r2", "admin"])
def test_openssl_takes_them(directory: Path, name: str) -> None:
    assert Credentials(TlsFiles.of(directory, name)).expires_at > 0
    assert tool_context(TlsFiles.of(directory, name)).check_hostname


def test_a_long_or_odd_name_of_a_cluster_is_no_obstacle(tmp_path: Path) -> None:
    tls.init(tmp_path, "ü/" * 64, (ONE,))
    tls.add(tmp_path, TWO)
    assert uris(tmp_path / "r2.pem") == [uris(tmp_path / "r1.pem")[0].removesuffix("1") + "2"]
    Credentials(TlsFiles.of(tmp_path, "r2"))


@pytest.mark.parametrize("name", ["ca.key", "r2.pem", "admin.key"])
def test_nothing_is_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(Misuse, match=f"is there already - .*{name}"):
        tls.init(tmp_path, "bank", (ONE, TWO))
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "precious"


def test_one_more_replica_gets_its_own(directory: Path) -> None:
    others = {path: path.read_bytes() for path in directory.iterdir()}
    assert tls.add(directory, THREE, ["r3.bank.svc"]) == [directory / "r3.pem"]
    assert uris(directory / "r3.pem") == ["quorate://bank/r3"]
    assert "r3.bank.svc" in names(directory / "r3.pem").get_values_for_type(x509.DNSName)
    Credentials(TlsFiles.of(directory, "r3"))
    assert all(path.read_bytes() == data for path, data in others.items())
    with pytest.raises(Misuse, match="is there already"):
        tls.add(directory, THREE)


def test_renewal_keeps_authority_and_names_and_changes_keys(directory: Path) -> None:
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    had = names(directory / "r1.pem")
    assert [path.name for path in tls.renew(directory, days=60)] == ["admin.pem", "r1.pem", "r2.pem"]
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert {name for name in before if before[name] == after[name]} == {"ca.pem", "ca.key"}
    assert before.keys() == after.keys()
    assert names(directory / "r1.pem") == had
    left = certificate(directory / "r1.pem").not_valid_after_utc - datetime.datetime.now(datetime.UTC)
    assert left > datetime.timedelta(days=59)
    Credentials(TlsFiles.of(directory, "r1"))


@pytest.mark.parametrize("spoil", ["ca.key", "ca.pem"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN EC PRIVATE KEY-----\n"])
def test_without_an_authority_nothing_is_issued(directory: Path, spoil: str, content: bytes | None) -> None:
    (directory / spoil).unlink()
    if content is not None:
        (directory / spoil).write_bytes(content)
    with pytest.raises(Misuse, match="can't be read"):
        tls.add(directory, THREE)
    with pytest.raises(Misuse, match="can't be read"):
        tls.renew(directory)


def test_a_host_that_is_no_name_is_misuse(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="neither a name"):
        tls.init(tmp_path, "bank", (ONE,), ["bänk"])


def test_a_directory_that_can_t_be_made_is_misuse(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Misuse, match="can't be made"):
        tls.init(tmp_path / "file" / "tls", "bank", (ONE,))
