"""Bytes as the kernel writes them become records."""

import itertools
import os
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_source_fs import bindings as b
from fustor_source_fs.bindings import IN_CREATE, IN_Q_OVERFLOW, Inotify
from fustor_source_fs.records import Record, join_reads, parse_records

NAMES = st.binary(max_size=255).map(lambda name: name.replace(b"\0", b"").replace(b"/", b""))
RECORDS = st.builds(
    Record,
    watch=st.integers(-1, (1 << 31) - 1),
    mask=st.integers(0, (1 << 32) - 1),
    cookie=st.integers(0, (1 << 32) - 1),
    name=NAMES,
)


def pack(record: Record) -> bytes:
    """Write a record as the kernel does: the name ends with one to sixteen zeros, if there is one."""
    padded = record.name + b"\0" * (16 - len(record.name) % 16) if record.name else b""
    return struct.pack("iIII", record.watch, record.mask, record.cookie, len(padded)) + padded


@given(st.lists(RECORDS))
def test_what_was_written_is_read_with_neighbours_that_are_equal_as_one(records):
    expected = [each for number, each in enumerate(records) if number == 0 or each != records[number - 1]]
    assert parse_records(b"".join(map(pack, records))) == expected


def test_a_name_whose_padding_is_a_whole_block_keeps_all_its_bytes():
    record = Record(3, IN_CREATE, 0, b"x" * 16)
    assert parse_records(pack(record)) == [record]


def test_equal_records_with_another_between_them_stay_two():
    one, other = Record(1, 2, 0, b"a"), Record(1, 2, 0, b"b")
    assert parse_records(pack(one) + pack(other) + pack(one)) == [one, other, one]


def test_an_overflow_has_no_watch_and_no_name():
    assert parse_records(pack(Record(-1, IN_Q_OVERFLOW, 0, b""))) == [Record(-1, IN_Q_OVERFLOW, 0, b"")]


def test_the_kernel_and_the_parser_agree_on_names_of_any_bytes(tmp_path):
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."] + [b"\xff" * 255, b"\n" * 16, b"..."]
    inotify = Inotify()
    directory = os.open(tmp_path, os.O_RDONLY)
    watch = inotify.add_watch(directory)
    for name in names:
        os.mkdir(name, dir_fd=directory)
    found = parse_records(inotify.read(1 << 20))
    inotify.close()
    os.close(directory)
    assert [(each.watch, each.name) for each in found] == [(watch, name) for name in names]


def test_what_was_read_of_one_shard_keeps_its_order() -> None:
    first, second, third = (Record(1, b.IN_CREATE, 0, name) for name in (b"a", b"b", b"c"))
    assert join_reads([(0, [first, second]), (0, [third])]) == [first, second, third]
    assert join_reads([]) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_shard_that_a_directory_left_goes_before_the_one_that_it_came_to(order: tuple[int, ...]) -> None:
    away = Record(1, b.IN_MOVED_FROM | b.IN_ISDIR, 7, b"a")
    there = Record(2, b.IN_MOVED_TO | b.IN_ISDIR, 7, b"b")
    other = Record(3, b.IN_CREATE, 0, b"c")
    reads = [(0, [away]), (1, [there]), (2, [other])]
    joined = join_reads([reads[place] for place in order])
    assert joined.index(away) < joined.index(there)
    assert sorted(joined) == sorted([away, there, other])
