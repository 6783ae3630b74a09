import pytest

from fustor_core.program.tables import format_bytes, format_duration, format_table


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_without_blanks() -> None:
    assert format_table(("A", "STATE"), [("long one", "x"), ("b", "running")], colour=False).splitlines() == [
        "A         STATE",
        "long one  x",
        "b         running",
    ]


def test_colour_marks_states_only() -> None:
    assert format_table(("A", "B"), [("x", "running")], colour=True).splitlines() == [
        "A  B",
        "x  \x1b[32mrunning\x1b[0m",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (10**18, "1000 PB")],
)
def test_bytes_are_written_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


def test_durations_show_their_two_largest_units() -> None:
    assert [format_duration(s) for s in (0.9, 61, 3661, 90061)] == ["0 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]
