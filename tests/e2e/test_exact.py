"""The whole agent on a real tree: after a sync, the view is the tree."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agent import AgentFailed, AgentUnderTest
from bench import make_tree
from oracle import differences, misplaced, walk
from processes import is_alive
from treeops import RandomTree, exchange
from waiting import until

_FILES = 100_000


class Watched:
    """A tree, a place outside it, and an agent that watches it."""

    def __init__(self, agent: AgentUnderTest, inside: Path, outside: Path) -> None:
        self.agent = agent
        self.inside = inside
        self.outside = outside

    def assert_exact(self, what: object = "") -> None:
        view = self.agent.export(sync=30)
        found = differences(walk(bytes(self.inside)), view)
        assert not found, f"{what}\n" + "\n".join(found)
        assert not misplaced(view), what


@pytest.fixture
def watched(tmp_path: Path, start_agent: Callable[..., AgentUnderTest]) -> Watched:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    for number in range(12):
        below = inside / f"d{number}" / "sub"
        below.mkdir(parents=True)
        for name in range(8):
            (below / f"f{name}").write_text("x" * name)
    agent = start_agent(watch=inside)
    agent.wait_ready()
    return Watched(agent, inside, outside)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    top = tmp_path_factory.mktemp("large")
    inside, outside = top / "in", top / "out"
    outside.mkdir()
    make_tree(inside, directories=1_000, files_each=_FILES // 1_000)
    with AgentUnderTest(top / "home", watch=inside) as agent:
        agent.wait_ready(120)
        yield Watched(agent, inside, outside)


def _directories(top: Path) -> list[Path]:
    return sorted(path for path in top.iterdir() if path.is_dir())


def _run(*command: str | Path, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _create(tree: Watched) -> None:
    (tree.inside / "created").write_text("new")


def _append(tree: Watched) -> None:
    with (_directories(tree.inside)[0] / "log").open("a") as file:
        for line in range(1000):
            file.write(f"line {line}\n")
            file.flush()


def _truncate(tree: Watched) -> None:
    path = tree.inside / "truncated"
    path.write_text("x" * 10_000)
    os.truncate(path, 10)


def _rename_files(tree: Watched) -> None:
    top = _directories(tree.inside)[1]
    for number in range(100):
        (top / f"before{number}").write_text(str(number))
    for number in range(100):
        (top / f"before{number}").rename(top / f"after{number}")
    (top / "after1").rename(top / "after2")


def _rename_directories(tree: Watched) -> None:
    tops = _directories(tree.inside)
    tops[2].rename(tree.inside / "renamed")
    (tops[3] / "empty").mkdir()
    (tree.inside / "renamed").rename(tops[3] / "empty")


def _move_out_and_in(tree: Watched) -> None:
    top = _directories(tree.inside)[4]
    top.rename(tree.outside / "moved")
    (tree.outside / "moved" / "changed outside").write_text("1")
    (tree.outside / "moved").rename(tree.inside / "moved back")


def _delete_tree(tree: Watched) -> None:
    shutil.rmtree(_directories(tree.inside)[5])


def _links_and_fifos(tree: Watched) -> None:
    top = tree.inside / "kinds"
    top.mkdir()
    (top / "file").write_text("1")
    os.link(top / "file", top / "hard link")
    with (top / "hard link").open("a") as file:
        file.write("more")
    os.symlink("..", top / "up")
    os.symlink("nowhere", top / "dangling")
    os.mkfifo(top / "fifo")


def _names_of_random_bytes(tree: Watched) -> None:
    top = os.path.join(os.fsencode(tree.inside), b"bytes \xff\xfe")
    os.mkdir(top)
    rng = random.Random(7)
    allowed = [byte for byte in range(1, 256) if byte != 0x2F]
    for _ in range(300):
        name = bytes(rng.choices(allowed, k=rng.randrange(1, 255)))
        if name not in (b".", b".."):
            with open(os.path.join(top, name), "wb"):
                pass
    os.symlink(b"\xff target \xfe", os.path.join(top, b"link"))


def _exchange(tree: Watched) -> None:
    tops = _directories(tree.inside)
    exchange(os.fsencode(tops[0]), os.fsencode(tops[1]))


def _swap_by_a_third_name(tree: Watched) -> None:
    tops = _directories(tree.inside)
    tops[0].rename(tree.inside / "third")
    tops[1].rename(tops[0])
    (tree.inside / "third").rename(tops[1])


def _deep_paths_filled_at_once(tree: Watched) -> None:
    def fill(name: str) -> None:
        deep = tree.inside / name / "/".join("abcdefgh")
        deep.mkdir(parents=True)
        for number in range(50):
            (deep / f"f{number}").write_text("x")
            (deep.parent / f"g{number}").mkdir()

    threads = [threading.Thread(target=fill, args=(f"deep{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _tar(tree: Watched) -> None:
    source = tree.outside / "to pack"
    make_tree(source, directories=20, files_each=25)
    _run("tar", "-cf", tree.outside / "packed.tar", "-C", source, ".", cwd=tree.outside)
    (tree.inside / "unpacked").mkdir()
    _run("tar", "-xf", tree.outside / "packed.tar", "-C", tree.inside / "unpacked", cwd=tree.outside)


def _git_checkout(tree: Watched) -> None:
    top = tree.inside / "repository"
    top.mkdir()
    git = ("git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=one")
    _run(*git, "init", "-q", cwd=top)
    for number in range(100):
        (top / f"a{number}").write_text("one")
    _run(*git, "add", "-A", cwd=top)
    _run(*git, "commit", "-qm", "one", cwd=top)
    _run(*git, "checkout", "-qb", "two", cwd=top)
    for number in range(50):
        (top / f"a{number}").unlink()
        (top / f"b{number}").mkdir()
        (top / f"b{number}" / "c").write_text("two")
    _run(*git, "add", "-A", cwd=top)
    _run(*git, "commit", "-qm", "two", cwd=top)
    _run(*git, "checkout", "-q", "one", cwd=top)


def _copy(tree: Watched) -> None:
    _run("cp", "-a", _directories(tree.inside)[0], tree.inside / "copied", cwd=tree.inside)


def _remove(tree: Watched) -> None:
    _run("rm", "-rf", _directories(tree.inside)[6], cwd=tree.inside)


_OPERATIONS = [
    _create, _append, _truncate, _rename_files, _rename_directories, _move_out_and_in, _delete_tree,
    _links_and_fifos, _names_of_random_bytes, _exchange, _swap_by_a_third_name, _deep_paths_filled_at_once,
    _tar, _git_checkout, _copy, _remove,
]  # fmt: skip


def test_the_snapshot_of_a_large_tree_is_exact(large: Watched) -> None:
    large.assert_exact()


@pytest.mark.parametrize("operation", _OPERATIONS, ids=lambda operation: operation.__name__.strip("_"))
def test_an_operation_on_a_large_tree_is_in_the_view_after_one_sync(
    large: Watched, operation: Callable[[Watched], None]
) -> None:
    operation(large)
    large.assert_exact()


def test_a_large_tree_is_ready_and_nothing_was_lost(large: Watched) -> None:
    pipe = large.agent.status()["pipes"][0]
    assert pipe["counters"]["lost"] == 0
    until(lambda: large.agent.readyz()[0] == 200, within_s=30, what="the agent to be ready again")


@pytest.fixture
def deep(watched: Watched) -> Iterator[Path]:
    """The name of a directory that is about to become so deep that only `rm` removes it."""
    yield watched.inside / "deep"
    _run("rm", "-rf", watched.inside, cwd=watched.outside)


@pytest.mark.parametrize(
    ("length", "levels"), [(1, 1_000), (255, 40), pytest.param(255, 1_000, marks=pytest.mark.chaos)]
)
def test_what_is_far_down_comes_moves_and_goes(watched: Watched, deep: Path, length: int, levels: int) -> None:
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(levels):  # by descriptor: no system call takes so long a path
        os.mkdir("d" * length, dir_fd=here)
        os.close(os.open("f" * length, os.O_CREAT | os.O_WRONLY, dir_fd=here))
        below = os.open("d" * length, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    watched.assert_exact("came")
    deep.rename(watched.inside / "d0" / "moved")
    os.close(os.open("after", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    watched.assert_exact("moved")
    _run("rm", "-r", "moved", cwd=watched.inside / "d0")
    watched.assert_exact("went")


def test_a_root_that_is_removed_and_made_again_is_the_view_again(watched: Watched) -> None:
    def is_exact() -> bool:
        try:
            return watched.agent.differences(watched.inside) == []
        except AgentFailed:
            return False  # a sync is refused until the root that was missed has been looked for again

    for is_missed in (False, True):
        _run("rm", "-r", watched.inside, cwd=watched.outside)
        if is_missed:
            until(lambda: watched.agent.readyz()[0] == 503, within_s=60, what="the root to be missed")
        (watched.inside / "again" / "deep").mkdir(parents=True)
        (watched.inside / "again" / "deep" / "file").touch()
        until(is_exact, within_s=60, what="the view to be the new tree")
        (watched.inside / "again" / "watched").touch()
        watched.assert_exact("a change below the new root")


def test_two_hundred_times_one_operation_then_one_comparison(watched: Watched) -> None:
    seed = random.randrange(1 << 30)
    operations = RandomTree(watched.inside, watched.outside, random.Random(seed))
    for number in range(200):
        said = operations.step()
        watched.assert_exact(f"seed {seed}, operation {number}: {said}")


def test_random_operations_of_several_writers_converge(watched: Watched) -> None:
    seed = random.randrange(1 << 30)
    for round_number in range(6):
        writers = [
            RandomTree(watched.inside, watched.outside, random.Random(f"{seed}-{round_number}-{each}"))
            for each in range(3)
        ]
        _let_write(writers, 60)
        for writer in writers:
            writer.show_links()
        watched.assert_exact(f"seed {seed}, round {round_number}")


def test_a_burst_of_fifty_thousand_files_is_exact(watched: Watched) -> None:
    for number in range(50_000):
        os.close(os.open(watched.inside / f"b{number}", os.O_CREAT | os.O_WRONLY))
    watched.assert_exact()
    assert watched.agent.status()["pipes"][0]["counters"]["lost"] == 0


_WORKERS = ("watch.source", "watch.pusher", "fusion", "console")


@pytest.mark.parametrize(
    "workers",
    [_WORKERS, *(pytest.param((each,), marks=pytest.mark.chaos) for each in _WORKERS)],
    ids=lambda workers: workers[0] if len(workers) == 1 else "all",
)
def test_killing_workers_ten_times_each_under_load_loses_nothing(watched: Watched, workers: tuple[str, ...]) -> None:
    seed = random.randrange(1 << 30)
    writer = RandomTree(watched.inside, watched.outside, random.Random(seed))
    with writer.at_work(pause_s=0), ThreadPoolExecutor(len(workers)) as killers:
        list(killers.map(lambda worker: _kill_ten_times(watched.agent, worker), workers))
    watched.agent.wait_ready(60)
    watched.assert_exact(f"seed {seed}\n" + "\n".join(writer.log[-20:]))


def test_killing_random_workers_during_the_snapshot_loses_nothing(tmp_path: Path, start_agent) -> None:
    make_tree(tmp_path / "in", directories=1_000, files_each=100)
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    agent = start_agent(watch=tmp_path / "in")
    for _ in range(10):
        until(lambda: _has_workers(agent), within_s=60, what="all workers to run")
        worker = rng.choice(["watch.source", "watch.pusher", "fusion"])
        pid = agent.kill(worker)
        until(lambda worker=worker, pid=pid: _is_replaced(agent, worker, pid), within_s=60, what=f"a new {worker}")
    agent.wait_ready(90)
    Watched(agent, tmp_path / "in", tmp_path).assert_exact(f"seed {seed}")


def test_a_killed_supervisor_leaves_no_process_and_the_next_start_works(watched: Watched) -> None:
    pids = list(watched.agent.worker_pids().values())
    assert len(pids) == 4
    assert watched.agent.process is not None
    watched.agent.process.kill()
    watched.agent.process.wait()
    until(lambda: not any(is_alive(pid) for pid in pids), within_s=2, what="every worker to be gone")
    (watched.inside / "while nobody looked").write_text("1")
    shutil.rmtree(watched.inside / "d3")
    watched.agent.start()
    watched.agent.wait_ready()
    watched.assert_exact()


def _kill_ten_times(agent: AgentUnderTest, worker: str) -> None:
    """Kill each successor too; the status comes from the file, since the console may be the one that is killed."""
    killed: set[int] = set()

    def find() -> int | None:
        workers = json.loads((agent.home / "state" / "status.json").read_text())["workers"]
        found = next(each for each in workers if each["name"] == worker)
        return found["pid"] if found["state"] == "running" and found["pid"] not in killed else None

    for _ in range(10):
        pid = until(find, within_s=60, what=f"a new {worker}")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)


def _let_write(writers: list[RandomTree], steps: int) -> None:
    threads = [threading.Thread(target=_write, args=(writer, steps)) for writer in writers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _write(writer: RandomTree, steps: int) -> None:
    for _ in range(steps):
        writer.step()


def _is_replaced(agent: AgentUnderTest, worker: str, old: int) -> bool:
    try:
        found = {each["name"]: each for each in agent.status()["workers"]}[worker]
    except (AgentFailed, OSError, KeyError):
        return False  # the console may be the one that was killed
    return found["pid"] not in (None, old) and found["state"] == "running"


def _has_workers(agent: AgentUnderTest) -> bool:
    try:
        return all(worker["state"] == "running" for worker in agent.status()["workers"])
    except (AgentFailed, OSError):
        return False
