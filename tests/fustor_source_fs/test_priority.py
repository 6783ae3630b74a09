"""What has time reads with another priority than what is waited for."""

import threading

import psutil
import pytest

from fustor_source_fs.priority import IoPriority

NONE, BEST, IDLE = psutil.IOPRIO_CLASS_NONE, psutil.IOPRIO_CLASS_BE, psutil.IOPRIO_CLASS_IDLE


def get_own():
    return tuple(psutil.Process(threading.get_native_id()).ionice())


@pytest.fixture(autouse=True)
def as_it_was():
    """Each test begins without a priority of its own, and leaves none."""
    thread = psutil.Process(threading.get_native_id())
    thread.ionice(NONE)
    yield
    thread.ionice(NONE)


@pytest.mark.parametrize(("level", "lowered"), [("normal", (NONE, 0)), ("low", (BEST, 7)), ("idle", (IDLE, 0))])
def test_it_is_lowered_and_restored(level, lowered):
    priority = IoPriority(level)
    for _ in range(2):
        priority.lower()
        priority.lower()
        assert get_own() == lowered
        priority.restore()
        priority.restore()
        assert get_own() == (NONE, 0)


@pytest.mark.parametrize(("usual", "lowered"), [((BEST, 3), (BEST, 7)), ((IDLE, None), (IDLE, 0))])
def test_what_the_agent_was_started_with_is_kept_and_never_raised(usual, lowered):
    psutil.Process(threading.get_native_id()).ionice(*usual)
    before = get_own()
    priority = IoPriority("low")
    priority.lower()
    assert get_own() == lowered
    priority.restore()
    assert get_own() == before


def test_where_it_cannot_be_set_it_stays_and_is_said_once(monkeypatch, caplog):
    priority = IoPriority("low")

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(psutil.Process, "ionice", refuse)
    priority.lower()
    priority.lower()
    priority.restore()
    assert [record.getMessage() for record in caplog.records] == [
        "the I/O priority cannot be set; it stays as it is level=low error=[Errno 1] Operation not permitted"]


def test_walks_have_time_and_changes_have_not(inside, start_still):
    (inside / "d").mkdir()
    still = start_still()
    snapshot = still.source.get_snapshot_iterator()
    next(snapshot)
    assert get_own() == (BEST, 7)
    for item in snapshot:
        still.take(item)
    (inside / "d" / "file").write_text("")
    still.sync()
    assert get_own() == (NONE, 0)
    list(still.source.get_audit_iterator("full"))
    assert get_own() == (BEST, 7)
    list(still.source.scan_path(b"/d", recursive=True, job_id="j"))
    assert get_own() == (NONE, 0)
