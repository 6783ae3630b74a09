"""Fewer watches than directories: the hot ones are watched, the others looked at, and nothing is missed for good."""

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fustor_core.errors import Unavailable
from fustor_event_model import Listed
from fustor_source_fs import shards
from fustor_source_fs.mounts import find_silent
from fustor_source_fs.shards import Shards

OLD_S = 1_000_000_000


class FewWatches(Shards):
    """Real instances that are refused more than so many watches, as a user's limit does."""

    limit = 20

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[int, int]] = {}

    def add_watch(self, directory_fd: int, device: int, inode: int) -> int:
        if (device, inode) not in self.held.values() and len(self.held) >= self.limit:
            raise OSError(errno.ENOSPC, "No space left on device; raise fs.inotify.max_user_watches")
        watch = super().add_watch(directory_fd, device, inode)
        self.held[watch] = (device, inode)
        return watch

    def remove_watch(self, watch: int) -> None:
        del self.held[watch]
        super().remove_watch(watch)


@pytest.fixture
def few(start_pump: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Start a source that has twenty watches, and looks at the other directories all the time."""
    monkeypatch.setattr("fustor_source_fs.driver.Shards", FewWatches)
    return lambda: start_pump(poll_interval_s=0.001)


def make(inside: Path, count: int) -> list[Path]:
    made = [inside / f"d{number}" for number in range(count)]
    for path in made:
        path.mkdir()
        (path / "f").write_text("")
        for each in (path / "f", path):
            os.utime(each, (OLD_S, OLD_S))
    return made


def begin(pump: Any) -> Any:
    pump.start_snapshot()
    pump.finish_snapshot()
    return pump


def settle(pump: Any, done: Callable[[], bool]) -> None:
    """Let the source work until something is so; the deadline of the test ends it otherwise."""
    while not done():
        if not pump.step():
            pump.source.wait(0.01)


def is_exact(pump: Any) -> bool:
    return not pump.differences()


def is_watched(pump: Any, path: Path) -> bool:
    return pump.node(b"/" + path.name.encode()).watch is not None


def test_the_directories_that_changed_last_are_watched_wherever_they_stand(inside, few):
    made = make(inside, 100)
    hot = random.sample(made, 15)
    for path in hot:
        os.utime(path)
    pump = begin(few())
    assert [path for path in hot if not is_watched(pump, path)] == []
    status = pump.source.get_status()
    assert (status.details["watches"], status.details["unwatched"], status.details["directories"]) == (20, 81, 101)
    assert "81 directories are not watched but looked at every 0.001 s" in status.not_current_because
    assert "raise fs.inotify.max_user_watches" in status.not_current_because
    with pytest.raises(Unavailable, match="81 directories are not watched"):
        pump.source.barrier("b")


def append(path: Path) -> None:
    with (path / "f").open("a") as file:
        file.write("more")


@pytest.mark.parametrize(
    "change",
    [
        append,
        lambda path: (path / "new").write_text(""),
        lambda path: (path / "f").unlink(),
        lambda path: (path / "f").rename(path / "g"),
        lambda path: (path / "deep" / "er").mkdir(parents=True),
        lambda path: path.rename(path.parent / "renamed"),
        lambda path: (path / "f").chmod(0o600),
        lambda path: subprocess.run(["rm", "-r", path], check=True),
    ],
    ids=["append", "create", "delete", "rename", "deep", "rename it", "chmod", "delete it"],
)
def test_what_happens_where_nobody_watches_is_found_by_looking(inside, few, change):
    made = make(inside, 60)
    pump = begin(few())
    cold = next(path for path in made if not is_watched(pump, path))
    change(cold)
    settle(pump, lambda: is_exact(pump))


def test_watches_follow_the_activity(inside, few):
    made = make(inside, 60)
    pump = begin(few())
    for _ in range(3):
        cold = [path for path in made if not is_watched(pump, path)][:5]
        for path in cold:
            append(path)
        settle(pump, lambda cold=cold: all(is_watched(pump, path) for path in cold))
        settle(pump, lambda: is_exact(pump))
        assert pump.source.get_status().details["watches"] <= 20
        made = [path for path in made if path not in cold]


def test_the_coldest_gives_its_watch_and_a_colder_one_takes_none(inside, few):
    made = make(inside, 60)
    for age, path in enumerate(made):
        os.utime(path, (OLD_S - age, OLD_S - age))
    pump = begin(few())
    assert {path for path in made if is_watched(pump, path)} == set(made[:19])


def test_a_limit_below_what_is_held_costs_one_watch_and_not_all(inside, few):
    made = make(inside, 19)
    pump = begin(few())
    assert pump.source.get_status().details["watches"] == 20
    pump.source._shards.limit = 0
    pump.source._polling._interval_s = 3600.0  # no other round gives hope
    for number in range(10):
        (made[number] / "new").mkdir()
    pump.source._reader.drain()
    settle(pump, lambda: not pump.source._reader.has_backlog() and not pump.source._work)
    assert pump.source.get_status().details["watches"] == 19


def test_all_are_watched_again_once_there_are_watches_to_be_had(inside, few):
    make(inside, 60)
    pump = begin(few())
    pump.source._shards.limit = 1_000
    settle(pump, lambda: pump.source.get_status().not_current_because is None)
    assert pump.source.get_status().details["unwatched"] == 0
    pump.sync()
    pump.assert_exact()


def test_an_unchanged_directory_is_looked_at_and_not_sent_again(inside, few):
    make(inside, 60)
    pump = begin(few())
    settle(pump, lambda: all(pump.source._places.polled.values()) and not pump.source._work)
    pump.items.clear()
    rounds: set[float] = set()
    settle(pump, lambda: len(rounds | {pump.source._polling._begun_s}) > 3 or rounds.add(pump.source._polling._begun_s))
    listed = [item.path for item in pump.items if isinstance(item, Listed)]
    assert len(set(listed)) <= 1, "one is listed in each round, to see whether there are watches again"


def test_random_operations_with_few_watches_converge(tree, few, operations):
    seed = random.randrange(1 << 30)
    make(tree[0], 40)
    pump = begin(few())
    writer = operations(tree, seed)
    for _ in range(12):
        for _ in range(10):
            writer.step()
            pump.step()
        writer.show_links()
        settle(pump, lambda: is_exact(pump))


def test_without_any_instance_everything_is_looked_at_until_there_are_some(inside, start_pump, monkeypatch):
    def refuse() -> None:
        raise Unavailable("no inotify instance: Too many open files; raise fs.inotify.max_user_instances")

    made = make(inside, 10)
    real = shards.Inotify
    monkeypatch.setattr(shards, "Inotify", refuse)
    pump = begin(start_pump(poll_interval_s=0.001))
    assert "raise fs.inotify.max_user_instances" in pump.source.get_status().not_current_because
    append(made[3])
    (made[4] / "new").mkdir()
    settle(pump, lambda: is_exact(pump))
    monkeypatch.setattr(shards, "Inotify", real)
    settle(pump, lambda: pump.source.get_status().not_current_because is None)
    append(made[5])
    pump.sync()
    pump.assert_exact()


def test_a_file_system_that_others_change_is_watched_and_looked_at(inside, start_still):
    made = make(inside, 10)
    pump = start_still(poll_interval_s=0.001)
    pump.source._places.silent_devices = frozenset({inside.stat().st_dev})
    begin(pump)
    details = pump.source.get_status().details
    assert (details["watches"], details["polled"], details["unwatched"]) == (11, 11, 0)
    append(made[3])
    (made[4] / "new").write_text("by another machine")
    pump.read()  # and no record tells
    settle(pump, lambda: is_exact(pump))
    with pytest.raises(Unavailable, match="on file systems that others change"):
        pump.source.barrier("b")


def test_file_systems_are_silent_by_their_type():
    lines = [
        b"1 0 8:1 / / rw - ext4 /dev/a rw",
        b"2 1 0:50 / /n rw shared:1 - nfs4 host:/x rw",
        b"3 1 0:51 / /s rw - fuse.sshfs host: rw",
        b"4 1 0:52 / /t rw - tmpfs none rw",
        b"5 1 8:2 / /w rw - fuseblk /dev/b rw",
        b"6 1 0:53 / /p rw - proc none rw",
        b"7 1 0:54 / /f rw - fuse host: rw",
        b"8 1 0:55 / /q rw - mqueue none rw",
    ]
    assert find_silent(b"\n".join(lines)) == {os.makedev(0, number) for number in (50, 51, 53, 54, 55)}


SCRIPT = """
import sys
from pathlib import Path

sys.path[:0] = sys.argv[2].split(":")
from conftest import Pump, make_source

inside = Path(sys.argv[1])
limits = Path("/proc/sys/user")
(limits / "max_inotify_watches").write_text("50")
(limits / "max_inotify_instances").write_text(sys.argv[3])
pump = Pump(make_source(inside, poll_interval_s=0.001), inside)
pump.start_snapshot()
pump.finish_snapshot()


def settle(done):
    while not done():  # ended by the deadline of the test
        if not pump.step():
            pump.source.wait(0.01)


details = pump.source.get_status().details
print(details["shards"], details["watches"], details["unwatched"])
for number in range(0, 300, 17):
    (inside / f"d{number}" / "new").mkdir()
settle(lambda: not pump.differences())
(limits / "max_inotify_watches").write_text("100000")
(limits / "max_inotify_instances").write_text("128")
settle(lambda: pump.source.get_status().not_current_because is None)
pump.sync()
pump.assert_exact()
print(pump.source.get_status().details["unwatched"])
pump.close()
"""


def may_limit() -> bool:
    words = ["unshare", "-Ur", "sh", "-c", "echo 5 > /proc/sys/user/max_inotify_watches"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize(("instances", "said"), [(128, "4 50 251"), (2, "2 50 251"), (0, "0 0 301")])
def test_the_limits_of_the_system_degrade_and_recover(inside, instances, said):
    if not may_limit():
        pytest.skip("a user namespace of its own (unshare -Ur) is not permitted to this user")
    make(inside, 300)
    here = Path(__file__).parent
    words = ["unshare", "-Ur", sys.executable, "-c", SCRIPT, str(inside), f"{here}:{here.parent / 'lib'}"]
    done = subprocess.run(
        [*words, str(instances)], check=False, capture_output=True, text=True, timeout=100, env=dict(os.environ)
    )
    assert done.stdout == f"{said}\n0\n", done.stdout + done.stderr
