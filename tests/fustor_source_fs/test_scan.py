"""Opening directories and making rows by descriptor."""

import os
import resource

import pytest

from fustor_source_fs.scan import encode_names, make_row, open_directory


def identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    os.close(descriptor)
    return found.st_dev, found.st_ino


def test_the_root_is_opened_through_its_links_and_nothing_else_is(tmp_path):
    (tmp_path / "real" / "d").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "inner").symlink_to("d")
    root = bytes(tmp_path / "link")
    real = (tmp_path / "real" / "d").stat()
    assert identity(open_directory(root, b"/d")) == (real.st_dev, real.st_ino)
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_directory(root, b"/inner")


@pytest.mark.parametrize("path", [b"/link", b"/link/e", b"/link/e/f"])
def test_a_link_on_the_way_leads_nowhere(tmp_path, path):
    (tmp_path / "in").mkdir()
    (tmp_path / "out" / "e" / "f").mkdir(parents=True)
    (tmp_path / "in" / "link").symlink_to(tmp_path / "out")
    with pytest.raises(OSError, match=r"Not a directory|Too many levels"):
        open_directory(bytes(tmp_path / "in"), path)


@pytest.mark.parametrize("path", [b"/nowhere", b"/f", b"/f/below"])
def test_what_is_no_directory_is_refused(tmp_path, path):
    (tmp_path / "f").write_text("")
    with pytest.raises(OSError, match=r"No such file|Not a directory"):
        open_directory(bytes(tmp_path), path)


def test_a_fifo_in_place_of_a_directory_blocks_nobody(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="Not a directory"):
        open_directory(bytes(tmp_path), b"/fifo")


def test_no_descriptor_is_left_open_whether_it_succeeds_or_fails(tmp_path):
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 200), hard))
    try:
        for _ in range(300):
            os.close(open_directory(bytes(tmp_path), b"/a/b/c"))
            with pytest.raises(FileNotFoundError):
                open_directory(bytes(tmp_path), b"/a/b/c/d/e")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_names_are_the_bytes_that_the_kernel_gave(tmp_path):
    names = {bytes([byte]) for byte in range(1, 256) if byte not in b"/."}
    names.add(bytes(byte for byte in range(1, 256) if byte not in b"/")[:200])
    names.add("\u732b\U0001f408 ".encode() + b"\xf0\x9f")
    for name in names:
        os.mkdir(bytes(tmp_path) + b"/" + name)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with os.scandir(descriptor) as entries:
        texts = [entry.name for entry in entries]
    os.close(descriptor)
    assert encode_names(texts) == [os.fsencode(text) for text in texts]
    assert set(encode_names(texts)) == names
    assert encode_names([]) == []


def test_a_row_says_what_lstat_says(tmp_path):
    (tmp_path / "f").write_text("12345")
    (tmp_path / "link").symlink_to(b"\xff/target".decode("utf-8", "surrogateescape"))
    descriptor = os.open(tmp_path, os.O_RDONLY)
    for name in ("f", "link"):
        status = os.lstat(tmp_path / name)
        row = make_row(b"p", status, descriptor, name, closed=False)
        assert (row.path, row.size, row.mtime_ns, row.ctime_ns, row.mode, row.uid, row.gid) == (
            b"p", status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode, status.st_uid, status.st_gid,
        )  # fmt: skip
        assert (row.device, row.inode, row.nlink) == (status.st_dev, status.st_ino, status.st_nlink)
        assert row.target == (b"\xff/target" if name == "link" else None)
    os.close(descriptor)


def test_a_link_that_is_none_any_more_when_it_is_read_is_an_error(tmp_path):
    (tmp_path / "link").symlink_to("target")
    status = os.lstat(tmp_path / "link")
    (tmp_path / "link").unlink()
    (tmp_path / "link").write_text("")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(OSError, match="Invalid argument"):
        make_row(b"p", status, descriptor, "link")
    os.close(descriptor)
