import tempfile
import threading
from functools import partial
from pathlib import Path

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fustor_event_model import FsItem, FsRow, Listed, MessageSource, SnapshotEnd, UpdateEvent, encode_items
from fustor_fusion.errors import RequestRefused, StoreUnavailable
from fustor_fusion.ingest import apply_push
from fustor_fusion.queries import read_stats
from fustor_fusion.readers import Readers
from fustor_fusion.schema import mark_damaged
from fustor_fusion.store import Store
from fustor_fusion.totals import Sums
from recount import check_counts

LANE = MessageSource.REALTIME


def make_body(seq: int, *names: bytes, epoch: int = 1, lane: str = "realtime", index: int = 10,
              size: int = 5) -> bytes:
    rows = [FsRow(name, size, 1, 1, 0o100644, 0, 0, 1, 1, 1) for name in names]
    items: list[FsItem] = [UpdateEvent(index=index, message_source=LANE, event_schema="fs", table="files", rows=rows,
                                       prefix=b"/")]
    return b"\x94" + b"".join(map(msgspec.msgpack.encode, (epoch, lane, seq))) + encode_items(items)


def push(store: Store, body: bytes, *, pipe: str = "p"):
    return store.submit(partial(apply_push, body=body, agent="a", pipe=pipe, session_id="s", leads=True))


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "view.db")
    yield store
    store.close()


def list_names(store: Store) -> list[bytes]:
    with Readers(store.path).lease() as db:
        return [row[0] for row in db.execute("SELECT name FROM nodes WHERE parent=1 ORDER BY name")]


def test_a_finished_push_can_be_read_by_everyone(store):
    assert push(store, make_body(1, b"a", b"b")).result().rows == 2
    assert list_names(store) == [b"a", b"b"]
    assert store.get_totals() == {"files": 2, "directories": 0, "bytes": 10, "rows_applied": 2}


def test_a_batch_is_applied_once_by_its_epoch_lane_and_sequence(store):
    push(store, make_body(1, b"a")).result()
    assert push(store, make_body(1, b"again")).result().rows == 0
    assert push(store, make_body(1, b"other-lane", lane="audit")).result().rows == 1
    assert push(store, make_body(1, b"other-pipe"), pipe="q").result().rows == 1
    assert push(store, make_body(1, b"new-epoch", epoch=2)).result().rows == 1
    assert list_names(store) == [b"a", b"new-epoch", b"other-lane", b"other-pipe"]


def test_a_dead_predecessor_is_refused(store):
    push(store, make_body(1, b"a", epoch=5)).result()
    with pytest.raises(RequestRefused) as caught:
        push(store, make_body(9, b"b", epoch=4)).result()
    assert caught.value.status == 409
    assert list_names(store) == [b"a"]


def test_positions_live_on_over_a_restart(tmp_path):
    first = Store(tmp_path / "view.db")
    push(first, make_body(3, b"a", epoch=7)).result()
    first.close()
    second = Store(tmp_path / "view.db")
    assert second.generation == first.generation
    assert push(second, make_body(3, b"b", epoch=7)).result().rows == 0
    with pytest.raises(RequestRefused):
        push(second, make_body(1, b"b", epoch=6)).result()
    assert second.get_totals()["files"] == 1
    second.close()


@pytest.mark.parametrize("body", [
    b"", b"\xc1", b"\x94", make_body(1, b"a")[:-3], b"{}", msgspec.msgpack.encode([1, "realtime", 1]),
    make_body(1, b"a", lane="nowhere"), make_body(0, b"a"), make_body(1, b"a", epoch=0),
    make_body(1, b"a").replace(b"realtime", b"real\xfftim", 1), make_body(1, b"a").replace(b"files", b"f\xffles"),
    msgspec.msgpack.encode([1, "realtime", 1, [["update", "x"]]]), b"\x94\x01\xa8realtime\x01" + b"\x91" * 100_000])
def test_a_malformed_batch_is_refused_with_a_reason_and_leaves_nothing(store, body):
    with pytest.raises(RequestRefused) as caught:
        push(store, body).result()
    assert caught.value.status == 422
    assert "malformed" in caught.value.detail
    assert push(store, make_body(1, b"a")).result().rows == 1


def test_a_refused_batch_does_not_take_the_others_of_its_commit_with_it(store):
    gate = threading.Event()
    blocker = store.submit(lambda writer, careful: gate.wait(30))
    futures = [push(store, make_body(1, b"a")), push(store, b"junk"), push(store, make_body(2, b"b"))]
    gate.set()
    assert blocker.result()
    assert [futures[0].result().rows, futures[2].result().rows] == [1, 1]
    assert futures[1].exception().status == 422
    assert list_names(store) == [b"a", b"b"]
    assert store.get_totals()["files"] == 2


def test_a_refused_batch_does_not_make_the_store_forget_the_position_of_another(store):
    gate = threading.Event()
    store.submit(lambda writer, careful: gate.wait(30))
    futures = [push(store, make_body(7, b"a", epoch=3)), push(store, b"junk")]
    gate.set()
    assert futures[0].result().rows == 1
    assert push(store, make_body(7, b"again", epoch=3)).result().rows == 0
    assert isinstance(push(store, make_body(9, b"late", epoch=2)).exception(), RequestRefused)


def test_work_that_nobody_waits_for_any_more_is_done_and_the_next_too(store):
    gate = threading.Event()
    store.submit(lambda writer, careful: gate.wait(30))
    assert not push(store, make_body(1, b"a")).cancel()
    gate.set()
    assert push(store, make_body(2, b"b")).result().rows == 1
    assert list_names(store) == [b"a", b"b"]


def test_what_is_queued_together_is_committed_together(store):
    gate = threading.Event()
    store.submit(lambda writer, careful: gate.wait(30))
    futures = [push(store, make_body(seq, b"n%d" % seq)) for seq in range(1, 21)]
    gate.set()
    for future in futures:
        future.result()
    # The gate may have been alone in the first one.
    assert store.get_commits() <= 2


def test_realtime_goes_before_what_can_wait(store):
    gate, order = threading.Event(), []
    store.submit(lambda writer, careful: gate.wait(30))
    late = store.submit(lambda writer, careful: order.append("snapshot"), priority=1)
    early = store.submit(lambda writer, careful: order.append("realtime"), priority=0)
    gate.set()
    late.result()
    early.result()
    assert order == ["realtime", "snapshot"]


def test_numbers_that_do_not_fit_cost_only_their_row(store):
    applied = push(store, make_body(1, b"huge", size=1 << 63)).result()
    assert [row.path for row in applied.refused] == [b"/huge"]
    assert push(store, make_body(2, b"a")).result().rows == 1


def test_counts_survive_failed_work(store):
    push(store, make_body(1, b"a")).result()

    def fail(writer, careful):
        apply_push(writer, careful, body=make_body(2, b"b"), agent="a", pipe="p", session_id="s", leads=True)
        raise RequestRefused(418, "on purpose")

    with pytest.raises(RequestRefused):
        store.submit(fail).result()
    assert push(store, make_body(2, b"c")).result().rows == 1
    with Readers(store.path).lease() as db:
        assert read_stats(db).sums == Sums(2, 0, 10)
        check_counts(db)


def test_a_failing_database_fails_the_work_and_recovers(store):
    def fill_disk(writer, careful):
        raise apsw.FullError("database or disk is full")

    other = push(store, make_body(1, b"a"))
    other.result()
    with pytest.raises(StoreUnavailable, match="full"):
        store.submit(fill_disk).result()
    assert push(store, make_body(2, b"b")).result().rows == 1
    assert store.get_totals()["files"] == 2


def test_a_closed_store_takes_nothing(tmp_path):
    store = Store(tmp_path / "view.db")
    store.close()
    with pytest.raises(StoreUnavailable):
        push(store, make_body(1, b"a")).result()


def test_only_a_leader_completes_a_snapshot(store):
    item = SnapshotEnd(index=1, message_source=MessageSource.SNAPSHOT, complete=True)
    store.submit(lambda writer, careful: writer.db.execute("INSERT INTO sessions(id, state) VALUES('s', x'00')") and 1)

    def push_end(seq: int, leads: bool) -> bool:
        body = b"\x94" + b"".join(map(msgspec.msgpack.encode, (1, "snapshot", seq))) + encode_items([item])
        return store.submit(partial(apply_push, body=body, agent="a", pipe="p", session_id="s", leads=leads)
                            ).result().snapshot_complete

    with pytest.raises(RequestRefused, match="follows"):
        push_end(1, False)
    with Readers(store.path).lease() as db:
        assert db.execute("SELECT snapshot_done FROM sessions").fetchall() == [(0,)]
    assert push_end(2, True)
    with Readers(store.path).lease() as db:
        assert db.execute("SELECT snapshot_done FROM sessions").fetchall() == [(1,)]


def test_a_reader_sees_one_state_while_the_writer_goes_on(store):
    push(store, make_body(1, b"a")).result()
    with Readers(store.path).lease() as db:
        before = db.execute("SELECT count(*) FROM nodes").fetchall()
        push(store, make_body(2, b"b")).result()
        assert db.execute("SELECT count(*) FROM nodes").fetchall() == before


def test_the_log_is_begun_anew_though_readers_always_overlap(tmp_path, monkeypatch):
    monkeypatch.setattr("fustor_fusion.store.LARGE_LOG_BYTES", 1 << 20)
    store, readers, stop = Store(tmp_path / "view.db"), Readers(tmp_path / "view.db"), threading.Event()

    def read() -> None:
        while not stop.is_set():
            with readers.lease() as db:
                db.execute("SELECT count(*) FROM nodes").fetchall()
                stop.wait(0.01)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    sizes = [0]
    try:
        while sizes[-1] == max(sizes) and len(sizes) < 500:
            names = [b"%0200d" % (len(sizes) * 1_000 + number) for number in range(200)]
            push(store, make_body(len(sizes), *names)).result()
            sizes.append(store.get_log_bytes())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        store.close()
        readers.close()
    assert sizes[-1] < max(sizes), sizes


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 8000])
def test_a_damaged_database_is_set_aside_and_a_new_one_begun(tmp_path, damage):
    path = tmp_path / "view.db"
    first = Store(path)
    first.close()
    path.write_bytes(damage)
    second = Store(path)
    assert "set aside as view.db.damaged-1" in second.damage
    assert second.generation != first.generation
    assert push(second, make_body(1, b"a")).result().rows == 1
    second.close()
    assert (tmp_path / "view.db.damaged-1").read_bytes() == damage
    path.write_bytes(damage)
    third = Store(path)
    assert "damaged-2" in third.damage
    third.close()


def test_damage_found_while_running_is_looked_for_at_the_next_start(tmp_path):
    path = tmp_path / "view.db"
    store = Store(path)
    for seq in range(1, 4):
        push(store, make_body(seq, *[b"n%d-%05d" % (seq, n) for n in range(2000)])).result()
    store.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    mark_damaged(path)
    after = Store(path)
    assert after.damage is not None
    assert after.get_totals()["files"] == 0
    after.close()
    again = Store(path)
    assert again.damage is None
    again.close()


pieces = st.lists(st.tuples(
    st.sampled_from([b"/", b"/d/", b"/d/e/", b"/f/"]),
    st.lists(st.sampled_from([b"a", b"b", b"d", b"e"]), min_size=1, max_size=3, unique=True),
    st.booleans(), st.sampled_from(["put", "list", "fail", "full"])), max_size=12)


@settings(max_examples=60, deadline=None)
@given(pieces)
def test_what_fails_leaves_nothing_in_the_counts(script):
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "view.db")
        for index, (prefix, names, directories, outcome) in enumerate(script, 1):
            mode = 0o40755 if directories else 0o100644
            rows = [FsRow(each, index, 1, 1, mode, 0, 0, 1, index, 1) for each in names]
            items: list[FsItem] = [UpdateEvent(index=index, message_source=LANE, event_schema="fs", table="files",
                                               rows=rows, prefix=prefix)]
            if outcome == "list":
                items.append(Listed(index=index, message_source=LANE, path=prefix))

            def work(writer, careful, items=items, outcome=outcome):
                writer.arbiter.apply(items, owner=1)
                if outcome == "fail":
                    raise RequestRefused(418, "on purpose")
                if outcome == "full":
                    raise apsw.FullError("on purpose")

            assert (store.submit(work).exception() is None) == (outcome in ("put", "list"))
            with Readers(store.path).lease() as db:
                check_counts(db)
                sums = read_stats(db).sums
            assert store.get_totals()["files"] == sums.files
        store.close()
