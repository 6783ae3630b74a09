from pathlib import Path

import pytest

from bench import Stopwatch, make_tree, plain_walk, print_table, size
from oracle import walk


def test_a_made_tree_holds_as_many_names_as_it_says_and_the_plain_walk_sees_them(tmp_path: Path) -> None:
    names = make_tree(tmp_path / "tree", directories=3, files_each=4)
    assert names == plain_walk(tmp_path / "tree") == len(walk(str(tmp_path / "tree"))) == 15


def test_the_stopwatch_stands_still_after_its_block() -> None:
    with Stopwatch() as watch:
        first = watch.s
    assert 0 <= first <= watch.s == watch.s


def test_the_columns_of_a_table_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("Title", ("a", "long head"), [("long cell", 1)])
    assert capsys.readouterr().out.splitlines() == [
        "", "Title", "", "| a         | long head |", "| --------- | --------- |", "| long cell | 1         |"
    ]


def test_a_size_can_be_changed_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    assert size("BENCH_TEST", 7) == 7
    monkeypatch.setenv("BENCH_TEST", "9")
    assert size("BENCH_TEST", 7) == 9
