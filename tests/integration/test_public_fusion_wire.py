"""Our rows in the view of the released public Fusion: what arrives is what is there."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from public_fusion import PublicFusion
from released import NotInstallable

from fustor_core.drivers import PusherContext, Role, Session
from fustor_core.errors import ConfigError
from fustor_core.testing.pushers import make_batch, make_row
from fustor_event_model import (
    AuditEnd,
    DeleteEvent,
    FsItem,
    FsPath,
    JobDone,
    Listed,
    MessageSource,
    SnapshotEnd,
    UpdateEvent,
)
from fustor_pusher_fusion import FusionConfig, FusionPusher
from waiting import until

REALTIME, SNAPSHOT, AUDIT, ON_DEMAND = (
    MessageSource.REALTIME,
    MessageSource.SNAPSHOT,
    MessageSource.AUDIT,
    MessageSource.ON_DEMAND,
)
OLD_S, NEW_S = 1_600_000_000, 1_700_000_000
WITHIN_S = 20.0


@pytest.fixture(scope="module")
def fusion(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PublicFusion]:
    peer = PublicFusion(tmp_path_factory.mktemp("public-fusion"), same_ids=True)
    try:
        peer.start()
    except NotInstallable as err:
        pytest.skip(f"the public Fusion cannot be installed here: {err}")
    yield peer
    peer.stop()


class Agent:
    """What a pipe does, item by item: stamps, batches and one session."""

    def __init__(self, fusion: PublicFusion, state_dir: Path, name: str = "agent") -> None:
        context = PusherContext(pipe_id=fusion.pipe_id, schema="fs", agent_id=name, state_dir=state_dir)
        config = FusionConfig(endpoint=fusion.endpoint, credential=fusion.push_key, session_timeout_s=60)
        self.fusion = fusion
        self.driver = FusionPusher(config, context)
        self.session: Session | None = None
        self.clock = 0
        self.seq = 0

    def stamp(self) -> int:
        self.clock += 1
        return self.clock

    def open(self, *, snapshot: bool = True) -> Session:
        self.session = self.driver.open_session()
        if snapshot:
            self.snapshot_end()
        return self.session

    def push(self, *items: FsItem) -> None:
        assert self.session is not None
        self.seq += 1
        refused = self.driver.push(self.session, make_batch(items, lane=items[0].message_source, seq=self.seq))
        assert list(refused) == []

    def put(self, *paths: bytes, lane: MessageSource = REALTIME, size: int = 1, mtime_s: int = OLD_S) -> FsItem:
        """Rows; a path that ends with a slash is a directory."""
        rows = [
            make_row(
                path.rstrip(b"/"),
                mode=0o040755 if path.endswith(b"/") else 0o100644,
                size=size,
                mtime_ns=mtime_s * 10**9,
            )
            for path in paths
        ]
        return UpdateEvent(index=self.stamp(), message_source=lane, event_schema="fs", table="files", rows=rows)

    def gone(self, *paths: bytes) -> FsItem:
        rows = [FsPath(path) for path in paths]
        return DeleteEvent(index=self.stamp(), message_source=REALTIME, event_schema="fs", table="files", rows=rows)

    def listed(self, path: bytes, index: int, lane: MessageSource = REALTIME) -> FsItem:
        return Listed(index=index, message_source=lane, path=path)

    def snapshot_end(self) -> None:
        self.push(SnapshotEnd(index=self.stamp(), message_source=SNAPSHOT, complete=True))

    def sees(self, expected: dict[str, int]) -> None:
        """Wait until the view holds exactly these paths with these sizes."""

        def seen() -> dict[str, int] | None:
            nodes = self.fusion.nodes()
            return None if nodes is None else {path: node["size"] for path, node in nodes.items()}

        try:
            until(lambda: seen() == expected, within_s=WITHIN_S, what="the view")
        except TimeoutError:
            assert seen() == expected

    def close(self) -> None:
        if self.session is not None:
            until(self.fusion.has_applied_all, within_s=WITHIN_S, what="an empty queue")  # or the next test finds it
            self.driver.close_session(self.session)
        self.driver.close()


@pytest.fixture
def agent(fusion: PublicFusion, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(fusion, tmp_path)
    yield agent
    agent.close()


def test_the_connection_test_tells_a_good_key_from_a_bad_one(agent: Agent) -> None:
    agent.driver.test_connection()
    config = FusionConfig(endpoint=agent.fusion.endpoint, credential="wrong")
    stranger = FusionPusher(config, agent.driver.context)
    with pytest.raises(ConfigError):
        stranger.test_connection()
    with pytest.raises(ConfigError):
        stranger.open_session()
    stranger.close()


def test_a_snapshot_is_complete_when_the_view_is_ready(agent: Agent) -> None:
    agent.open(snapshot=False)
    assert agent.fusion.nodes() is None
    names = [b"/d/%05d" % number for number in range(20_000)]
    agent.push(agent.put(b"/d/", *names, lane=SNAPSHOT, size=3))
    agent.snapshot_end()
    stats = agent.fusion.query("stats")
    assert (stats["total_files"], stats["total_size"]) == (20_000, 60_000)


def test_realtime_rows_are_applied_as_they_are(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/d/"), agent.put(b"/d/f", size=5, mtime_s=NEW_S))
    agent.sees({"/d": 1, "/d/f": 5})
    agent.push(agent.put(b"/d/f", size=2, mtime_s=OLD_S))
    agent.sees({"/d": 1, "/d/f": 2})
    # The row that lifts tombstones goes before it, and may be seen.
    until(lambda: (agent.fusion.nodes() or {})["/d/f"]["modified_time"] == OLD_S, within_s=30, what="the row's mtime")
    nodes = agent.fusion.nodes()
    assert nodes is not None
    assert nodes["/d/f"]["integrity_suspect"] is False


def test_an_old_file_that_is_renamed_away_and_back_is_there(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/A"))
    agent.push(agent.gone(b"/A"), agent.put(b"/B"))
    agent.sees({"/B": 1})
    agent.push(agent.gone(b"/B"), agent.put(b"/A"))
    agent.sees({"/A": 1})
    agent.push(agent.gone(b"/A"))
    agent.sees({})
    agent.push(agent.put(b"/A", size=4))
    agent.sees({"/A": 4})


def test_deletes_leave_no_blind_spots(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/d/", b"/d/f"), agent.gone(b"/d"))
    agent.sees({})
    assert agent.fusion.query("blind-spots")["deletions"] == []


def test_a_name_that_was_deleted_during_the_snapshot_is_taken_again(agent: Agent) -> None:
    agent.open(snapshot=False)
    agent.push(agent.put(b"/x"), agent.gone(b"/x"))
    agent.push(agent.put(b"/x", lane=SNAPSHOT, size=9))
    agent.snapshot_end()
    agent.sees({"/x": 9})


def test_a_name_changes_between_file_and_directory(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/x", b"/y/", b"/y/f"))
    agent.push(agent.put(b"/x/", b"/x/f", b"/y"))
    agent.sees({"/x": 1, "/x/f": 1, "/y": 1})


def test_a_file_that_is_being_written_is_suspect(agent: Agent) -> None:
    agent.open()
    row = make_row(b"/hot")
    hot = type(row)(**{name: getattr(row, name) for name in row.__struct_fields__} | {"is_atomic_write": False})
    agent.push(UpdateEvent(index=agent.stamp(), message_source=REALTIME, event_schema="fs", table="files", rows=[hot]))
    until(lambda: agent.fusion.query("suspect-list"), within_s=WITHIN_S, what="the suspect")
    assert agent.session is not None
    assert agent.driver.get_sentinel_tasks(agent.session) == [b"/hot"]
    agent.push(agent.put(b"/hot", size=1))
    until(lambda: not agent.fusion.query("suspect-list"), within_s=WITHIN_S, what="the suspect to be cleared")


def test_a_repeated_snapshot_corrects_sizes_and_removes_what_vanished(agent: Agent) -> None:
    agent.open(snapshot=False)
    agent.push(agent.put(b"/d/", b"/d/same", b"/d/newer", b"/d/gone", b"/e/", b"/e/f", lane=SNAPSHOT, mtime_s=NEW_S))
    agent.snapshot_end()
    again = agent.stamp()
    agent.push(
        agent.put(b"/d/", lane=SNAPSHOT),
        agent.put(b"/d/same", lane=SNAPSHOT, size=7, mtime_s=NEW_S),
        agent.put(b"/d/newer", lane=SNAPSHOT, size=8, mtime_s=OLD_S),
        agent.listed(b"/d", again, SNAPSHOT),
        agent.listed(b"/", again, SNAPSHOT),
    )
    agent.snapshot_end()
    agent.sees({"/d": 1, "/d/same": 7, "/d/newer": 8})


def test_a_listing_removes_what_it_does_not_name_and_nothing_else(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/d/", b"/d/stays", b"/d/goes", b"/d/sub/", b"/d/sub/deep", b"/d/old/", b"/d/old/x", b"/z"))
    start = agent.stamp()
    agent.push(agent.put(b"/d/stays", size=2))
    agent.push(agent.put(b"/d/sub/"))
    agent.push(agent.put(b"/d/new"), agent.listed(b"/d", start))
    agent.sees({"/d": 1, "/d/stays": 2, "/d/sub": 1, "/d/sub/deep": 1, "/d/new": 1, "/z": 1})
    start = agent.stamp()
    agent.push(agent.put(b"/d/"), agent.listed(b"/", start))
    agent.sees({"/d": 1, "/d/stays": 2, "/d/sub": 1, "/d/sub/deep": 1, "/d/new": 1})


def test_a_listing_of_a_directory_that_is_gone_makes_nothing(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/p/", b"/p/q/"))
    start = agent.stamp()
    agent.push(agent.gone(b"/p"))
    agent.push(agent.listed(b"/p/q", start), agent.listed(b"/never", start))
    agent.push(agent.put(b"/last"))
    agent.sees({"/last": 1})


def test_a_listing_of_what_the_same_batch_removes_makes_nothing(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/p/", b"/p/q/", b"/p/q/f", b"/x/", b"/x/y/", b"/x/y/f"))
    start = agent.stamp()
    rows = agent.put(b"/p/q/", b"/p/q/f", b"/x/y/", b"/x/y/f")
    agent.push(rows, agent.listed(b"/p/q", start), agent.listed(b"/x/y", start), agent.put(b"/x"), agent.gone(b"/p"))
    agent.push(agent.put(b"/last"))
    agent.sees({"/x": 1, "/last": 1})


def test_a_listing_removes_what_only_an_older_row_of_the_same_batch_named(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/d/", b"/d/sub/", b"/d/sub/f", b"/d/stays"))
    old = agent.put(b"/d/sub/", b"/d/sub/f", b"/d/g")
    start = agent.stamp()
    agent.push(old, agent.put(b"/d/stays"), agent.listed(b"/d", start))
    agent.sees({"/d": 1, "/d/stays": 1})


def test_what_is_older_than_a_file_is_not_made_below_it(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/x/", b"/x/y/", b"/x/y/f"))
    start = agent.stamp()
    old = agent.put(b"/x/y/", b"/x/y/f")
    agent.push(agent.put(b"/x"))
    agent.push(old, agent.listed(b"/x/y", start))
    agent.push(agent.put(b"/last"))
    agent.sees({"/x": 1, "/last": 1})


def test_listings_can_be_repeated_for_ever(agent: Agent) -> None:
    agent.open()
    for size in range(1, 6):
        start = agent.stamp()
        agent.push(agent.put(b"/d/"), agent.put(b"/d/f", size=size), agent.listed(b"/d", start))
    agent.sees({"/d": 1, "/d/f": 5})


def test_a_resumed_session_corrects_what_the_view_still_holds(
    agent: Agent, fusion: PublicFusion, tmp_path: Path
) -> None:
    session = agent.open(snapshot=False)
    agent.push(agent.put(b"/f", b"/gone", lane=SNAPSHOT, mtime_s=NEW_S))
    agent.snapshot_end()
    successor = Agent(fusion, tmp_path)
    successor.clock = agent.clock
    successor.session = successor.driver.resume_session(session)
    assert successor.session.role is Role.LEADER
    start = successor.stamp()
    successor.push(successor.put(b"/f", lane=SNAPSHOT, size=5, mtime_s=OLD_S), successor.listed(b"/", start, SNAPSHOT))
    successor.snapshot_end()
    successor.sees({"/f": 5})
    successor.driver.close()


def test_a_promoted_follower_corrects_the_view(agent: Agent, fusion: PublicFusion, tmp_path: Path) -> None:
    agent.open()
    agent.push(agent.put(b"/f", mtime_s=NEW_S), agent.put(b"/stale"))
    follower = Agent(fusion, tmp_path, "other")
    follower.open(snapshot=False)
    assert follower.session is not None
    assert follower.session.role is Role.FOLLOWER
    agent.close()
    agent.session = None
    assert follower.driver.heartbeat(follower.session, can_realtime=True).role is Role.LEADER
    start = follower.stamp()
    follower.push(follower.put(b"/f", lane=SNAPSHOT, size=6), follower.listed(b"/", start, SNAPSHOT))
    follower.snapshot_end()
    follower.sees({"/f": 6})
    follower.close()


def test_names_of_any_bytes_keep_the_view_readable(agent: Agent) -> None:
    agent.open()
    names = [b"caf\xe9", b"a\\b", b"new\nline", b" lead", b"%41?#&", "é😀".encode(), b"\x01\x7f", b"..."]
    agent.push(agent.put(b"/n/"), agent.put(*(b"/n/" + name for name in names)))
    expected = {"/n/" + name.decode("utf-8", "replace").replace("�", "?"): 1 for name in names}
    agent.sees({"/n": 1} | expected)


def test_times_before_and_far_after_now_are_kept(agent: Agent) -> None:
    agent.open()
    for number, mtime_s in enumerate((-5, 0, 1, 2**32, 2**33)):
        agent.push(agent.put(b"/%d" % number, mtime_s=mtime_s))
    agent.sees({f"/{number}": 1 for number in range(5)})
    nodes = agent.fusion.nodes()
    assert nodes is not None
    assert [nodes[f"/{number}"]["modified_time"] for number in range(5)] == [-5, 0, 1, 2**32, 2**33]


def test_an_audit_is_counted_and_deletes_nothing(agent: Agent) -> None:
    agent.open()
    agent.push(agent.put(b"/d/", b"/d/f"))
    assert agent.session is not None
    agent.driver.begin_audit(agent.session)
    agent.push(
        agent.put(b"/d/f", lane=AUDIT, size=3), AuditEnd(index=agent.stamp(), message_source=AUDIT, complete=True)
    )
    agent.driver.end_audit(agent.session, complete=True)
    agent.sees({"/d": 1, "/d/f": 3})
    assert agent.fusion.query("stats")["audit_cycle_count"] >= 1


def test_a_scan_that_a_reader_asks_for_is_done(agent: Agent) -> None:
    agent.open()
    agent.fusion.query("tree", path="/b", on_demand_scan="true")
    assert agent.session is not None
    (scan,) = agent.driver.heartbeat(agent.session, can_realtime=True).commands
    agent.push(
        agent.put(b"/b/", b"/b/f", lane=ON_DEMAND),
        JobDone(index=agent.stamp(), message_source=ON_DEMAND, job_id=scan.job_id, path=scan.path),
    )
    agent.sees({"/b": 1, "/b/f": 1})
    jobs: list[dict[str, Any]] = agent.fusion.query("jobs")["jobs"]
    assert [job["status"] for job in jobs if job["job_id"] == scan.job_id] == ["COMPLETED"]


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_changes_and_listings_ends_in_the_tree(agent: Agent, seed: int) -> None:
    rng = random.Random(seed)
    agent.open()
    tree: dict[bytes, int] = {}
    directories = [b"/a", b"/b", b"/c"]
    agent.push(agent.put(*(path + b"/" for path in directories)))
    for _ in range(60):
        directory = rng.choice(directories)
        path = directory + b"/%d" % rng.randrange(6)
        kind = rng.randrange(4)
        if kind == 0 and path in tree:
            del tree[path]
            agent.push(agent.gone(path))
        elif kind == 1:
            # Something vanishes unseen, then the directory is listed, over two batches.
            tree.pop(path, None)
            start = agent.stamp()
            rows = [agent.put(name, size=tree[name]) for name in sorted(tree) if name.startswith(directory)]
            middle = rng.randrange(len(rows) + 1)
            if rows[:middle]:
                agent.push(*rows[:middle])
            agent.push(*rows[middle:], agent.listed(directory, start))
        else:
            tree[path] = rng.randrange(1, 1000)
            agent.push(agent.put(path, size=tree[path], mtime_s=rng.choice((OLD_S, NEW_S))))
    agent.sees({path.decode(): size for path, size in tree.items()} | {"/a": 1, "/b": 1, "/c": 1})
