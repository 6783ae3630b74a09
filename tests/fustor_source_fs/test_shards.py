"""Several inotify instances: what one loses, and renames of which several tell."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fustor_event_model import Listed
from fustor_source_fs.records import Record, parse_records
from fustor_source_fs.shards import get_shard, name_watch
from treeops import exchange


@pytest.fixture
def sharded(start_still: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A source with four instances that reads when the test reads."""
    monkeypatch.setattr("fustor_source_fs.shards.SHARDS", 4)
    return start_still()


def read_by_shard(pump: Any) -> list[list[Record]]:
    pump.source._reader.drain()
    records: dict[int, list[Record]] = {}
    for shard, data in pump.source._reader.take()[0]:
        records.setdefault(shard, []).extend(parse_records(data, shard))
    return list(records.values())


def interleave(parts: list[list[Record]], rng: random.Random) -> list[list[Record]]:
    """Cut what several instances say into reads that may come in any order, but for that of each instance."""
    reads: list[list[Record]] = []
    while parts := [part for part in parts if part]:
        part = rng.choice(parts)
        size = rng.choice((1, 2, len(part)))
        reads.append(part[:size])
        del part[:size]
    return reads


@pytest.mark.parametrize("shard", [0, 1, 3])
@pytest.mark.parametrize("descriptor", [-1, 1, 2**31 - 1])
def test_a_watch_names_its_shard_and_so_does_an_overflow(shard, descriptor):
    assert get_shard(name_watch(shard, descriptor)) == shard


def test_a_tree_is_spread_over_all_shards_and_a_directory_stays_in_its_own(inside, sharded):
    for number in range(64):
        (inside / f"d{number}").mkdir()
    sharded.begin()
    before = {node: node.watch for node in sharded.source._tree.walk(sharded.source._tree.root)}
    assert {get_shard(watch) for watch in before.values()} == {0, 1, 2, 3}
    sharded.source.rescan(b"/")
    sharded.sync()
    assert {node: node.watch for node in before} == before


def test_an_overflow_has_only_the_directories_of_its_shard_listed_again(inside, sharded):
    for number in range(64):
        (inside / f"d{number}").mkdir()
        (inside / f"d{number}" / "f").write_text("")
    sharded.begin()
    shard = get_shard(sharded.node(b"/d7").watch)
    of_shard = {sharded.source._tree.get_path(node) for node in sharded.source._tree.get_shard(shard)}
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    for number in range(limit // 2 + 1):
        (inside / "d7" / f"{number % 2}").touch()
        (inside / "d7" / f"{number % 2}").unlink()
    for number in range(64):  # of some of these the records are lost
        (inside / f"d{number}" / "after").mkdir()
        (inside / f"d{number}" / "f").rename(inside / f"d{number}" / "after" / "g")
    sharded.sync()
    sharded.assert_exact()
    details = sharded.source.get_status().details
    assert sharded.source.get_status().overflows == 1
    assert (details["shards"], details["relisted"]) == (4, len(of_shard))
    listed = {item.path for item in sharded.items if isinstance(item, Listed)}
    assert listed - of_shard <= {b"/d%d/after" % number for number in range(64)}


def test_a_backlog_that_is_thrown_away_dirties_the_shards_that_it_was_of(inside, start_still, monkeypatch):
    monkeypatch.setattr("fustor_source_fs.shards.SHARDS", 4)
    pump = start_still(max_backlog_bytes=3000)
    for number in range(64):
        (inside / f"d{number}").mkdir()
    pump.begin()
    for number in range(200):
        (inside / "d7" / f"{number}").touch()
    pump.sync()
    pump.assert_exact()
    status = pump.source.get_status()
    assert status.overflows == 1
    assert status.details["relisted"] < 64


@pytest.mark.parametrize("attempt", range(10))
def test_a_rename_is_followed_in_whatever_order_the_instances_tell_of_it(tree, sharded, attempt):
    inside, outside = tree
    rng = random.Random(attempt)
    for number in range(8):
        (inside / f"d{number}" / "below").mkdir(parents=True)
        (inside / f"d{number}" / "below" / "f").write_text("")
    sharded.begin()
    (inside / "d0" / "below").rename(inside / "d1" / "moved")
    (inside / "d2").rename(inside / "d3" / "below" / "moved")
    exchange(bytes(inside / "d4"), bytes(inside / "d5" / "below"))
    (inside / "d6").rename(outside / "away")
    (outside / "away" / "unseen").write_text("")
    (outside / "away").rename(inside / "d7" / "back")
    for records in interleave(read_by_shard(sharded), rng):
        sharded.feed(records)
        if rng.random() < 0.5:
            sharded.step()
    sharded.sync()
    sharded.assert_exact()
    (inside / "d1" / "moved" / "watched").write_text("")
    (inside / "d3" / "below" / "moved" / "below" / "watched").write_text("")
    (inside / "d7" / "back" / "below" / "watched").write_text("")
    sharded.sync()
    sharded.assert_exact("what was moved is still watched")


def test_random_operations_told_in_any_order_of_the_instances_converge(tree, sharded, operations):
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    sharded.begin()
    writer = operations(tree, seed)
    for number in range(40):
        for _ in range(rng.choice((1, 3, 10))):
            writer.step()
            if rng.random() < 0.3:
                sharded.step(rng)  # a look may be ahead of the records, and between those of several instances
        writer.show_links()
        for records in interleave(read_by_shard(sharded), rng):
            sharded.feed(records)
            if rng.random() < 0.3:
                sharded.step(rng)
        sharded.sync()
        sharded.assert_exact(f"seed {seed}, round {number}\n" + "\n".join(writer.log[-12:]))


def test_a_barrier_waits_for_a_tree_whose_arrival_was_read_before_its_departure(inside, sharded):
    for number in range(32):
        for below in range(8):
            (inside / f"d{number}" / "tree" / f"{below}").mkdir(parents=True)
            (inside / f"d{number}" / "tree" / f"{below}" / "f").write_text("")
    sharded.begin()

    def shard_of(path: str) -> int:
        return get_shard(sharded.node(b"/" + path.encode()).watch)

    # Shards are read in their order: the arrival first, then that the tree has moved, then the departure.
    names = [f"d{number}" for number in range(32)]
    source = next(name for name in names if shard_of(name) == 3 and shard_of(f"{name}/tree") < 3)
    target = next(name for name in names if shard_of(name) == 0)
    (inside / source / "tree").rename(inside / target / "moved")
    sharded.source.barrier("t")
    while not sharded.barriers:
        item = next(sharded.messages)
        if item is None:
            sharded.source.wait(1.0)
        else:
            sharded.take(item)
    sharded.assert_exact()
