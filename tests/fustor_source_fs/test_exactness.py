"""What users' programs do to a tree, done by processes of their own while the source works: all of it is seen."""

import mmap
import multiprocessing
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from treeops import exchange

_process = multiprocessing.get_context("fork").Process


def beside(pump: Any, *writers: Callable[[], None]) -> None:
    """Let writers run, each in a process of its own, while the source works; then the view must be the tree."""
    processes = [_process(target=writer) for writer in writers]
    for process in processes:
        process.start()
    while any(process.is_alive() for process in processes):
        if not pump.step():
            pump.source.wait(0.01)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)
    exact(pump)


def exact(pump: Any, context: object = "") -> None:
    pump.sync()
    pump.assert_exact(context)
    status = pump.source.get_status()
    assert (status.pending, status.dirty, status.not_current_because) == (0, 0, None)


def fill(top: Path, *, levels: int = 8, files: int = 10) -> None:
    """Make a deep tree with files and empty directories on each level; others may be making it too."""
    for level in range(levels):
        top = top / f"level{level}"
        top.mkdir(parents=True, exist_ok=True)
        for number in range(files):
            (top / f"f{os.getpid()}-{number}").write_text("x" * number)
            (top / f"d{os.getpid()}-{number}").mkdir()


def test_fresh_deep_directories_that_four_processes_fill_at_once_are_complete(inside, pump):
    pump.begin()
    beside(pump, *[lambda: [fill(inside / f"top{number}") for number in range(4)] for _ in range(4)])


def test_a_tree_that_is_moved_in_while_it_is_filled_is_complete(inside, outside, pump):
    pump.begin()
    ready, moved = os.pipe(), os.pipe()

    def fill_from_within() -> None:
        (outside / "tree").mkdir()
        os.chdir(outside / "tree")  # it goes on in the same directory wherever that is
        for number in range(400):
            if number == 100:
                os.write(ready[1], b"1")
            if number == 300:
                os.read(moved[0], 1)
            Path(f"sub{number}").mkdir()
            Path(f"sub{number}/f").write_text(str(number))
            Path(f"f{number}").write_text("")

    def move() -> None:
        os.read(ready[0], 1)
        (outside / "tree").rename(inside / "first")
        (inside / "first").rename(inside / "second")
        os.write(moved[1], b"1")

    beside(pump, fill_from_within, move)
    assert b"/second/sub399/f" in pump.view.rows
    for end in (*ready, *moved):
        os.close(end)


def test_chains_of_renames_and_names_taken_again_end_as_they_are(inside, pump):
    for name in ("a", "b", "c"):
        fill(inside / name, levels=3, files=2)
    pump.begin()

    def chains() -> None:
        for number in range(60):
            (inside / "c").rename(inside / f"old{number}")
            (inside / "b").rename(inside / "c")
            (inside / "a").rename(inside / "b")
            fill(inside / "a", levels=2, files=1)

    def files() -> None:
        for number in range(300):
            (inside / "f1").write_text(str(number))
            (inside / "f1").rename(inside / "f2")
            (inside / "f2").replace(inside / "f3")

    beside(pump, chains, files)


def test_exchanges_of_trees_while_others_write_in_them_end_as_they_are(inside, pump):
    for name in ("a", "b"):
        fill(inside / name, levels=3, files=2)
    (inside / "file").write_text("")
    pump.begin()

    def swap() -> None:
        for number in range(101):
            exchange(bytes(inside / "a"), bytes(inside / ("b" if number % 3 else "file")))

    def write() -> None:
        for number in range(400):
            for name in ("a", "b", "file"):
                try:
                    (inside / name / "level0" / f"w{number}").write_text("")
                except (FileNotFoundError, NotADirectoryError):
                    continue  # it is the file now

    beside(pump, swap, write)


def test_renames_over_files_and_over_empty_directories_leave_what_came(inside, pump):
    for number in range(20):
        (inside / f"victim{number}").write_text("old")
        (inside / f"empty{number}").mkdir()
    pump.begin()

    def replace() -> None:
        for number in range(20):
            (inside / "new").write_text(f"new {number}")
            (inside / "new").replace(inside / f"victim{number}")
            fill(inside / "full", levels=3, files=1)
            (inside / "full").rename(inside / f"empty{number}")

    beside(pump, replace)


def save(path: Path) -> None:
    """Save as editors do: beside it, synced, renamed over it."""
    temporary = path.with_name(f".{path.name}.swp")
    with temporary.open("w") as file:
        file.write("saved")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_with_backup(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text("saved, the old one kept")


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("more")


def truncate(path: Path) -> None:
    os.truncate(path, 1)


def map_and_write(path: Path) -> None:
    """Write through a mapping; the kernel says so when the last user of the open file lets go."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:4] = b"ABCD"


def make_sparse(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1 << 40)
        file.write(b"end")
        os.posix_fallocate(file.fileno(), 0, 4096)


def date_back(path: Path) -> None:
    os.utime(path, ns=(-1, -(10**18)))


def date_ahead(path: Path) -> None:
    os.utime(path, ns=(1, 4_000_000_000 * 10**9))


def write_past_the_close(path: Path) -> None:
    """A child goes on writing through a descriptor that its parent has closed."""
    with path.open("a") as file:
        subprocess.run(["sh", "-c", "echo late"], stdout=file, check=True)


@pytest.mark.parametrize(
    "change",
    [save, save_with_backup, append, truncate, map_and_write, make_sparse, date_back, date_ahead, write_past_the_close],
    ids=lambda change: change.__name__,
)
def test_every_way_of_changing_a_file_is_seen_at_once(inside, pump, change):
    (inside / "d").mkdir()
    (inside / "d" / "file").write_text("content")
    pump.begin()
    change(inside / "d" / "file")
    exact(pump)


def test_a_root_that_is_deleted_and_made_again_is_watched_again(tree, make_pump):
    root = tree[0] / "root"
    fill(root, levels=2, files=2)
    pump = make_pump(root)
    pump.begin()
    for number in range(3):
        subprocess.run(["rm", "-r", root], check=True)
        fill(root / f"again{number}", levels=2, files=2)
        exact(pump, number)
        (root / "after").write_text("watched")
        exact(pump, number)


def test_loops_of_symbolic_links_are_names_like_others(inside, pump):
    for top in (inside, inside / "d"):
        top.mkdir(exist_ok=True)
        os.symlink("self", top / "self")
        os.symlink("..", top / "up")
        os.symlink(inside, top / "whole")
        os.symlink("two", top / "one")
        os.symlink("one", top / "two")
    pump.begin()
    (inside / "whole" / "d" / "up" / "d" / "through many").write_text("")
    (inside / "d" / "self").unlink()
    (inside / "d" / "self").mkdir()
    (inside / "d" / "self" / "no loop any more").write_text("")
    exact(pump)
    assert not [path for path in pump.view.rows if path.startswith((b"/whole/", b"/up/", b"/d/up/"))]


_DEEP = """
import os, sys
os.chdir(sys.argv[1])
for level in range(40):
    name = f"{level:03}" + "x" * 252  # 255 bytes, the most
    os.mkdir(name)
    os.close(os.open("f" * 255, os.O_CREAT | os.O_WRONLY))
    os.chdir(name)
"""


def test_paths_of_ten_thousand_bytes_of_names_of_255_are_seen_and_moved(inside, outside, pump):
    pump.begin()
    subprocess.run([sys.executable, "-c", _DEEP, inside], check=True)
    exact(pump)
    assert max(len(path) for path in pump.view.rows) > 10_000
    next(path for path in inside.iterdir() if path.is_dir()).rename(outside / "away")
    exact(pump)
    (outside / "away").rename(inside / "back")
    exact(pump)
    subprocess.run(["rm", "-r", inside / "back"], check=True)
    exact(pump)


@pytest.mark.parametrize(
    "count", [5_000, pytest.param(1_000_000, marks=[pytest.mark.chaos, pytest.mark.timeout(1800)])]
)
def test_one_directory_with_very_many_entries_comes_changes_and_goes(inside, pump, count):
    pump.begin()
    top = inside / "many"

    def make() -> None:
        top.mkdir()
        os.chdir(top)
        for number in range(count):
            os.close(os.open(f"{number}", os.O_CREAT | os.O_WRONLY))

    def change() -> None:
        os.chdir(top)
        for number in range(0, count, 2):
            os.unlink(f"{number}")
        for number in range(1, count, 4):
            os.rename(f"{number}", f"renamed {number}")

    beside(pump, make)
    beside(pump, change)
    beside(pump, lambda: subprocess.run(["rm", "-r", top], check=True) and None)
    assert set(pump.view.get_entries()) == set()


@pytest.fixture
def deep(inside: Path) -> Iterator[Path]:
    """The name of a directory that is about to become so deep that only `rm` removes it."""
    yield inside / "deep"
    subprocess.run(["rm", "-rf", inside / "deep"], check=True)


def test_what_is_remembered_of_a_directory_grows_with_its_name_and_not_with_its_path(deep, pump):
    levels, name = 400, "n" * 200  # 80 kB of names, 16 MB of paths
    deep.mkdir()
    here = os.open(deep, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=here)
        below = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    pump.take = lambda item: item.position is None or pump.source.acknowledge(item.position)  # and do not keep it
    tracemalloc.start()
    try:
        pump.start_snapshot()
        pump.finish_snapshot()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert pump.source.get_status().details["watches"] == levels + 2
    assert taken < 4_000_000
