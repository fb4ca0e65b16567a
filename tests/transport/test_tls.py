"""Mutual TLS: who is let in, who is not and with which words, and new certificates without a restart."""

from __future__ import annotations

import asyncio
import random
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict
from tests.transport.host import FACTS, ME, PEER, Host, at_end, free_address, greeting, read_hello, until

from quorate import limits
from quorate.errors import Misuse
from quorate.ops import tls
from quorate.transport import Channel, MeshOptions
from quorate.transport.tcp import TcpMesh
from quorate.transport.tls import Credentials, TlsFiles, certified_uris, replica_uri, tool_context
from quorate.types import founding
from quorate.wire import Refusal, encode_frame


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    tls.init(directory, "bank", (ME, PEER))
    return directory


@pytest.fixture
def certificates(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the set for the test to spoil."""
    return Path(shutil.copytree(made, tmp_path / "certificates"))


@pytest.fixture
async def secured(certificates: Path, tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path, Credentials(TlsFiles.of(certificates, "r1")))
    await host.mesh.start()
    yield host
    await host.close()


def strange_set(directory: Path) -> Path:
    """Return another authority's certificates for the same cluster and replicas."""
    tls.init(directory, "bank", (ME, PEER))
    return directory


def expired(directory: Path, name: str) -> None:
    """Replace a certificate by one that was good until now."""
    for suffix in (".pem", ".key"):
        (directory / name).with_suffix(suffix).unlink()
    tls.add(directory, {"r1": ME, "r2": PEER}[name], days=0)


def client_context(directory: Path, name: str) -> ssl.SSLContext:
    """Return a context that trusts the authority, whatever its own certificate is worth."""
    files = TlsFiles.of(directory, name)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.cert, files.key)
    return context


@asynccontextmanager
async def coming(
    host: Host, context: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    name, _, port = host.address.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port), ssl=context)
    yield reader, writer
    writer.transport.abort()


async def received(reader: asyncio.StreamReader) -> bytes:
    """Return what came until the end; the client's half of a handshake is through before it hears of a refusal."""
    try:
        return await reader.read()
    except OSError:
        return b""


def reasons(logs: list[EventDict]) -> str:
    return " | ".join(str(entry.get("why")) for entry in logs if entry["event"] == "connection refused")


class TestConnections:
    async def test_a_peer_with_its_certificate_is_heard(self, secured: Host, certificates: Path) -> None:
        async with coming(secured, client_context(certificates, "r2")) as (reader, writer):
            # Greeting and frame come in the same packet as the end of the handshake may.
            writer.write(greeting() + encode_frame(b"one"))
            assert await read_hello(reader) == secured.own_hello
            await until(lambda: secured.heard == [(PEER, b"one")])
            version = writer.get_extra_info("ssl_object").version()
            assert version == "TLSv1.3"

    async def test_the_certificate_of_another_replica_is_refused(self, secured: Host, certificates: Path) -> None:
        with capture_logs() as logs:
            async with coming(secured, client_context(certificates, "r1")) as (reader, writer):
                writer.write(greeting())
                assert (await read_hello(reader)).refusal == Refusal.STRANGER
                writer.write(encode_frame(b"believe me"))
                assert await at_end(reader)
        assert "it is quorate://bank/r2, its certificate names quorate://bank/r1" in reasons(logs)
        assert secured.heard == []

    @pytest.mark.parametrize(
        ("way", "why"),
        [
            ("another authority", "certificate not accepted: "),
            ("expired", "certificate has expired"),
            ("none", "peer did not return a certificate"),
        ],
    )
    async def test_a_bad_certificate_is_refused(
        self, secured: Host, certificates: Path, tmp_path: Path, way: str, why: str
    ) -> None:
        context = client_context(certificates, "r2")
        if way == "another authority":
            strange = TlsFiles.of(strange_set(tmp_path / "strange"), "r2")
            context.load_cert_chain(strange.cert, strange.key)
        elif way == "expired":
            expired(certificates, "r2")
            context = client_context(certificates, "r2")
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.load_verify_locations(certificates / "ca.pem")
        with capture_logs() as logs:
            async with coming(secured, context) as (reader, writer):
                writer.write(greeting())
                assert await received(reader) == b""
                await until(lambda: secured.refused() == 1)
        assert why in reasons(logs)

    async def test_old_tls_is_refused(self, secured: Host, certificates: Path) -> None:
        context = client_context(certificates, "r2")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        async with coming(secured, context) as (_, writer):
            assert writer.get_extra_info("ssl_object").version() == "TLSv1.2"
        assert Credentials(TlsFiles.of(certificates, "r1")).server.minimum_version == ssl.TLSVersion.TLSv1_2

    @pytest.mark.parametrize("data", [greeting(), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01" + b"\xff" * 300])
    async def test_a_stranger_without_tls_is_refused(self, secured: Host, data: bytes) -> None:
        with capture_logs() as logs:
            reader, writer = await secured.connect()
            writer.write(data)
            assert await at_end(reader)
            await until(lambda: secured.refused() == 1)
        assert "no TLS handshake" in reasons(logs)

    async def test_silence_instead_of_a_handshake_is_closed(self, secured: Host) -> None:
        reader, _ = await secured.connect()
        assert await at_end(reader)
        assert secured.refused() == 1

    async def test_handshakes_count_among_strangers(self, secured: Host) -> None:
        for _ in range(limits.UNGREETED_CONNECTIONS_MAX):
            await secured.connect()
        reader, _ = await secured.connect()
        assert await at_end(reader)
        assert secured.refused() == 1

    async def test_a_peer_that_shows_another_certificate_is_not_sent_to(
        self, secured: Host, certificates: Path
    ) -> None:
        files = TlsFiles.of(certificates, "r1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.cert, files.key)
        ended: asyncio.Queue[bool] = asyncio.Queue()

        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(greeting())
            ended.put_nowait(await at_end(reader))
            writer.transport.abort()

        host, _, port = secured.peer_address.partition(":")
        server = await asyncio.start_server(on_connection, host, int(port), ssl=context)
        assert await ended.get()
        assert not secured.mesh.connected()
        assert secured.refused() >= 1
        server.close()


def two(directory: Path, certificates: Path | None) -> tuple[TcpMesh, TcpMesh, list[bytes]]:
    """Return two meshes, over TLS if there are certificates, and what both hear."""
    addresses = {ME: free_address(), PEER: free_address()}
    heard: list[bytes] = []
    meshes = []
    for me in (ME, PEER):
        own = directory / f"data{me}"
        own.mkdir()
        credentials = None if certificates is None else Credentials(TlsFiles.of(certificates, f"r{me}"))
        options = MeshOptions("bank", 1, addresses[me], credentials=credentials)
        mesh = TcpMesh(me, founding(addresses), options, FACTS, own, random.Random(me))
        mesh.subscribe(Channel.ORDER, lambda _, payload: heard.append(payload))
        meshes.append(mesh)
    return meshes[0], meshes[1], heard


async def test_what_a_slow_peer_leaves_unsent_is_counted_under_tls_too(certificates: Path, tmp_path: Path) -> None:
    one, other, heard = two(tmp_path, certificates)
    await one.start()
    await other.start()
    await until(lambda: one.connected() and other.connected())
    payload = random.Random(1).randbytes(4 * 1024 * 1024)
    one.send((PEER,), payload)
    one.flush()
    assert one.statistics().buffered_bytes > len(payload) // 2
    await until(lambda: heard == [payload])
    await one.close()
    await other.close()


async def test_meshes_can_be_closed_at_any_moment_of_their_meeting(certificates: Path, tmp_path: Path) -> None:
    for turns in range(50):
        own = tmp_path / str(turns)
        own.mkdir()
        one, other, _ = two(own, certificates if turns % 2 else None)
        await one.start()
        await other.start()
        for _ in range(turns // 2):
            await asyncio.sleep(0)
        async with asyncio.timeout(limits.HELLO_SECONDS_MAX / 2):
            await one.close()
            await other.close()


class TestRotation:
    async def test_new_certificates_are_taken_up(self, secured: Host, certificates: Path) -> None:
        expired(certificates, "r2")
        before = await shown(secured, certificates / "admin.pem", certificates)
        with capture_logs() as logs:
            tls.renew(certificates)
            await until(lambda: "certificate taken up" in [entry["event"] for entry in logs])
        assert await shown(secured, certificates / "admin.pem", certificates) != before
        async with coming(secured, client_context(certificates, "r2")) as (reader, writer):
            writer.write(greeting())
            await read_hello(reader)
            await until(lambda: secured.refused() == 0)

    @pytest.mark.parametrize("way", ["half written", "other key", "expired", "gone", "open", "strange"])
    def test_what_is_no_good_is_left_and_logged_once(self, certificates: Path, tmp_path: Path, way: str) -> None:
        files = TlsFiles.of(certificates, "r1")
        credentials = Credentials(files)
        match way:
            case "half written":
                files.cert.write_bytes(files.cert.read_bytes()[:300])
            case "other key":
                shutil.copy(certificates / "r2.key", files.key)
            case "expired":
                expired(certificates, "r1")
            case "gone":
                files.key.unlink()
            case "open":
                files.key.chmod(0o644)
                files.key.touch()
                files.cert.touch()
            case "strange":
                shutil.copy(strange_set(tmp_path / "strange") / "ca.pem", files.ca)
        with capture_logs() as logs:
            for _ in range(3):
                credentials.refresh()
        assert [entry["event"] for entry in logs] == ["new certificate not taken, the old one stays"]
        assert logs[0]["why"]
        shake(credentials.server, client_context(certificates, "r2") if way != "strange" else None)

    def test_an_authority_that_is_added_is_trusted(self, certificates: Path, tmp_path: Path) -> None:
        files = TlsFiles.of(certificates, "r1")
        credentials = Credentials(files)
        strange = strange_set(tmp_path / "strange")
        stranger = client_context(strange, "r2")
        stranger.load_verify_locations(certificates / "ca.pem")
        with pytest.raises(ssl.SSLError):
            shake(credentials.server, stranger)
        files.ca.write_bytes(files.ca.read_bytes() + (strange / "ca.pem").read_bytes())
        credentials.refresh()
        shake(credentials.server, stranger)

    def test_an_own_certificate_that_runs_out_is_logged_once(self, certificates: Path) -> None:
        credentials = Credentials(TlsFiles.of(certificates, "r1"))
        credentials.expires_at = 0
        with capture_logs() as logs:
            credentials.refresh()
            credentials.refresh()
        assert [entry["event"] for entry in logs] == ["own certificate has expired"]


async def shown(host: Host, certificate: Path, certificates: Path) -> bytes:
    """Return the certificate the host shows now."""
    async with coming(host, client_context(certificates, certificate.stem)) as (_, writer):
        shown: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return shown


def shake(server: ssl.SSLContext, client: ssl.SSLContext | None) -> None:
    """Do a handshake in memory. Raises ssl.SSLError; None: the server's context is only looked at."""
    if client is None:
        assert server.verify_mode == ssl.CERT_REQUIRED
        return
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    waiting = [client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)]
    for end in waiting * 3:
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue


class TestFiles:
    def test_a_good_set_is_taken_and_its_end_known(self, certificates: Path) -> None:
        credentials = Credentials(TlsFiles.of(certificates, "r1"))
        assert credentials.expires_at > 0
        assert credentials.server.verify_mode == credentials.client.verify_mode == ssl.CERT_REQUIRED

    @pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o644])
    def test_a_key_that_others_may_read_is_misuse(self, certificates: Path, mode: int) -> None:
        (certificates / "r1.key").chmod(mode)
        with pytest.raises(Misuse, match=f"open to others, mode {mode:04o}") as refused:
            Credentials(TlsFiles.of(certificates, "r1"))
        assert "chmod 600" in refused.value.hint

    @pytest.mark.parametrize("name", ["ca.pem", "r1.pem", "r1.key"])
    @pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", bytes(100)])
    def test_a_file_that_is_missing_or_garbage_is_misuse(
        self, certificates: Path, name: str, content: bytes | None
    ) -> None:
        if content is None:
            (certificates / name).unlink()
        else:
            (certificates / name).write_bytes(content)
        with pytest.raises(Misuse, match=r"read|used"):
            Credentials(TlsFiles.of(certificates, "r1"))

    def test_an_expired_certificate_is_misuse(self, certificates: Path) -> None:
        expired(certificates, "r1")
        with pytest.raises(Misuse, match="certificate has expired") as refused:
            Credentials(TlsFiles.of(certificates, "r1"))
        assert "quorate tls renew" in refused.value.hint

    def test_a_certificate_of_another_authority_is_misuse(self, certificates: Path, tmp_path: Path) -> None:
        shutil.copy(strange_set(tmp_path / "strange") / "ca.pem", certificates / "ca.pem")
        with pytest.raises(Misuse, match="certificate not accepted"):
            Credentials(TlsFiles.of(certificates, "r1"))


class TestNames:
    def test_a_cluster_of_any_name_has_one_uri(self) -> None:
        assert replica_uri("bank", ME) == "quorate://bank/r1"
        assert replica_uri("a/b ü", PEER) == "quorate://a%2Fb%20%C3%BC/r2"

    def test_uris_are_found_among_other_names(self) -> None:
        names = (("DNS", "localhost"), ("URI", "quorate://bank/r1"), ("IP Address", "127.0.0.1"))
        assert certified_uris({"subjectAltName": names}) == {"quorate://bank/r1"}
        assert certified_uris({}) == frozenset()


class TestAdmin:
    """A listener beside the mesh, with the server context of the same credentials."""

    @pytest.fixture
    async def port(self, certificates: Path) -> AsyncIterator[int]:
        async def on_connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        context = Credentials(TlsFiles.of(certificates, "r1")).server
        server = await asyncio.start_server(on_connection, "127.0.0.1", 0, ssl=context)
        yield server.sockets[0].getsockname()[1]
        server.close()

    @pytest.mark.parametrize("name", ["admin", "r2"])
    async def test_any_certificate_of_the_cluster_is_taken(self, certificates: Path, port: int, name: str) -> None:
        context = tool_context(TlsFiles.of(certificates, name))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert await reader.read() == b"hello"
        writer.close()

    async def test_a_tool_checks_the_host_name(self, certificates: Path, port: int) -> None:
        context = tool_context(TlsFiles.of(certificates, "admin"))
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="r1.shop")

    async def test_nobody_comes_without_one(self, certificates: Path, port: int) -> None:
        context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        assert await received(reader) == b""
        writer.transport.abort()
