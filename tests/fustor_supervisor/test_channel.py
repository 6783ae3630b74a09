import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_supervisor.channel import MAX_FRAME_BYTES, Channel, FrameDecoder, encode_frame, make_link
from fustor_supervisor.errors import FrameTooLong, LinkClosed

DEADLINE_S = 20.0


@pytest.fixture
def ends() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = make_link()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def test_a_decoder_finds_the_payloads_at_every_split() -> None:
    payloads = [b"", b"one", b"\0\0\0\1", b"x" * 300]
    stream = b"".join(map(encode_frame, payloads))
    for first in range(len(stream) + 1):
        for second in range(first, min(first + 12, len(stream)) + 1):
            decoder = FrameDecoder()
            pieces = (stream[:first], stream[first:second], stream[second:])
            assert [payload for piece in pieces for payload in decoder.feed(piece)] == payloads


@given(payloads=st.lists(st.binary(max_size=50)), data=st.data())
def test_a_decoder_gives_back_what_was_encoded(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(encode_frame, payloads))
    decoder, found = FrameDecoder(), []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        found += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert found == payloads


def test_a_decoder_refuses_a_frame_that_is_too_long_at_its_prefix() -> None:
    decoder = FrameDecoder(max_frame_bytes=10)
    assert decoder.feed(encode_frame(b"x" * 10)) == [b"x" * 10]
    with pytest.raises(FrameTooLong, match="11"):
        decoder.feed((11).to_bytes(4, "big"))


def test_a_channel_sends_all_parts_as_one_frame(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    channel.send(memoryview(b"ab"), b"", b"cd")
    assert theirs.recv(100) == b"\0\0\0\4abcd"


def test_a_channel_sends_many_parts_and_large_ones_whole(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    parts = [bytes([number % 256]) * 1000 for number in range(3000)]
    sender = threading.Thread(target=channel.send, args=parts)
    sender.start()
    other = Channel(theirs)
    assert other.recv() == b"".join(parts)
    sender.join(DEADLINE_S)


def test_a_channel_refuses_to_send_what_nobody_would_accept(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    part = bytes(MAX_FRAME_BYTES // 2 + 1)
    with pytest.raises(FrameTooLong):
        channel.send(part, part)
    channel.send(b"still usable")
    assert Channel(theirs).recv() == b"still usable"


@pytest.mark.parametrize("kept", range(4 + 6))
def test_a_partial_frame_at_end_of_file_is_dropped(kept: int, ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.sendall(encode_frame(b"whole") + encode_frame(b"partly")[:kept])
    theirs.close()
    assert channel.recv() == b"whole"
    assert channel.recv() is None


def test_frames_sent_before_the_other_end_closed_with_unread_data_arrive(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    channel.send(b"never read")  # makes the close a reset
    theirs.sendall(encode_frame(b"last words"))
    theirs.close()
    assert channel.recv() == b"last words"
    assert channel.recv() is None


def test_nothing_is_received_after_a_shutdown_even_if_it_had_arrived(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.sendall(encode_frame(b"old epoch"))
    channel.shutdown()
    assert channel.recv() is None


def test_sending_to_a_closed_end_says_that_the_link_is_closed(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.close()
    with pytest.raises(LinkClosed):
        channel.send(b"x")


def test_a_frame_with_a_bad_prefix_is_refused(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    theirs.sendall(b"\xff\xff\xff\xff")
    with pytest.raises(FrameTooLong):
        channel.recv()


def test_a_shutdown_wakes_a_blocked_receive(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    results: list[bytes | None] = []
    reader = threading.Thread(target=lambda: results.append(channel.recv()))
    reader.start()
    channel.shutdown()
    reader.join(DEADLINE_S)
    assert results == [None]


def test_a_shutdown_wakes_a_blocked_send(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    errors: list[Exception] = []

    def send_for_ever() -> None:
        try:
            while True:
                channel.send(bytes(1_000_000))
        except LinkClosed as err:
            errors.append(err)

    sender = threading.Thread(target=send_for_ever)
    sender.start()
    theirs.recv(1, socket.MSG_PEEK)  # it has begun
    channel.shutdown()
    sender.join(DEADLINE_S)
    assert len(errors) == 1


def test_a_close_waits_for_nobody_that_a_shutdown_cannot_wake(ends: tuple[Channel, socket.socket]) -> None:
    channel, _ = ends
    reader = threading.Thread(target=channel.recv)
    reader.start()
    channel.close()
    reader.join(DEADLINE_S)
    assert channel.fileno() == -1
    assert channel.recv() is None
    with pytest.raises(LinkClosed):
        channel.send(b"x")


def test_frames_of_several_threads_do_not_mix(ends: tuple[Channel, socket.socket]) -> None:
    channel, theirs = ends
    letters = [b"a", b"b", b"c"]

    def send_many(letter: bytes) -> None:
        for size in range(200):
            channel.send(letter * size * 50, letter)

    senders = [threading.Thread(target=send_many, args=(letter,)) for letter in letters]
    for sender in senders:
        sender.start()
    other = Channel(theirs)
    frames = [other.recv() for _ in range(600)]
    for sender in senders:
        sender.join(DEADLINE_S)
    assert all(frame is not None and len(set(frame)) == 1 for frame in frames)


def test_link_ends_are_close_on_exec() -> None:
    for end in make_link():
        assert not end.get_inheritable()
        end.close()
