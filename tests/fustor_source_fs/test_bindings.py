"""The system calls of inotify, as they are."""

import errno
import fcntl
import os

import pytest

from fustor_source_fs import bindings
from fustor_source_fs.bindings import Inotify
from fustor_source_fs.records import parse_records


@pytest.fixture
def inotify():
    made = Inotify()
    yield made
    made.close()


@pytest.fixture
def watch(inotify):
    """Watch directories; each stays open until the end."""
    opened = []

    def add(path) -> int:
        opened.append(os.open(path, os.O_RDONLY))
        return inotify.add_watch(opened[-1])

    yield add
    for descriptor in opened:
        os.close(descriptor)


def test_the_descriptor_never_blocks_and_never_reaches_another_program(inotify):
    assert not os.get_blocking(inotify.fd)
    assert fcntl.fcntl(inotify.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    assert inotify.read(4096) == b""


def test_the_watched_directory_is_that_of_the_descriptor_whatever_became_of_its_path(tmp_path, inotify, watch):
    (tmp_path / "a").mkdir()
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "a").mkdir()
    inotify.add_watch(descriptor)
    os.close(descriptor)
    (tmp_path / "a" / "wrong").mkdir()
    (tmp_path / "b" / "right").mkdir()
    assert [each.name for each in parse_records(inotify.read(4096))] == [b"right"]


def test_one_directory_has_one_watch_however_often_it_is_added(tmp_path, watch):
    assert watch(tmp_path) == watch(tmp_path)


def test_only_directories_can_be_watched(tmp_path, watch):
    (tmp_path / "f").write_text("")
    with pytest.raises(OSError, match="Not a directory") as caught:
        watch(tmp_path / "f")
    assert caught.value.errno == errno.ENOTDIR


def test_a_removed_watch_tells_nothing_more_and_may_be_removed_again(tmp_path, inotify, watch):
    number = watch(tmp_path)
    inotify.remove_watch(number)
    inotify.remove_watch(number)
    (tmp_path / "d").mkdir()
    assert [each.mask for each in parse_records(inotify.read(4096))] == [bindings.IN_IGNORED]


def test_the_queued_bytes_are_those_that_a_read_gives(tmp_path, inotify, watch):
    watch(tmp_path)
    assert inotify.get_queued_bytes() == 0
    for number in range(10):
        (tmp_path / f"d{number}").mkdir()
    queued = inotify.get_queued_bytes()
    assert queued == len(inotify.read(1 << 20)) > 0


def test_a_log_file_that_never_closes_is_told_of(tmp_path, inotify, watch):
    with open(tmp_path / "log", "wb", buffering=0) as log:
        watch(tmp_path)
        log.write(b"line")
        assert [each.mask for each in parse_records(inotify.read(4096))] == [bindings.IN_MODIFY]


def test_a_watch_that_is_refused_says_why(tmp_path, inotify):
    (tmp_path / "file").touch()
    with open(tmp_path / "file") as file, pytest.raises(OSError, match="Not a directory"):
        inotify.add_watch(file.fileno())


def test_a_lack_of_watches_names_the_limit():
    assert bindings._explain(errno.ENOSPC) == "No space left on device; raise fs.inotify.max_user_watches"
