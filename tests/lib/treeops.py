"""Random operations on a tree: everything that a user's programs do to theirs."""

import ctypes
import mmap
import os
import random
import shutil
import socket
import stat
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_RENAME_EXCHANGE = 2
_COPIED_LEVELS = 30
_libc = ctypes.CDLL(None, use_errno=True)


def exchange(first: bytes, second: bytes) -> None:
    """Swap two names in one step (renameat2 with RENAME_EXCHANGE)."""
    if _libc.renameat2(-100, first, -100, second, _RENAME_EXCHANGE) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


class RandomTree:
    """
    Applies random operations to a directory, and to a second one outside it.

    Args:
        inside: The tree that is watched.
        outside: A directory on the same file system, not watched, to move things from and to.
        rng: Decides everything.
    """

    def __init__(self, inside: Path, outside: Path, rng: random.Random) -> None:
        self.inside = os.fsencode(inside)
        self.outside = os.fsencode(outside)
        self.rng = rng
        self.log: list[str] = []
        self.linked: set[int] = set()
        """Inode numbers of the files that this writer gave a second name."""
        self._operations: list[tuple[int, Callable[[], str]]] = [
            (6, self.create), (5, self.append), (2, self.truncate), (5, self.make_directory), (3, self.make_deep),
            (6, self.rename), (4, self.rename_over), (3, self.swap), (3, self.exchange), (4, self.move_out),
            (4, self.move_in), (4, self.delete), (2, self.delete_tree), (2, self.link), (2, self.symlink),
            (1, self.fifo), (1, self.socket), (2, self.change_mode), (2, self.change_times), (2, self.copy_tree),
            (2, self.replace), (1, self.recreate_directory), (1, self.chain), (1, self.write_mapped),
            (1, self.make_sparse),
        ]  # fmt: skip

    def step(self) -> str:
        """Do one operation and say which; what the file system refuses is an operation too."""
        weights = [weight for weight, _ in self._operations]
        operation = self.rng.choices([each for _, each in self._operations], weights)[0]
        try:
            said = operation()
        except OSError as err:
            said = f"{operation.__name__} refused: {err.strerror}"
        self.log.append(said)
        return said

    def show_links(self) -> None:
        """
        Cause an event at every name of the linked files; nobody may be writing.

        Nothing comes at one name for what happened through another, and one that came and went
        between two looks was never known: without this, a view cannot know of it.
        """
        show_links(self.inside, self.linked)

    @contextmanager
    def at_work(self, *, pause_s: float) -> Iterator[None]:
        """Do operations in a thread, with a pause after each, for the time of a `with` block; then show the links."""
        stop = threading.Event()

        def work() -> None:
            while not stop.wait(pause_s):
                self.step()

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        self.show_links()

    # -- choosing ---------------------------------------------------------------------------

    def _directories(self) -> list[bytes]:
        return [path for path, _, _ in os.walk(self.inside)]

    def _directory(self) -> bytes:
        return self.rng.choice(self._directories())

    def _entries(self, *, directories: bool = True, files: bool = True) -> list[bytes]:
        found: list[bytes] = []
        for path, below, names in os.walk(self.inside):
            if directories:
                found += [os.path.join(path, name) for name in below]
            if files:
                found += [os.path.join(path, name) for name in names]
        return found

    def _entry(self, *, directories: bool = True, files: bool = True) -> bytes:
        found = self._entries(directories=directories, files=files)
        return self.rng.choice(found) if found else self.create_at(self._fresh())

    def _name(self) -> bytes:
        if self.rng.random() < 0.15:
            allowed = [byte for byte in range(1, 256) if byte != 0x2F]
            name = bytes(self.rng.choices(allowed, k=self.rng.choice((1, 2, 5, 30, 255))))
            return name if name not in (b".", b"..") else b"dot"
        return self.rng.choice((b"a", b"b", b"c", b"d", b"e", b"f.txt", b"g.log", b"\xe4\xb8\xad", b"h h"))

    def _fresh(self) -> bytes:
        for _ in range(20):
            path = os.path.join(self._directory(), self._name())
            if not os.path.lexists(path):
                return path
        return os.path.join(self.inside, b"n%d" % self.rng.getrandbits(60))

    def _elsewhere(self) -> bytes:
        return os.path.join(self.outside, b"o%d" % self.rng.getrandbits(60))

    def _populate(self, top: bytes) -> None:
        os.mkdir(top)
        for _ in range(self.rng.randrange(4)):
            below = os.path.join(top, self._name())
            if not os.path.lexists(below):
                if self.rng.random() < 0.5:
                    os.mkdir(below)
                    self.create_at(os.path.join(below, b"leaf"))
                else:
                    self.create_at(below)

    # -- operations -------------------------------------------------------------------------

    def create_at(self, path: bytes) -> bytes:
        with open(path, "wb", opener=_open_at_once) as file:
            file.write(b"x" * self.rng.randrange(2000))
        return path

    def create(self) -> str:
        return f"create {self.create_at(self._fresh())!r}"

    def append(self) -> str:
        path = self._regular()
        with open(path, "ab", opener=_open_at_once) as file:
            file.write(b"y" * self.rng.randrange(1, 100))
        return f"append {path!r}"

    def truncate(self) -> str:
        path = self._regular()
        os.truncate(path, self.rng.randrange(100))
        return f"truncate {path!r}"

    def write_mapped(self) -> str:
        path = self._regular()
        with open(path, "r+b", opener=_open_at_once) as file, open("/dev/zero", "rb") as zeros:
            file.truncate(self.rng.randrange(1, 9000))
            try:
                with mmap.mmap(file.fileno(), 0) as mapped, memoryview(mapped) as memory:
                    os.readv(zeros.fileno(), [memory])  # refused, and no SIGBUS, where another writer truncates it
            except ValueError:
                return f"nothing left of {path!r} to write by mmap"
        return f"write {path!r} by mmap"

    def make_sparse(self) -> str:
        path = self._regular()
        with open(path, "r+b", opener=_open_at_once) as file:
            file.seek(self.rng.randrange(1 << 20))
            file.write(b"end")
        return f"make {path!r} sparse"

    def _regular(self) -> bytes:
        found = [path for path in self._entries(directories=False) if os.path.isfile(path) and not os.path.islink(path)]
        return self.rng.choice(found) if found else self.create_at(self._fresh())

    def make_directory(self) -> str:
        path = self._fresh()
        os.mkdir(path)
        return f"mkdir {path!r}"

    def make_deep(self) -> str:
        path = self._fresh()
        deep = os.path.join(path, *[self._name()[:40] for _ in range(self.rng.randrange(1, 8))])
        os.makedirs(deep, exist_ok=True)
        for number in range(self.rng.randrange(4)):
            self.create_at(os.path.join(deep, b"deep%d" % number))
        return f"mkdir -p {deep!r}, filled"

    def rename(self) -> str:
        source, target = self._entry(), self._fresh()
        os.rename(source, target)
        return f"rename {source!r} {target!r}"

    def rename_over(self) -> str:
        source, target = self._entry(), self._entry()
        os.rename(source, target)
        return f"rename {source!r} over {target!r}"

    def swap(self) -> str:
        first, second, third = self._entry(files=False), self._entry(files=False), self._fresh()
        os.rename(first, third)
        os.rename(second, first)
        os.rename(third, second)
        return f"swap {first!r} and {second!r} by way of {third!r}"

    def exchange(self) -> str:
        first, second = self._entry(), self._entry()
        exchange(first, second)
        return f"exchange {first!r} and {second!r}"

    def chain(self) -> str:
        first, second = self._entry(), self._fresh()
        os.rename(first, second)
        os.mkdir(first)
        third = self._fresh()
        os.rename(second, third)
        self.create_at(os.path.join(first, b"born"))
        return f"chain {first!r} {second!r} {third!r}, {first!r} again"

    def move_out(self) -> str:
        path, target = self._entry(), self._elsewhere()
        os.rename(path, target)
        if os.path.isdir(target) and not os.path.islink(target) and self.rng.random() < 0.5:
            self.create_at(os.path.join(target, b"changed-outside%d" % self.rng.getrandbits(60)))
        return f"move out {path!r}"

    def move_in(self) -> str:
        kept = os.listdir(self.outside)
        if kept and self.rng.random() < 0.6:
            source = os.path.join(self.outside, self.rng.choice(kept))
        else:
            source = self._elsewhere()
            self._populate(source)
        target = self._fresh()
        os.rename(source, target)
        return f"move in {target!r}"

    def delete(self) -> str:
        path = self._entry(directories=False)
        os.unlink(path)
        return f"delete {path!r}"

    def delete_tree(self) -> str:
        path = self._entry(files=False)
        shutil.rmtree(path)
        return f"delete tree {path!r}"

    def recreate_directory(self) -> str:
        path = self._entry(files=False)
        shutil.rmtree(path)
        self._populate(path)
        return f"delete and make again {path!r}"

    def link(self) -> str:
        source, target = self._regular(), self._fresh()
        file = os.open(source, os.O_PATH | os.O_NOFOLLOW)  # another writer may put another file at the source's name
        try:
            os.link(f"/proc/self/fd/{file}", target, follow_symlinks=True)
            self.linked.add(os.fstat(file).st_ino)
        finally:
            os.close(file)
        return f"link {source!r} {target!r}"

    def symlink(self) -> str:
        # None leads out of the tree: another writer may put the link where this one is about to walk or to remove.
        target = self._fresh()
        os.symlink(self.rng.choice((b".", b"nowhere", self._name(), self.inside)), target)
        return f"symlink {target!r}"

    def fifo(self) -> str:
        path = self._fresh()
        os.mkfifo(path)
        return f"fifo {path!r}"

    def socket(self) -> str:
        path = self._fresh()
        with socket.socket(socket.AF_UNIX) as end:
            directory = os.open(os.path.dirname(path), os.O_PATH)
            try:
                end.bind(f"/proc/self/fd/{directory}/s{self.rng.getrandbits(30)}")
            finally:
                os.close(directory)
        return f"socket beside {path!r}"

    def change_mode(self) -> str:
        path = self._entry()
        if os.path.islink(path):
            return "chmod skipped: it would change what the link names"
        os.chmod(path, self.rng.choice((0o755, 0o700, 0o777)))
        return f"chmod {path!r}"

    def change_times(self) -> str:
        path = self._entry()
        seconds = self.rng.choice((-1, 0, 1, 1_000_000_000, 4_000_000_000))
        os.utime(path, ns=(seconds * 10**9 + 7, seconds * 10**9 + 7), follow_symlinks=False)
        return f"utime {path!r}"

    def copy_tree(self) -> str:
        source, target = self._entry(files=False), self._fresh()
        if os.path.islink(source) or target.startswith(source + b"/") or len(self._entries()) > 400:
            return "copy skipped"
        shutil.copytree(
            source, target, symlinks=True, ignore=lambda path, names: _leave_out(source, path, names)
        )
        return f"cp -a {source!r} {target!r}"

    def replace(self) -> str:
        target = self._regular()
        temporary = self._fresh()
        self.create_at(temporary)
        os.replace(temporary, target)
        return f"replace {target!r} by way of {temporary!r}"


def show_links(top: bytes, inodes: Collection[int]) -> None:
    """Cause an event at every name of regular files: give them the mode that they have."""
    for _, _, names, directory in os.fwalk(top):
        for name in names:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if found.st_ino in inodes and stat.S_ISREG(found.st_mode):
                os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=directory)


def _leave_out(source: bytes, directory: bytes, names: list[bytes]) -> list[bytes]:
    """Name what is not copied: special files, and all from a depth on; another writer may move the copy into itself."""
    if directory.count(b"/") - source.count(b"/") > _COPIED_LEVELS:
        return names
    paths = [(name, os.path.join(directory, name)) for name in names]
    return [
        name for name, path in paths if not (os.path.isfile(path) or os.path.isdir(path) or os.path.islink(path))
    ]


def _open_at_once(path: bytes, flags: int) -> int:
    """Open, or be refused: another writer may have put a FIFO here, which nobody will ever read."""
    return os.open(path, flags | os.O_NONBLOCK, 0o666)
