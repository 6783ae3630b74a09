"""
Frames, and the blocking end of a link that a worker holds.

A frame is a 4-byte big-endian length and that many bytes of payload. We do not use
`Connection.send` and `recv` of multiprocess: half a frame makes `poll()` true and
`recv_bytes()` wait for ever, and neither can be woken from another thread.
"""

import contextlib
import io
import os
import socket
import threading
from collections.abc import Sequence
from typing import Final

from multiprocess import Pipe

from fustor_supervisor.errors import FrameTooLong, LinkClosed

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
PREFIX_BYTES: Final = 4
_READ_BUFFER_BYTES: Final = 256 * 1024
_MAX_PARTS: Final = 512  # the kernel takes at most 1,024 parts per sendmsg (IOV_MAX)


def encode_frame(payload: bytes) -> bytes:
    """
    Put the length in front of a payload.

    Raises:
        FrameTooLong: The payload is longer than MAX_FRAME_BYTES.
    """
    return _encode_prefix(len(payload)) + payload


class FrameDecoder:
    """
    Cuts received bytes into payloads.

    Args:
        max_frame_bytes: The longest payload that is accepted.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """
        Add received bytes and take every complete payload.

        Args:
            data: Bytes as read, any length; may end mid-frame.

        Returns:
            Payloads in arrival order; empty while incomplete.

        Raises:
            FrameTooLong: The prefix exceeds max_frame_bytes. The buffer is kept, the stream is unusable.
        """
        self._buffer += data
        payloads: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= PREFIX_BYTES:
            length = int.from_bytes(self._buffer[start : start + PREFIX_BYTES], "big")
            _check_length(length, self._max_frame_bytes)
            end = start + PREFIX_BYTES + length
            if len(self._buffer) < end:
                break
            payloads.append(bytes(memoryview(self._buffer)[start + PREFIX_BYTES : end]))
            start = end
        del self._buffer[:start]
        return payloads


class Channel:
    """
    A blocking link end: whole payloads in, whole payloads out.

    One thread may send while another receives, and any thread may shut it down. Owns
    the socket.

    Args:
        sock: A connected stream socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._reader = io.BufferedReader(_SocketReader(sock), _READ_BUFFER_BYTES)
        self._send_lock = threading.Lock()
        self._recv_lock = threading.Lock()
        self._is_shut = False

    def fileno(self) -> int:
        """Return the descriptor, -1 once closed."""
        return self._sock.fileno()

    def send(self, payload: bytes | memoryview, *more: bytes | memoryview) -> None:
        """
        Send one frame made of all parts, without joining them.

        Raises:
            LinkClosed: The other end is gone, or `shutdown` was called; part of the frame may have left.
            FrameTooLong: Nothing was sent.
        """
        parts = [memoryview(part).cast("B") for part in (payload, *more)]
        prefix = _encode_prefix(sum(map(len, parts)))
        with self._send_lock:
            if self._is_shut:
                raise LinkClosed("the link was shut down")
            try:
                _send_all(self._sock, [memoryview(prefix), *parts])
            except OSError as err:
                raise LinkClosed(f"the link is closed: {err}") from err

    def recv(self) -> bytes | None:
        """
        Wait for one payload.

        Returns:
            The payload; None at end of file and after `shutdown`. A partial frame is dropped.

        Raises:
            FrameTooLong: The stream is unusable.
        """
        with self._recv_lock:
            if self._is_shut:
                return None
            try:
                prefix = self._reader.read(PREFIX_BYTES)
                if len(prefix) < PREFIX_BYTES:
                    return None
                length = int.from_bytes(prefix, "big")
                _check_length(length, MAX_FRAME_BYTES)
                payload = self._reader.read(length)
            except OSError:  # reset by the peer's death: nothing more can come
                return None
            return None if len(payload) < length or self._is_shut else payload

    def shutdown(self) -> None:
        """End both directions; wakes a blocked `send` and a blocked `recv`. Any thread may call it."""
        self._is_shut = True
        with contextlib.suppress(OSError):  # the peer was first, or it is closed already
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Shut down and release the descriptor, once no thread uses it any more."""
        self.shutdown()
        # Closing under a blocked call would let its descriptor be given to another file.
        with self._send_lock, self._recv_lock:
            self._sock.close()


class _SocketReader(io.RawIOBase):
    """Reads a socket as a raw file, without owning it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # narrower than Buffer
        return self._sock.recv_into(buffer)


def make_link() -> tuple[socket.socket, socket.socket]:
    """
    Make the two ends of a link: close-on-exec stream sockets.

    Raises:
        OSError: No descriptors are left; none is kept.
    """
    first, second = Pipe(duplex=True)
    with first, second:
        sock = socket.socket(fileno=os.dup(first.fileno()))
        try:
            return sock, socket.socket(fileno=os.dup(second.fileno()))
        except OSError:
            sock.close()
            raise


def _encode_prefix(length: int) -> bytes:
    _check_length(length, MAX_FRAME_BYTES)
    return length.to_bytes(PREFIX_BYTES, "big")


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise FrameTooLong(f"a frame of {length} bytes is longer than {limit}; send less at once")


def _send_all(sock: socket.socket, parts: Sequence[memoryview]) -> None:
    """Send every byte; sendmsg may take fewer than it was given."""
    left = [part for part in parts if part.nbytes]
    while left:
        sent = sock.sendmsg(left[:_MAX_PARTS])
        done = 0
        while done < len(left) and sent >= left[done].nbytes:
            sent -= left[done].nbytes
            done += 1
        left = left[done:]
        if sent:
            left[0] = left[0][sent:]
