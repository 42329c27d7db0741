"""The notification server bounds what the library's own does not."""

import gzip
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from consumers.notifications import Limits, NotificationServer

from .conftest import tls_from

SMALL = Limits(connections=2, body=1000, handshake=0.5, request=0.5, idle=5.0)


class Receiver:
    def __init__(self, status: int = 200) -> None:
        self.bodies: list[bytes] = []
        self.status = status

    def do_post(self, headers, path, peer, body):
        self.bodies.append(body)
        return self.status, "said so", b"<fault/>" if self.status >= 400 else b""


@pytest.fixture
def invalid() -> list[bool]:
    return []


@pytest.fixture
def server(invalid) -> Iterator[NotificationServer]:
    made = NotificationServer("127.0.0.1", None, on_invalid=lambda: invalid.append(True), limits=SMALL)
    yield made
    made.close()


def port_of(server: NotificationServer) -> int:
    return int(server.base_url.rstrip("/").rpartition(":")[2])


def connect(server: NotificationServer) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=5)


def post(server, path, body, **headers):
    connection = connect(server)
    try:
        connection.request("POST", path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def raw(server, text: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as connection:
        connection.sendall(text)
        received = b""
        while part := connection.recv(4096):
            received += part
        return received


def test_posts_reach_the_receiver_over_one_kept_connection(server):
    receiver = Receiver()
    server.register_instance("abc", receiver)
    connection = connect(server)
    for number in range(3):
        connection.request("POST", "/abc/subscr1", f"body {number}")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
    connection.close()
    assert receiver.bodies == [b"body 0", b"body 1", b"body 2"]


def test_body_that_the_library_refuses_is_answered_like_a_good_one_and_told(server, invalid):
    server.register_instance("abc", Receiver(400))
    assert post(server, "/abc/x", "nonsense") == (202, b"")
    assert (invalid, server.counts["invalid"]) == ([True], 1)


def test_unknown_path_is_refused(server, invalid):
    assert post(server, "/guess/subscr1", "x")[0] == 404
    assert not invalid


def test_body_above_the_limit_is_refused(server):
    server.register_instance("abc", Receiver())
    assert post(server, "/abc/x", "y" * 1001)[0] == 413
    assert server.counts["refused_413"] == 1


def test_gzip_is_read_and_a_bomb_is_refused(server):
    receiver = Receiver()
    server.register_instance("abc", receiver)
    assert post(server, "/abc/x", gzip.compress(b"fine"), Content_Encoding="gzip")[0] == 200
    assert receiver.bodies == [b"fine"]
    assert post(server, "/abc/x", gzip.compress(b"\0" * 100_000), Content_Encoding="gzip")[0] == 413
    assert post(server, "/abc/x", b"no gzip", Content_Encoding="gzip")[0] == 400
    assert post(server, "/abc/x", gzip.compress(b"cut off")[:-9], Content_Encoding="gzip")[0] == 400
    assert post(server, "/abc/x", b"x", Content_Encoding="br")[0] == 415


def test_chunked_bodies(server):
    receiver = Receiver()
    server.register_instance("abc", receiver)
    head = b"POST /abc/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert b" 200 " in raw(server, head + b"4\r\nabcd\r\n3;x=y\r\nefg\r\n0\r\n\r\n")
    assert receiver.bodies == [b"abcdefg"]
    assert b" 413 " in raw(server, head + b"fff\r\n")
    assert b" 400 " in raw(server, head + b"zz\r\n")
    assert b" 400 " in raw(server, head + b"2\r\nabcdef")
    assert b" 413 " in raw(server, head + b"-5\r\n")


def test_missing_length_is_refused_and_a_cut_off_body_does_not_hang(server):
    server.register_instance("abc", Receiver())
    assert b" 411 " in raw(server, b"POST /abc/x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert raw(server, b"POST /abc/x HTTP/1.1\r\nContent-Length: 5\r\n\r\nab") == b""


def test_connections_are_bounded_and_freed(server):
    server.register_instance("abc", Receiver())
    kept = [socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) for _ in range(SMALL.connections)]
    for connection in kept:
        connection.sendall(b"POST /abc/x HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
        assert connection.recv(100)
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as third:
        assert third.recv(10) == b""
    assert server.counts["refused_too_many_connections"] == 1
    for connection in kept:
        connection.close()


def _ask(connection: http.client.HTTPConnection) -> None:
    connection.request("POST", "/abc/x", "hello")
    connection.getresponse()


def test_silent_tcp_client_does_not_block_the_others(ca):
    client, context = tls_from(ca.issue("notified"))()
    server = NotificationServer("127.0.0.1", context, on_invalid=lambda: None, limits=SMALL)
    try:
        server.register_instance("abc", Receiver())
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as silent:
            connection = http.client.HTTPSConnection("127.0.0.1", port_of(server), context=client, timeout=5)
            connection.request("POST", "/abc/x", "hello")
            assert connection.getresponse().status == 200
            connection.close()
            assert silent.recv(10) == b""
        stranger = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        stranger.check_hostname = False
        stranger.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port_of(server), context=stranger, timeout=5)
        with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
            _ask(connection)
        connection.close()
    finally:
        server.close()
    assert server.counts["refused_tls"] >= 1


def test_close_ends_open_connections_and_threads():
    before = threading.active_count()
    server = NotificationServer("127.0.0.1", None, on_invalid=lambda: None)
    with socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b" 501 " in connection.recv(100)
        server.close()
    assert threading.active_count() == before
