"""The digest of a directory's rows: part of the protocol, so its bytes never change."""

from hypothesis import given
from hypothesis import strategies as st

from fustor_event_model import FsRow, RowsDigest

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


def digest(*parts: list[FsRow]) -> tuple[int, bytes]:
    made = RowsDigest()
    for rows in parts:
        made.add(rows)
    return made.count, made.finish()


def test_its_bytes_are_what_they_always_were() -> None:
    assert digest() == (0, bytes(16))
    file = FsRow(b"a", 1, -2, 3, 33188, 4, 5, 6, 7, 8)
    count, summed = digest([file, FsRow(b"b", 0, 0, 0, 41471, 0, 0, 0, 0, 1, b"t")])
    assert (count, summed.hex()) == (2, "88c2ac5c0e4b5b93a963aaac6576d8b3")


@given(ROWS, st.randoms())
def test_neither_order_nor_parts_matter(rows: list[FsRow], random) -> None:
    shuffled = random.sample(rows, len(rows))
    cut = random.randint(0, len(rows))
    assert digest(rows) == digest(shuffled[:cut], shuffled[cut:])


@given(ROWS, ROWS)
def test_it_is_the_same_for_the_same_rows_only(rows: list[FsRow], others: list[FsRow]) -> None:
    def key(row: FsRow) -> str:
        return repr(row)

    assert (digest(rows) == digest(others)) == (sorted(rows, key=key) == sorted(others, key=key))
