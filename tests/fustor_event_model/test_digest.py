"""The digest of a directory's rows: part of the protocol, so its bytes never change."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fustor_event_model import FsRow, RowsDigest
from fustor_event_model.digest import FEW_ROWS

NUMBERS = st.integers(min_value=0, max_value=3)
ROWS = st.lists(
    st.builds(
        FsRow,
        path=st.binary(min_size=1, max_size=2),
        size=NUMBERS,
        mtime_ns=st.integers(min_value=-2, max_value=2),
        ctime_ns=NUMBERS,
        mode=NUMBERS,
        uid=NUMBERS,
        gid=NUMBERS,
        device=NUMBERS,
        inode=NUMBERS,
        nlink=NUMBERS,
        target=st.none() | st.binary(max_size=1),
    ),
    max_size=4,
)


@pytest.fixture(params=[1, 3, FEW_ROWS], scope="module", autouse=True)
def few(request: pytest.FixtureRequest) -> Iterator[int]:
    """Of how many rows at most the digest is one hash, and not a sum."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fustor_event_model.digest.FEW_ROWS", request.param)
        yield request.param


def digest(*parts: list[FsRow]) -> tuple[int, bytes]:
    made = RowsDigest()
    for rows in parts:
        made.add(rows)
    return made.count, made.finish()


def test_its_bytes_are_what_they_always_were(few: int) -> None:
    assert digest() == (0, bytes.fromhex("cae66941d9efbd404e4d88758ea67670"))
    file = FsRow(b"a", 1, -2, 3, 33188, 4, 5, 6, 7, 8)
    count, made = digest([FsRow(b"b", 0, 0, 0, 41471, 0, 0, 0, 0, 1, b"t"), file])
    summed, hashed = "88c2ac5c0e4b5b93a963aaac6576d8b3", "a7200934e02687d977f778e0367b63f5"
    assert (count, made.hex()) == (2, summed if few < 2 else hashed)


@pytest.mark.parametrize("count", [FEW_ROWS, FEW_ROWS + 1])
def test_many_rows_amount_to_the_same_in_any_order_and_to_something_else_with_one_changed(few: int, count: int) -> None:
    rows = [FsRow(b"%d" % number, 0, 0, 0, 33188, 0, 0, 1, number, 1) for number in range(count)]
    made = digest(rows)
    shuffled = random.sample(rows, count)
    assert digest(shuffled[:1_000], shuffled[1_000:]) == made
    shuffled[random.randrange(count)] = FsRow(b"0", 1, 0, 0, 33188, 0, 0, 1, 0, 1)
    assert digest(shuffled) != made
    assert digest(rows[1:]) != made


@given(ROWS, st.randoms())
def test_neither_order_nor_parts_matter(rows: list[FsRow], random: random.Random) -> None:
    shuffled = random.sample(rows, len(rows))
    cut = random.randint(0, len(rows))
    assert digest(rows) == digest(shuffled[:cut], shuffled[cut:])


@given(ROWS, ROWS)
def test_it_is_the_same_for_the_same_rows_only(rows: list[FsRow], others: list[FsRow]) -> None:
    def key(row: FsRow) -> str:
        return repr(row)

    assert (digest(rows) == digest(others)) == (sorted(rows, key=key) == sorted(others, key=key))
