"""The HL7 receiver over real sockets: what it takes, what it refuses, what it keeps."""

import asyncio
import contextlib
import socket
import sqlite3
import ssl
from pathlib import Path

import pytest

from sdc_node import pki
from sdc_node.database import DatabaseError
from sdc_node.hl7.ack import parse_ack
from sdc_node.hl7.message import parse
from sdc_node.hl7.mllp import Frames, frame
from sdc_node.receivers import hl7_store
from sdc_node.receivers.hl7 import Hl7Receiver, Limits, list_messages, message_body, show_message
from sdc_node.sinks.hl7v2.client import MllpClient, MllpProtocolError

DATA = Path(__file__).parents[1] / "hl7/data"
PCD01 = (DATA / "pcd01.hl7").read_bytes().replace(b"\n", b"\r")
PCD04 = (DATA / "pcd04_start.hl7").read_bytes().replace(b"\n", b"\r")
ID01, ID04 = "SDCGW-20260302-000117", "SDCGW-20260302-000121"


@contextlib.asynccontextmanager
async def running(directory, **options):
    receiver = Hl7Receiver(directory, **options)
    await receiver.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


@contextlib.asynccontextmanager
async def client_of(receiver, **options):
    client = MllpClient("127.0.0.1", receiver.port, timeout=10.0, **options)
    try:
        yield client
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def raw(receiver):
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def until(condition):
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a counter, which nothing announces
            await asyncio.sleep(0.005)


def listed(directory):
    return asyncio.to_thread(list_messages, directory)


async def test_both_transactions_are_accepted_stored_and_shown(tmp_path):
    async with running(tmp_path / "in") as receiver, client_of(receiver) as client:
        assert (await client.send(PCD01, ID01)).code == "CA"
        assert (await client.send(PCD04, ID04)).code == "CA"
        assert dict(receiver.counters.accepted) == {"pcd01": 1, "pcd04": 1}
        messages = await listed(tmp_path / "in")  # while it runs
        assert [(m.kind, m.control_id, m.verdict, m.repeats) for m in messages] == [
            ("pcd01", ID01, "CA", 0),
            ("pcd04", ID04, "CA", 0),
        ]
        assert messages[0].size == len(PCD01)
    text = await asyncio.to_thread(show_message, tmp_path / "in", 1)
    assert "150456 ^ MDC_PULS_OXIM_SAT_O2 ^ MDC" in text
    assert await asyncio.to_thread(show_message, tmp_path / "in", ID01) == text
    assert await asyncio.to_thread(message_body, tmp_path / "in", ID04) == PCD04


async def test_files_are_private(tmp_path):
    async with running(tmp_path / "in"):
        folder = tmp_path / "in"
        modes = await asyncio.to_thread(lambda: {oct(path.stat().st_mode) for path in folder.iterdir()})
        assert modes == {"0o100600"}
        assert oct((await asyncio.to_thread(folder.stat)).st_mode) == "0o40700"


async def test_repeats_are_acknowledged_counted_and_stored_once(tmp_path):
    async with running(tmp_path) as receiver, client_of(receiver) as client:
        for _ in range(3):
            assert (await client.send(PCD01, ID01)).code == "CA"
        assert (receiver.counters.accepted["pcd01"], receiver.counters.repeated["pcd01"]) == (1, 2)
        assert [m.repeats for m in await listed(tmp_path)] == [2]
    async with running(tmp_path) as receiver, client_of(receiver) as client:  # and after a restart
        assert (await client.send(PCD01, ID01)).code == "CA"
        assert (receiver.counters.accepted["pcd01"], receiver.counters.repeated["pcd01"]) == (0, 1)


async def test_other_bytes_under_a_used_control_id_are_refused(tmp_path):
    async with running(tmp_path) as receiver, client_of(receiver) as client:
        await client.send(PCD01, ID01)
        answer = await client.send(PCD01.replace(b"|97|", b"|96|"), ID01)
        assert (answer.code, answer.text) == ("CE", "MSH[1]-10: 205 Duplicate key identifier")
        assert receiver.counters.refused["pcd01"] == 1
        assert [m.verdict for m in await listed(tmp_path)] == ["CA", "CE"]


def changed(old, new, body=PCD01):
    assert body.count(old) >= 1
    return body.replace(old, new, 1)


TEN_BAD_MESSAGES = {
    "version": (changed(b"|P|2.6|", b"|P|2.3|"), "CR", "MSH[1]-12"),
    "type": (changed(b"ORU^R01^ORU_R01", b"ADT^A01^ADT_A01"), "CR", "MSH[1]-9"),
    "profile": (changed(b".1.6.1.1.1^ISO", b".1.6.9.9.9^ISO"), "CE", "MSH[1]-21"),
    "no OBR": (b"\r".join(s for s in PCD01.split(b"\r") if not s.startswith(b"OBR")), "CE", "OBR[1]"),
    "no PV1": (b"\r".join(s for s in PCD01.split(b"\r") if not s.startswith(b"PV1")), "CE", "PV1[1]"),
    "letters for a number": (changed(b"|97|", b"|abc|"), "CE", "OBX[8]-5"),
    "unknown value type": (changed(b"OBX|8|NM", b"OBX|8|XX"), "CE", "OBX[8]-2"),
    "no offset": (changed(b"20260302101541.250+0000", b"20260302101541.250"), "CE", "OBX[12]-14"),
    "containment twice": (changed(b"|1.1.1.2|", b"|1.1.1.1|"), "CE", "OBX[9]-4"),
    "uncoded observation": (changed(b"|150456^MDC_PULS_OXIM_SAT_O2^MDC|", b"|SpO2|"), "CE", "OBX[8]-3"),
    "facets out of order": (changed(b"|1.1.1.1.3|", b"|1.1.1.1.9|", PCD04), "CE", "OBX[5]-4"),
    "unknown phase": (changed(b"|start|", b"|begin|", PCD04), "CE", "OBX[7]-5"),
}


@pytest.mark.parametrize("name", TEN_BAD_MESSAGES)
async def test_planted_bad_messages_are_refused(tmp_path, name):
    body, code, place = TEN_BAD_MESSAGES[name]
    async with running(tmp_path) as receiver, client_of(receiver) as client:
        answer = await client.send(body, parse(body).control_id)
        assert answer.code == code
        assert answer.text.startswith(f"{place}: ")
        assert not {"Doe", "Jane", "0815", "19700131"} & set(answer.text.replace("^", " ").split())
        assert receiver.counters.accepted.total() == 0
        stored = await listed(tmp_path)
        assert [(m.verdict, m.repeats) for m in stored] == [(code, 0)]
        assert place in stored[0].reason
        assert (await client.send(body, parse(body).control_id)).code == code
        assert [m.repeats for m in await listed(tmp_path)] == [1]


async def test_bytes_that_are_no_message_are_refused_and_kept(tmp_path):
    async with running(tmp_path) as receiver:
        async with client_of(receiver) as client:
            with pytest.raises(MllpProtocolError):  # nobody can name the id of such a message
                await client.send(b"hello \xff", "x")
        assert receiver.counters.refused["other"] == 1
    assert await asyncio.to_thread(show_message, tmp_path, 1) == (
        "not readable as HL7 v2: the message does not start with an MSH segment\nb'hello \\xff'\n"
    )


async def test_split_frames_and_many_in_one_read(tmp_path):
    second = PCD01.replace(ID01.encode(), b"SECOND")
    stream = b"\r\n" + frame(PCD01) + frame(second) + frame(PCD04)
    async with running(tmp_path) as receiver, raw(receiver) as (reader, writer):
        writer.write(stream[:100])
        await writer.drain()
        writer.write(stream[100:])
        frames, answers = Frames(10_000), []
        async with asyncio.timeout(10):
            while len(answers) < 3:
                answers += frames.feed(await reader.read(65536))
        assert [parse_ack(answer).control_id for answer in answers] == [ID01, "SECOND", ID04]
    assert receiver.counters.dropped["junk bytes"] == 2


async def test_large_messages_are_checked_too(tmp_path):
    rows = b"".join(
        b"OBX|%d|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC|1.1.1.%d|97|262688^MDC_DIM_PERCENT^MDC|||||R\r" % (n + 15, n)
        for n in range(1, 1500)
    )
    body = PCD01.replace(b"|1.2.", b"|1.1.") + rows
    async with running(tmp_path) as receiver, client_of(receiver) as client:
        answer = await client.send(body, ID01)
        assert answer.code == "CE"
        assert len(answer.text) <= 500


async def test_message_beyond_the_limit_ends_the_connection(tmp_path):
    async with running(tmp_path, limits=Limits(message_bytes=1000)) as receiver:
        async with raw(receiver) as (reader, writer):
            writer.write(frame(PCD01))
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        await until(lambda: receiver.counters.dropped["message too long"] == 1)
        assert await listed(tmp_path) == []


async def test_connections_are_bounded(tmp_path):
    async with running(tmp_path, limits=Limits(connections=1)) as receiver, raw(receiver):
        await until(lambda: len(receiver._connections) == 1)
        async with raw(receiver) as (reader, _):
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        assert receiver.counters.dropped["too many connections"] == 1


@pytest.mark.parametrize("sent", [b"", b"\x0bMSH|"])
async def test_silence_is_bounded(tmp_path, sent):
    limits = Limits(idle_seconds=0.1, frame_seconds=0.05)
    async with running(tmp_path, limits=limits) as receiver, raw(receiver) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        await until(lambda: receiver.counters.dropped["silent connection"] == 1)
        assert receiver.counters.dropped["broken frame"] == bool(sent)


async def test_peer_that_takes_no_answers_is_dropped(tmp_path):
    limits = Limits(reply_seconds=0.1)
    bad = frame(PCD01.replace(b"^MDC|", b"|"))  # 20 ERR segments: a long answer
    with socket.socket() as small:
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        async with running(tmp_path, limits=limits) as receiver:
            loop = asyncio.get_running_loop()
            await loop.sock_connect(small, ("127.0.0.1", receiver.port))
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(20):
                    while not receiver.counters.dropped["silent connection"]:
                        await loop.sock_sendall(small, bad * 20)
            assert receiver.counters.dropped["silent connection"] == 1


async def test_stop_ends_open_connections_and_may_be_called_twice(tmp_path):
    receiver = Hl7Receiver(tmp_path)
    await receiver.start()
    async with raw(receiver) as (reader, _):
        await until(lambda: receiver._connections)
        await receiver.stop()
        assert await asyncio.wait_for(reader.read(), 5) == b""
    await receiver.stop()
    with pytest.raises(RuntimeError, match="not been started"):
        _ = receiver.port


async def test_port_in_use_is_told_and_leaves_nothing_open(tmp_path):
    async with running(tmp_path / "a") as receiver:
        other = Hl7Receiver(tmp_path / "b", port=receiver.port)
        with pytest.raises(OSError, match="in use"):
            await other.start()


def drop_table(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE hl7_message")


async def test_failing_store_is_not_acknowledged(tmp_path):
    async with running(tmp_path) as receiver, client_of(receiver) as client:
        await asyncio.to_thread(drop_table, tmp_path / hl7_store.FILE_NAME)
        answer = await client.send(PCD01, ID01)
        assert (answer.code, answer.text) == ("CE", "MSH[1]: 207 Application internal error")
        assert answer.receiver_failed
        assert receiver.counters.accepted.total() == 0


async def test_tls(tmp_path):
    made = await asyncio.to_thread(pki.init, tmp_path / "certs", {"receiver": "consumer"}, ["127.0.0.1"])
    folder = made[0].folder

    def contexts():
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(folder / "usercert.pem", folder / "userkey.pem")
        return server, ssl.create_default_context(cafile=folder / "cacert.pem")

    server, trusting = await asyncio.to_thread(contexts)
    async with running(tmp_path / "in", ssl=server) as receiver, client_of(receiver, ssl=trusting) as client:
        assert (await client.send(PCD01, ID01)).code == "CA"


def test_list_without_a_store(tmp_path):
    with pytest.raises(DatabaseError, match="no HL7 receiver"):
        list_messages(tmp_path)


async def test_show_what_is_not_there(tmp_path):
    async with running(tmp_path):
        pass
    for missing in (1, "abc", "99999999999999999999", "a\udcff"):
        with pytest.raises(LookupError, match="no message") as told:
            await asyncio.to_thread(show_message, tmp_path, missing)
        assert str(told.value).encode()


@pytest.mark.parametrize(("length", "code"), [(199, "CA"), (200, "CE"), (100_000, "CE")])
async def test_a_control_id_beyond_199_characters_is_refused_and_listed_cut_off(tmp_path, length, code):
    long = "I" * length
    body = PCD01.replace(ID01.encode(), long.encode())
    async with running(tmp_path) as receiver, client_of(receiver, max_ack=200_000) as client:
        assert (await client.send(body, long)).code == code
    assert [(m.verdict, m.control_id) for m in await listed(tmp_path)] == [(code, "I" * 199)]
    assert await asyncio.to_thread(message_body, tmp_path, long) == body


def test_damaged_store_is_one_line(tmp_path):
    (tmp_path / hl7_store.FILE_NAME).write_bytes(b"no database" * 1000)
    with pytest.raises(DatabaseError, match="cannot be read"):
        list_messages(tmp_path)


async def test_refusals_are_bounded_and_accepted_messages_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(hl7_store, "KEPT_REFUSALS", 3)
    async with running(tmp_path) as receiver, client_of(receiver) as client:
        await client.send(PCD01, ID01)
        for n in range(6):
            body = changed(b"|97|", b"|x%d|" % n).replace(ID01.encode(), b"BAD-%d" % n)
            await client.send(body, f"BAD-{n}")
        kept = await listed(tmp_path)
    assert [m.control_id for m in kept] == [ID01, "BAD-3", "BAD-4", "BAD-5"]
