"""Mount points below the root: parsed, compared, and seen when they change."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fustor_source_fs.mounts import find_changed, parse_mounts

LINE = b"36 35 98:0 /mnt1 %b rw,noatime master:1 - ext3 /dev/root rw,errors=continue"


def lines(*points: bytes) -> bytes:
    return b"".join(LINE % point + b"\n" for point in points)


def test_only_what_is_mounted_below_the_root_counts():
    found = parse_mounts(lines(b"/", b"/data", b"/data/a", b"/database", b"/data/b/c", b"/other"), b"/data")
    assert set(found) == {b"/a", b"/b/c"}


def test_everything_is_below_the_root_of_the_system_but_itself():
    assert set(parse_mounts(lines(b"/", b"/a"), b"/")) == {b"/a"}


def test_escaped_bytes_of_a_mount_point_are_taken_back():
    assert set(parse_mounts(lines(rb"/d/a\040b\011c\012d\134e"), b"/d")) == {b"/a b\tc\nd\\e"}


def test_bytes_that_are_no_text_are_kept():
    assert set(parse_mounts(lines(b"/d/\xff\xfe"), b"/d")) == {b"/\xff\xfe"}


def test_the_last_of_several_mounts_at_one_place_is_what_is_there():
    first = LINE % b"/d/a"
    second = first.replace(b"36 35 98:0", b"40 36 99:1")
    assert find_changed(parse_mounts(first, b"/d"), parse_mounts(first + b"\n" + second, b"/d")) == [b"/a"]


def test_what_came_went_or_is_another_mount_has_changed():
    before = {b"/stays": b"1", b"/goes": b"2", b"/other": b"3"}
    after = {b"/stays": b"1", b"/other": b"4", b"/comes": b"5"}
    assert find_changed(before, after) == [b"/comes", b"/goes", b"/other"]


SCRIPT = """
import ctypes, os, subprocess, sys
from pathlib import Path

sys.path[:0] = sys.argv[2].split(":")
from conftest import Pump, make_source
from fustor_core.errors import Unavailable

base = Path(sys.argv[1])
inside, outside = base / "in", base / "out"
pump = Pump(make_source(inside, poll_interval_s=0.01), inside)
pump.begin()


def run(*words):
    subprocess.run(words, check=True)


def settle(what, done):
    while not done():  # ended by the deadline of the test
        if not pump.step():
            pump.source.wait(0.05)
    pump.sync()
    found = pump.differences()
    assert not found, f"{what}: {found}"


def has(path):
    return lambda: path in pump.view.rows


def lacks(path):
    return lambda: path not in pump.view.rows


run("mount", "--bind", outside, inside / "place")
settle("bind mount", has(b"/place/deep/leaf"))
(inside / "place" / "deep" / "new").write_text("through the mount")
settle("change through the mount", has(b"/place/deep/new"))

run("mount", "--bind", outside, inside / "second")
settle("second place of the same directory", has(b"/second/deep/leaf"))
(outside / "deep" / "both").write_text("seen at both places")
settle("change at both places", lambda: has(b"/place/deep/both")() and has(b"/second/deep/both")())
(outside / "deep").rename(outside / "renamed")
settle("rename at both places", lambda: has(b"/place/renamed/both")() and has(b"/second/renamed/both")())

run("umount", inside / "second")
settle("unmount of one of two", lacks(b"/second/renamed"))
(inside / "place" / "renamed" / "still").write_text("the other place still tells")
settle("change after the unmount", has(b"/place/renamed/still"))

run("umount", inside / "place")
settle("unmount", has(b"/place/covered"))
(inside / "place" / "again").write_text("what was covered tells again")
settle("change of what was covered", has(b"/place/again"))

run("mount", "-t", "tmpfs", "none", inside / "place")
settle("another file system", lacks(b"/place/covered"))
(inside / "place" / "on-tmpfs").write_text("")
settle("change on another file system", has(b"/place/on-tmpfs"))
run("umount", inside / "place")
settle("end of the other file system", has(b"/place/covered"))

library = ctypes.CDLL("librt.so.1", use_errno=True)
run("mount", "-t", "mqueue", "none", inside / "place")
queue = library.mq_open(b"/queue", os.O_CREAT | os.O_RDWR, 0o600, None)
assert queue >= 0, os.strerror(ctypes.get_errno())
message = ctypes.create_string_buffer(8192)


def exchange_a_message():
    assert library.mq_send(queue, message, 5, 0) == 0 and library.mq_receive(queue, message, 8192, None) == 5


def await_poll():
    while pump.differences():  # ended by the deadline of the test
        if not pump.step():
            pump.source.wait(0.05)


await_poll()
assert has(b"/place/queue")()
while not pump.differences():  # the times there are of whole seconds
    exchange_a_message()  # of which no record tells
await_poll()
try:
    pump.sync()
    raise SystemExit("a sync promised what it cannot know")
except Unavailable as err:
    assert "on file systems that others change without an event here" in str(err), err
os.close(queue)
run("umount", inside / "place")
settle("end of the silent file system", has(b"/place/covered"))


def at_once(what):
    pump.sync()
    found = pump.differences()
    assert not found, f"{what}: {found}"


for _ in range(5):
    run("mount", "-t", "tmpfs", "none", inside / "place")
    at_once("a mount that nobody waited for")
    run("umount", inside / "place")
    at_once("an unmount that nobody waited for")
run("mount", "-t", "tmpfs", "none", inside)
(inside / "on-top").write_text("")
at_once("a mount over the root")
run("umount", inside)
at_once("the root again")
run("mount", "--bind", inside / "place", inside / "second")
at_once("one directory at two places")
(inside / "place").rename(inside / "renamed")
at_once("one of two places renamed")
run("umount", inside / "second")
at_once("the renamed place alone")
pump.close()
print("all seen")
"""


def may_mount() -> bool:
    words = ["unshare", "--mount", "--ipc", "sh", "-c", "mount -t mqueue none /mnt"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.mark.timeout(120)
def test_mounts_binds_and_unmounts_below_the_root_are_seen_and_silent_ones_are_polled(tree):
    if not may_mount():
        pytest.skip("mounting in a namespace of its own (unshare --mount --ipc) is not permitted to this user")
    inside, outside = tree
    for name in ("place", "second"):
        (inside / name).mkdir()
    (inside / "place" / "covered").write_text("")
    (outside / "deep").mkdir()
    (outside / "deep" / "leaf").write_text("")
    here = Path(__file__).parent
    words = ["unshare", "--mount", "--ipc", sys.executable, "-c", SCRIPT, inside.parent, f"{here}:{here.parent}/lib"]
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=100, env=dict(os.environ))
    assert done.stdout == "all seen\n", done.stdout + done.stderr
