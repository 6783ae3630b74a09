"""Directories that the user may not read, looked at without the powers of root."""

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

NOBODY = 65534


def run_as_nobody(check: Callable[[], None]) -> None:
    """Run a check in a forked child that has no capabilities."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            check()
            status = 0
        except BaseException:  # the child must never return into the test run
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "see what the child has printed"


@pytest.fixture
def inside() -> Iterator[Path]:
    """A directory that nobody owns; those of pytest cannot be reached by others."""
    base = Path(tempfile.mkdtemp(prefix="unreadable-"))
    made = base / "in"
    made.mkdir()
    if os.getuid() == 0:
        base.chmod(0o755)
        os.chown(made, NOBODY, NOBODY)
    yield made
    for path, _, _ in os.walk(base):
        os.chmod(path, 0o700)
    shutil.rmtree(base)


def make(path: Path, *names: str) -> Path:
    path.mkdir(parents=True)
    for name in names:
        (path / name).write_text(name)
    return path


def skipped(pump) -> dict[str, str]:
    return dict(pump.source.get_status().skipped)


def test_an_unreadable_directory_is_skipped_said_and_recovered_when_it_is_permitted(inside, start_pump):
    def check() -> None:
        make(inside / "closed" / "below", "f")
        make(inside / "open", "g")
        (inside / "closed").chmod(0)
        pump = start_pump(retry_unreadable_s=3600.0)
        pump.begin()
        assert skipped(pump) == {"/closed": "Permission denied"}
        assert set(pump.view.get_entries()) == {b"/closed", b"/open", b"/open/g"}
        assert pump.source.get_status().not_current_because is None
        (inside / "closed").chmod(0o700)
        pump.sync()
        pump.assert_exact()
        assert skipped(pump) == {}
        (inside / "closed" / "below" / "new").write_text("watched")
        pump.sync()
        pump.assert_exact()

    run_as_nobody(check)


def test_of_a_path_that_no_system_call_takes_the_end_is_shown(inside, start_pump):
    def check() -> None:
        here = os.open(inside, os.O_RDONLY)
        for _ in range(20):
            os.mkdir("d" * 255, dir_fd=here)
            below = os.open("d" * 255, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.mkdir("closed", 0, dir_fd=here)
        os.close(here)
        pump = start_pump()
        pump.begin()
        (shown,) = skipped(pump)
        assert shown.startswith("...d")
        assert shown.endswith("d/closed")
        assert len(shown) == 4_096

    run_as_nobody(check)


def test_what_becomes_unreadable_keeps_its_rows_and_is_listed_when_it_is_permitted_again(inside, start_pump):
    def check() -> None:
        make(inside / "d", "f")
        pump = start_pump(retry_unreadable_s=3600.0)
        pump.begin()
        (inside / "d").chmod(0)
        pump.source.rescan(b"/")
        pump.sync()
        assert b"/d/f" in pump.view.rows
        assert skipped(pump) == {"/d": "Permission denied"}
        (inside / "d").chmod(0o700)
        pump.sync()
        pump.assert_exact()
        assert skipped(pump) == {}

    run_as_nobody(check)


def test_permission_that_is_given_while_too_much_is_pending_is_seen_too(inside, start_pump):
    def check() -> None:
        make(inside / "d", "f")
        (inside / "d").chmod(0)
        pump = start_pump(retry_unreadable_s=3600.0, max_pending=0)
        pump.begin()
        (inside / "d").chmod(0o700)
        pump.sync()
        pump.assert_exact()

    run_as_nobody(check)


def test_a_directory_that_may_be_listed_but_not_searched_promises_nothing(inside, start_pump):
    def check() -> None:
        make(inside / "d", "f")
        pump = start_pump(retry_unreadable_s=3600.0)
        pump.begin()
        (inside / "d").chmod(0o400)
        pump.source.rescan(b"/d")
        pump.sync()
        assert b"/d/f" in pump.view.rows
        assert skipped(pump) == {"/d": "Permission denied"}
        (inside / "d").chmod(0o700)
        pump.sync()
        pump.assert_exact()

    run_as_nobody(check)


def test_an_unreadable_directory_is_retried_by_itself(inside, start_pump):
    def check() -> None:
        make(inside / "top" / "d", "f")
        (inside / "top" / "d").chmod(0)
        pump = start_pump(retry_unreadable_s=0.01)
        pump.begin()
        descriptor = os.open(inside / "top", os.O_RDONLY)
        (inside / "top" / "d").chmod(0o700)
        os.close(descriptor)
        pump.source._reader.take()  # nobody hears of it
        while b"/top/d/f" not in pump.view.rows:  # ended by the deadline of the test
            if not pump.step():
                pump.source.wait(1.0)

    run_as_nobody(check)


def test_an_audit_that_could_not_read_everything_is_not_complete(inside, start_pump):
    def check() -> None:
        make(inside / "closed", "f")
        make(inside / "open", "g")
        (inside / "closed").chmod(0)
        pump = start_pump(retry_unreadable_s=3600.0)
        pump.begin()
        *items, end = pump.source.get_audit_iterator("full")
        assert end.complete is False
        assert b"/open/g" in {item.prefix + row.path for item in items for row in getattr(item, "rows", ())}

    run_as_nobody(check)


def test_one_unreadable_directory_does_not_make_a_snapshot_fail(inside, start_pump):
    def check() -> None:
        make(inside / "closed", "f")
        make(inside / "open", "g")
        (inside / "closed").chmod(0)
        pump = start_pump()
        pump.start_snapshot()
        pump.finish_snapshot()
        assert pump.items[-1].complete
        assert b"/open/g" in pump.view.rows

    run_as_nobody(check)


def test_a_barrier_tries_again_what_an_unreadable_ancestor_hid(inside, start_pump):
    def check() -> None:
        make(inside / "closed" / "below", "f")
        pump = start_pump(retry_unreadable_s=3600.0)
        pump.begin()
        with open(inside / "closed" / "below" / "f", "a") as file:
            (inside / "closed").chmod(0)
            file.write("more")
        pump.sync()
        assert skipped(pump) == {"/closed/below": "Permission denied"}
        (inside / "closed").chmod(0o700)
        pump.sync()
        pump.assert_exact()
        assert skipped(pump) == {}

    run_as_nobody(check)
