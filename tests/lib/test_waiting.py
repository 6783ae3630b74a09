import pytest

from waiting import until


def test_it_returns_the_first_true_value_and_looks_no_further() -> None:
    values = iter([0, "", 7, 8])
    assert until(lambda: next(values), within_s=5, what="a value") == 7
    assert list(values) == [8]


def test_it_says_what_was_waited_for_and_what_was_seen() -> None:
    with pytest.raises(TimeoutError, match="the moon: not within 0 s, last seen: None"):
        until(lambda: None, within_s=0, what="the moon")
