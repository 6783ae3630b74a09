from hypothesis import given
from hypothesis import strategies as st

from fustor_supervisor.timers import Timers


def test_keys_come_due_in_the_order_of_their_deadlines() -> None:
    timers: Timers[str] = Timers()
    timers.set("late", 3.0)
    timers.set("early", 1.0)
    timers.set("middle", 2.0)
    assert timers.next_at() == 1.0
    assert timers.pop_due(2.0) == ["early", "middle"]
    assert timers.next_at() == 3.0


def test_setting_a_key_again_replaces_its_deadline() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.set("a", 5.0)
    assert timers.pop_due(4.0) == []
    assert timers.pop_due(5.0) == ["a"]
    assert timers.pop_due(9.0) == []


def test_a_cancelled_key_is_never_due() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 1.0)
    timers.cancel("a")
    timers.cancel("unknown")
    assert timers.next_at() is None
    assert timers.pop_due(2.0) == []


def test_replaced_deadlines_do_not_pile_up() -> None:
    timers: Timers[str] = Timers()
    for at in range(10_000):
        timers.set("a", float(at))
    assert len(timers._heap) < 200
    assert timers.pop_due(1e9) == ["a"]


@given(st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 20)))))
def test_it_behaves_like_a_dictionary_of_deadlines(steps: list[tuple[int, int | None]]) -> None:
    timers: Timers[int] = Timers()
    model: dict[int, int] = {}
    for key, at in steps:
        if at is None:
            timers.cancel(key)
            model.pop(key, None)
        else:
            timers.set(key, at)
            model[key] = at
        assert timers.next_at() == min(model.values(), default=None)
    assert sorted(timers.pop_due(10)) == sorted(key for key, at in model.items() if at <= 10)
