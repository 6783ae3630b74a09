from collections.abc import Iterator

from fustor_agent.scans import Scans
from fustor_core.drivers import Item
from fustor_event_model import DeleteEvent, FsPath, JobDone, Listed, MessageSource

LANE = MessageSource.ON_DEMAND


def look(path: bytes, *, recursive: bool, job_id: str) -> Iterator[Item | None]:
    """Find two names, gone, below each path, of which one has never been listed."""
    yield DeleteEvent(index=1, message_source=LANE, event_schema="fs", table="files",
                      rows=[FsPath(b"a"), FsPath(b"b")], prefix=path)
    yield None
    yield Listed(index=2, message_source=LANE, path=path)
    yield JobDone(index=3, message_source=LANE, job_id=job_id, path=path, complete=path != b"/unreadable")


def tell(scans: Scans) -> list[tuple[str, str, int, int]]:
    return [(each.job_id, each.state, each.directories, each.rows) for each in scans.describe()]


def play(scans: Scans, walk: Iterator[Item | None], *, seq: int) -> None:
    """Send all of a scan as one batch."""
    for item in walk:
        if isinstance(item, JobDone):
            scans.end(item, seq)


def test_a_scan_waits_runs_and_is_done_when_its_last_word_is_acknowledged() -> None:
    scans = Scans(look)
    walk = scans.ask(b"/x", recursive=True, job_id="j")
    assert tell(scans) == [("j", "waiting", 0, 0)]
    next(walk)
    assert tell(scans) == [("j", "running", 0, 2)]
    play(scans, walk, seq=7)
    assert scans.acknowledge(6) == []
    assert tell(scans) == [("j", "running", 1, 2)]
    assert scans.acknowledge(7) == ["j"]
    assert tell(scans) == [("j", "done", 1, 2)]
    assert scans.describe()[0].finished_at is not None


def test_a_scan_that_could_not_look_at_all_is_incomplete() -> None:
    scans = Scans(look)
    play(scans, scans.ask(b"/unreadable", recursive=True, job_id="j"), seq=1)
    scans.acknowledge(1)
    assert tell(scans) == [("j", "incomplete", 1, 2)]


def test_what_was_not_acknowledged_is_made_again_in_order_and_what_was_is_not() -> None:
    scans = Scans(look)
    for number, job_id in enumerate(("done", "sent", "begun", "waits"), 1):
        walk = scans.ask(b"/x", recursive=True, job_id=job_id)
        if number < 3:
            play(scans, walk, seq=number)
        elif job_id == "begun":
            next(walk)
    scans.acknowledge(1)
    again = scans.ask_again()
    assert tell(scans) == [("done", "done", 1, 2), *((each, "waiting", 0, 0) for each in ("sent", "begun", "waits"))]
    for seq, walk in enumerate(again, 1):
        play(scans, walk, seq=seq)
    scans.acknowledge(3)
    assert tell(scans) == [(each, "done", 1, 2) for each in ("done", "sent", "begun", "waits")]


def test_only_so_many_scans_that_are_over_are_remembered() -> None:
    scans = Scans(look)
    for seq in range(1, 31):
        play(scans, scans.ask(b"/x", recursive=True, job_id=str(seq)), seq=seq)
    scans.acknowledge(30)
    assert [each.job_id for each in scans.describe()] == [str(seq) for seq in range(11, 31)]
