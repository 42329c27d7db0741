import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdc_node.hl7.mllp import Frames, FrameTooLongError, frame

BODY = st.binary(min_size=1).map(lambda b: b.replace(b"\x0b", b"").replace(b"\x1c", b""))
JUNK = st.sampled_from([b"", b"\r\n", b"junk", b"\x1c\r"])


@given(st.lists(st.tuples(JUNK, BODY)), st.integers(1, 50))
def test_frames_come_out_whatever_the_pieces(parts, size):
    stream = b"".join(junk + frame(body) for junk, body in parts)
    frames = Frames(10_000)
    found = []
    for start in range(0, len(stream), size):
        found += frames.feed(stream[start : start + size])
    assert found == [body for _, body in parts]
    assert frames.junk == sum(len(junk) for junk, _ in parts)
    assert not frames.inside
    assert frames.broken == 0


def test_many_frames_in_one_read():
    assert Frames(100).feed(frame(b"a") + frame(b"b") + b"\x0bc") == [b"a", b"b"]


def test_end_byte_alone_belongs_to_the_body():
    frames = Frames(100)
    assert frames.feed(b"\x0ba\x1cb\x1c") == []
    assert frames.feed(b"\r") == [b"a\x1cb"]


@pytest.mark.parametrize("pieces", [[b"\x0bhalf\x0bwhole\x1c\r"], [b"\x0bha", b"lf", b"\x0bwho", b"le\x1c", b"\r"]])
def test_half_frame_is_dropped_and_counted(pieces):
    frames = Frames(100)
    assert [body for piece in pieces for body in frames.feed(piece)] == [b"whole"]
    assert frames.broken == 1


@pytest.mark.parametrize("ended", [b"", b"\x1c\r"])
def test_too_long_a_frame_is_an_error(ended):
    with pytest.raises(FrameTooLongError, match="10 bytes"):
        Frames(10).feed(b"\x0b" + b"x" * 12 + ended)
    assert Frames(10).feed(frame(b"x" * 10)) == [b"x" * 10]


def test_too_long_a_frame_in_small_pieces():
    frames = Frames(10)
    frames.feed(b"\x0b")
    for _ in range(11):
        frames.feed(b"x")
    with pytest.raises(FrameTooLongError):
        frames.feed(b"x")


@pytest.mark.parametrize("body", [b"a\x0bb", b"a\x1cb"])
def test_a_body_that_would_break_the_frame_is_not_wrapped(body):
    with pytest.raises(ValueError, match="0x0B"):
        frame(body)
