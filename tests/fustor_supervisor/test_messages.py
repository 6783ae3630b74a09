import msgspec
import pytest

from fustor_supervisor.messages import (
    Answer,
    Attach,
    Command,
    DumpStacks,
    Failed,
    FromWorkerMessage,
    Ping,
    Pong,
    Progress,
    Ready,
    Reply,
    Request,
    Status,
    Stop,
    ToWorkerMessage,
    decode_from_worker,
    decode_to_worker,
    encode,
    encode_framed,
)

# Bytes that an older worker or supervisor has sent: fields may be added at the end, nothing else may change.
TO_WORKER: dict[str, ToWorkerMessage] = {
    "93a6617474616368a16c07": Attach(link="l", epoch=7),
    "92a470696e6703": Ping(n=3),
    "94a7636f6d6d616e6401a47363616ea22f78": Command(id=1, action="scan", target="/x"),
    "92a6737461747573c4027b7d": Status(snapshot=b"{}"),
    "91ab64756d705f737461636b73": DumpStacks(),
    "92a473746f70cb4004000000000000": Stop(grace_s=2.5),
    "94a6616e7377657201a26f6bc3": Answer(id=1, result="ok"),
}
FROM_WORKER: dict[str, FromWorkerMessage] = {
    "92a5726561647902": Ready(generation=2),
    "97a870726f67726573730281a4726f777305a462757379c40164c3cb4000000000000000": Progress(
        generation=2, counters={"rows": 5}, phase="busy", detail=b"d", owed=True, patience_s=2.0
    ),
    "94a4706f6e67020397a870726f67726573730280a0c400c2cb0000000000000000": Pong(
        generation=2, n=3, progress=Progress(generation=2, counters={})
    ),
    "95a57265706c790201a4646f6e65c2": Reply(generation=2, id=1, result="done", ok=False),
    "96a7726571756573740201a472756e73a170a0": Request(generation=2, id=1, action="runs", target="p"),
    "94a66661696c656402a3626164c3": Failed(generation=2, error="bad", permanent=True),
}


@pytest.mark.parametrize("golden", list(TO_WORKER))
def test_what_the_supervisor_sends_keeps_its_bytes(golden: str) -> None:
    assert encode(TO_WORKER[golden]).hex() == golden
    assert decode_to_worker(bytes.fromhex(golden)) == TO_WORKER[golden]


@pytest.mark.parametrize("golden", list(FROM_WORKER))
def test_what_a_worker_sends_keeps_its_bytes(golden: str) -> None:
    assert encode(FROM_WORKER[golden]).hex() == golden
    assert decode_from_worker(bytes.fromhex(golden)) == FROM_WORKER[golden]


def test_a_field_that_a_newer_version_added_is_ignored() -> None:
    longer = msgspec.msgpack.encode(["ping", 3, "new"])
    assert decode_to_worker(longer) == Ping(n=3)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91\xa4ping", b"\x92\xa7unknown\x01", encode(Ping(n=1))])
def test_what_is_no_message_of_a_worker_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_from_worker(payload)


def test_text_that_quotes_bytes_which_are_no_text_is_sent_with_them_escaped() -> None:
    reply = Reply(generation=1, id=2, result="recorded into /\udcff", ok=True)
    assert decode_from_worker(encode(reply)) == Reply(generation=1, id=2, result="recorded into /\\udcff")
    pong = Pong(generation=1, n=2, progress=Progress(generation=1, counters={"a": 1}, phase="\udcff", detail=b"\xff"))
    heard = decode_from_worker(encode_framed(pong)[4:])
    assert heard == Pong(
        generation=1, n=2, progress=Progress(generation=1, counters={"a": 1}, phase="\\udcff", detail=b"\xff")
    )


def test_a_framed_message_has_its_length_in_front() -> None:
    assert encode_framed(Ping(n=3)) == len(encode(Ping(n=3))).to_bytes(4, "big") + encode(Ping(n=3))
