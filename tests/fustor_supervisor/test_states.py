import itertools

import pytest

from fustor_supervisor.errors import IllegalTransition
from fustor_supervisor.states import ALIVE, LINKED, TRANSITIONS, WorkerEvent, WorkerState, advance, draw_mermaid


@pytest.mark.parametrize(("state", "event"), list(itertools.product(WorkerState, WorkerEvent)))
def test_every_state_decides_every_event_or_refuses_it(state: WorkerState, event: WorkerEvent) -> None:
    target = TRANSITIONS[state].get(event)
    if target is None:
        with pytest.raises(IllegalTransition, match=state.value):
            advance(state, event)
    else:
        assert advance(state, event) is target


def test_the_table_has_a_row_for_every_state() -> None:
    assert set(TRANSITIONS) == set(WorkerState)


def test_every_state_is_reachable_from_stopped() -> None:
    reached = {WorkerState.STOPPED}
    while more := {target for state in reached for target in TRANSITIONS[state].values()} - reached:
        reached |= more
    assert reached == set(WorkerState)


def test_stopped_is_reachable_from_every_state() -> None:
    for start in WorkerState:
        reached = {start}
        while more := {target for state in reached for target in TRANSITIONS[state].values()} - reached:
            reached |= more
        assert WorkerState.STOPPED in reached


def test_every_event_is_of_use() -> None:
    assert {event for moves in TRANSITIONS.values() for event in moves} == set(WorkerEvent)


def test_a_stop_may_be_asked_for_in_every_state() -> None:
    assert all(WorkerEvent.STOP_ASKED in moves for moves in TRANSITIONS.values())


def test_only_states_with_a_process_can_die() -> None:
    can_die = {state for state, moves in TRANSITIONS.items() if WorkerEvent.DIED in moves}
    assert can_die == ALIVE
    assert LINKED < ALIVE


def test_the_diagram_shows_every_move() -> None:
    diagram = draw_mermaid()
    for state, moves in TRANSITIONS.items():
        for event, target in moves.items():
            assert f"{state.value} --> {target.value}: {event.value}\n" in diagram
