"""The client against receivers that behave and receivers that do not; loopback only."""

import asyncio
import contextlib
import socket
import ssl

import pytest

from sdc_node import pki
from sdc_node.hl7.mllp import Frames, frame
from sdc_node.sinks.hl7v2.client import MllpClient, MllpProtocolError, MllpTimeout, MllpUnreachable

BODY = b"MSH|^~\\&|a||||20260302101600+0000||ORU^R01^ORU_R01|ID-1|P|2.6\r"


def ack(code="CA", control_id="ID-1", *errors):
    return frame("\r".join(["MSH|^~\\&|r", f"MSA|{code}|{control_id}", *errors, ""]).encode())


class Peer:
    """A server that reads frames and answers as it is told; ``bodies`` are those of all connections."""

    def __init__(self, answer):
        self.answer = answer
        self.bodies = []
        self.connections = 0
        self.taken = asyncio.Event()
        self.ended = asyncio.Event()
        self._tasks = set()

    async def _serve(self, reader, writer):
        self.connections += 1
        self._tasks.add(asyncio.current_task())
        frames = Frames(1_000_000)
        try:
            while data := await reader.read(65536):
                for body in frames.feed(data):
                    self.bodies.append(body)
                    self.taken.set()
                    await self.answer(self, writer)
        except OSError:
            pass
        finally:
            self.ended.set()
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self, context=None):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await server.wait_closed()


def answering(*pieces):
    async def answer(_, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return Peer(answer)


@contextlib.asynccontextmanager
async def client_of(port, **options):
    client = MllpClient("127.0.0.1", port, **({"timeout": 5.0} | options))
    try:
        yield client
    finally:
        await client.close()


async def test_acknowledged_over_one_connection():
    peer = answering(ack())
    async with peer.running() as port, client_of(port) as client:
        for _ in range(3):
            got = await client.send(BODY, "ID-1")
            assert got.accepted
        assert client.connected
        assert (peer.connections, client.connects, peer.bodies) == (1, 1, [BODY] * 3)


async def test_negative_acknowledgements_are_answers():
    peer = answering(ack("CE", "ID-1", "ERR||PID^1^5|101|E"))
    async with peer.running() as port, client_of(port) as client:
        got = await client.send(BODY, "ID-1")
        assert (got.code, got.text, got.retry) == ("CE", "PID[1]-5: 101 Required field missing", True)
        assert client.connected


async def test_acknowledgement_in_pieces_and_surrounded_by_line_ends():
    whole = b"\r\n" + ack()
    peer = answering(*(whole[i : i + 1] for i in range(len(whole))), b"\r\n")
    async with peer.running() as port, client_of(port) as client:
        assert (await client.send(BODY, "ID-1")).accepted


async def test_callers_take_turns():
    open_now = most = 0

    async def answer(peer, writer):
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        await asyncio.sleep(0)
        open_now -= 1
        writer.write(ack(control_id=f"ID-{len(peer.bodies)}"))

    peer = Peer(answer)
    async with peer.running() as port, client_of(port) as client:
        got = await asyncio.gather(*(client.send(BODY, f"ID-{n}") for n in range(1, 6)))
    assert [one.control_id for one in got] == [f"ID-{n}" for n in range(1, 6)]
    assert most == 1


async def test_late_acknowledgement_never_counts_for_the_next_message():
    released = asyncio.Event()

    async def answer(peer, writer):
        if len(peer.bodies) == 1:
            await released.wait()  # the acknowledgement comes after the client gave up
            with contextlib.suppress(OSError):
                writer.write(ack(control_id="ID-1"))
                await writer.drain()
        else:
            writer.write(ack(control_id="ID-2"))

    peer = Peer(answer)
    async with peer.running() as port, client_of(port, timeout=0.1) as client:
        with pytest.raises(MllpTimeout, match=r"within 0\.1 s"):
            await client.send(BODY, "ID-1")
        assert not client.connected
        released.set()
        client._timeout = 5.0
        assert (await client.send(BODY, "ID-2")).control_id == "ID-2"
        assert client.connects == 2


async def test_acknowledgement_of_another_message_closes_the_connection():
    peer = answering(ack(control_id="ID-0"))
    async with peer.running() as port, client_of(port) as client:
        with pytest.raises(MllpProtocolError, match="another message"):
            await client.send(BODY, "ID-1")
        assert not client.connected


@pytest.mark.parametrize(
    ("pieces", "why"),
    [
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100], "not MLLP"),
        ([frame(b"garbage")], "MSH"),
        ([frame(b"MSH|^~\\&|r\rPID|1\r")], "no MSA"),
        ([frame(b"MSH|^~\\&|r\rMSA|OK|ID-1\r")], "MSA-1"),
        ([b"\x0b" + b"x" * 2000], "more than 1000 bytes"),
        ([ack() + ack()], "2 answers"),
    ],
)
async def test_garbage_is_a_protocol_error(pieces, why):
    peer = answering(*pieces)
    async with peer.running() as port, client_of(port, max_ack=1000) as client:
        with pytest.raises(MllpProtocolError, match=why):
            await client.send(BODY, "ID-1")
        assert not client.connected
        await asyncio.wait_for(peer.ended.wait(), 5)


async def test_half_an_acknowledgement_times_out():
    peer = answering(ack()[:-2])
    async with peer.running() as port, client_of(port, timeout=0.1) as client:
        with pytest.raises(MllpTimeout):
            await client.send(BODY, "ID-1")


async def test_receiver_that_does_not_read_times_out():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with client_of(listener.getsockname()[1], timeout=0.2) as client:
            with pytest.raises(MllpTimeout):
                await client.send(b"MSH" + b"x" * 20_000_000, "ID-1")


@pytest.mark.parametrize("pieces", [[], [ack()[:5]]])
async def test_closed_before_the_acknowledgement(pieces):
    async def answer(_, writer):
        for piece in pieces:
            writer.write(piece)
        writer.close()

    async with Peer(answer).running() as port, client_of(port) as client:
        with pytest.raises(MllpUnreachable, match="before it acknowledged"):
            await client.send(BODY, "ID-1")
        assert not client.connected


async def test_reset_before_the_acknowledgement():
    async def answer(_, writer):
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async with Peer(answer).running() as port, client_of(port) as client:
        with pytest.raises(MllpUnreachable):
            await client.send(BODY, "ID-1")


async def test_connection_that_ended_while_idle_is_opened_anew():
    async def answer(_, writer):
        writer.write(ack())
        await writer.drain()
        writer.close()

    peer = Peer(answer)
    async with peer.running() as port, client_of(port) as client:
        await client.send(BODY, "ID-1")
        await asyncio.wait_for(peer.ended.wait(), 5)
        for _ in range(100):
            if not client.connected:
                break
            await asyncio.sleep(0.01)
        assert (await client.send(BODY, "ID-1")).accepted
        assert client.connects == 2


async def test_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    async with client_of(port) as client:
        with pytest.raises(MllpUnreachable, match="refused"):
            await client.send(BODY, "ID-1")


async def test_several_addresses_and_nobody_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = MllpClient("localhost", port)
    with pytest.raises(MllpUnreachable, match=r"refused|Connect call failed"):
        await client.send(BODY, "ID-1")


async def test_name_that_is_none():
    client = MllpClient("no such name", 2575)
    with pytest.raises(MllpUnreachable, match="cannot be resolved"):
        await client.send(BODY, "ID-1")


@pytest.mark.parametrize("host", ["ward..example", "x" * 64 + ".example", "\0"])
async def test_name_that_cannot_be_encoded_is_as_good_as_nobody_there(host):
    client = MllpClient(host, 2575)
    with pytest.raises(MllpUnreachable, match="no host name"):
        await client.send(BODY, "ID-1")
    assert not client.connected


async def test_connecting_is_bounded():
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = []
        for _ in range(4):  # more than the backlog takes: further ones hang in SYN
            filler = socket.socket()
            filler.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                filler.connect(("127.0.0.1", port))
            fillers.append(filler)
        try:
            async with client_of(port, connect_timeout=0.2) as client:
                with pytest.raises(MllpUnreachable, match=r"within 0\.2 s"):
                    await client.send(BODY, "ID-1")
        finally:
            for filler in fillers:
                filler.close()


async def test_cancelled_send_leaves_no_half_conversation():
    peer = answering()
    async with peer.running() as port, client_of(port) as client:
        task = asyncio.create_task(client.send(BODY, "ID-1"))
        await asyncio.wait_for(peer.taken.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.connected


async def test_message_that_would_break_the_frame_is_not_sent():
    async with client_of(1) as client:
        with pytest.raises(ValueError, match="0x0B"):
            await client.send(b"MSH\x0b", "ID-1")


async def test_keepalive_is_on():
    peer = answering(ack())
    async with peer.running() as port, client_of(port) as client:
        await client.send(BODY, "ID-1")
        sock = client._writer.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pki") / "certs"
    return {one.name: one.folder for one in pki.init(folder, {"receiver": "consumer"}, ["127.0.0.1", "localhost"])}


def server_context(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "usercert.pem", folder / "userkey.pem")
    return context


async def test_tls(certificates):
    context = ssl.create_default_context(cafile=certificates["receiver"] / "cacert.pem")
    peer = answering(ack())
    server = server_context(certificates["receiver"])
    async with peer.running(server) as port, client_of(port, ssl=context) as client:
        assert (await client.send(BODY, "ID-1")).accepted
        assert (await client.send(BODY, "ID-1")).accepted
        assert client._writer.get_extra_info("ssl_object").version() in {"TLSv1.2", "TLSv1.3"}
    assert peer.connections == 1


async def test_tls_receiver_of_another_authority_is_not_trusted(certificates):
    peer = answering(ack())
    server, doubting = server_context(certificates["receiver"]), ssl.create_default_context()
    async with peer.running(server) as port, client_of(port, ssl=doubting) as client:
        with pytest.raises(MllpUnreachable, match="certificate was not accepted"):
            await client.send(BODY, "ID-1")
    assert peer.bodies == []


async def test_tls_with_a_receiver_that_speaks_plainly(certificates):
    peer = answering(ack())
    context = ssl.create_default_context(cafile=certificates["receiver"] / "cacert.pem")
    async with peer.running() as port, client_of(port, ssl=context, connect_timeout=0.3) as client:
        with pytest.raises(MllpUnreachable):
            await client.send(BODY, "ID-1")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_tls_below_1_2_is_refused():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ValueError, match=r"TLS 1\.2"):
        MllpClient("127.0.0.1", 1, ssl=context)
