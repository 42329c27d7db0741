"""MLLP: ``0x0B`` + message + ``0x1C 0x0D`` (HL7 minimal lower layer protocol, release 1), pure framing."""

from typing import Final

START: Final = b"\x0b"
END: Final = b"\x1c\r"


class FrameTooLongError(ValueError):
    """The peer sent more than the limit without ending its frame."""


def frame(body: bytes) -> bytes:
    """Wrap a message; ValueError when it holds a byte that would break the frame."""
    if START in body or b"\x1c" in body:
        raise ValueError("a message must hold neither 0x0B nor 0x1C")
    return START + body + END


class Frames:
    """Cut a stream of bytes, in whatever pieces it comes, into the bodies of its frames.

    Bytes outside of frames are passed over and counted in ``junk``; a frame that starts anew before its
    end was cut off by its sender: its first part is dropped and counted in ``broken``. A lone 0x1C belongs to
    the body. After FrameTooLongError the stream cannot be used further.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.junk = 0
        self.broken = 0
        self._buffer = bytearray()
        self._inside = False
        self._searched = 0

    @property
    def inside(self) -> bool:
        """True while a frame has started and not ended."""
        return self._inside

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next piece of the stream and give the bodies that it completed, in their order."""
        self._buffer += data
        bodies: list[bytes] = []
        while True:
            if not self._inside and not self._open():
                return bodies
            body = self._close()
            if body is None:
                return bodies
            bodies.append(body)

    def _open(self) -> bool:
        start = self._buffer.find(START)
        if start < 0:
            self.junk += len(self._buffer)
            self._buffer.clear()
            return False
        self.junk += start
        del self._buffer[: start + 1]
        self._inside = True
        self._searched = 0
        return True

    def _close(self) -> bytes | None:
        end = self._buffer.find(END, self._searched)
        anew = self._buffer.rfind(START, self._searched, end if end >= 0 else len(self._buffer))
        if anew >= 0:
            self.broken += 1
            del self._buffer[: anew + 1]
            end = end - anew - 1 if end >= 0 else end
        if end > self.limit or (end < 0 and len(self._buffer) > self.limit + 1):
            raise FrameTooLongError(f"a frame exceeds {self.limit} bytes")
        if end < 0:
            self._searched = max(0, len(self._buffer) - 1)
            return None
        body = bytes(self._buffer[:end])
        del self._buffer[: end + len(END)]
        self._inside = False
        return body
