"""The worker's side of the control link, in real workers."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from fustor_supervisor import (
    FrameTooLong,
    Request,
    RequestTimedOut,
    RestartPolicy,
    Runtime,
    Supervisor,
    WorkerSpec,
    WorkerStatus,
    WrongThread,
)
from fustor_supervisor.runtime import MAX_DETAIL_BYTES
from fustor_supervisor.testing import find_worker, turn_until

LATER = RestartPolicy(first_s=0.0, base_s=600.0, cap_s=600.0)

Play = Callable[[Callable[[Runtime], None]], WorkerStatus]


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    def never_answer(request: Request) -> None:
        return None

    supervisor = Supervisor(next_epoch=itertools.count(1).__next__, on_request=never_answer)
    yield supervisor
    supervisor.stop(0.0)
    while supervisor.turn():
        pass
    supervisor.close()


@pytest.fixture
def play(supervisor: Supervisor) -> Play:
    """Run a main until it has reported a counter or failed, and return how it stands."""

    def play_main(main: Callable[[Runtime], None]) -> WorkerStatus:
        supervisor.apply([WorkerSpec("a", main, restart=LATER)], [])
        supervisor.start()
        turn_until(supervisor, lambda: find_worker(supervisor, "a").counters or find_worker(supervisor, "a").last_error)
        return find_worker(supervisor, "a")

    return play_main


def test_a_request_that_nobody_answers_times_out(play: Play) -> None:
    def main(runtime: Runtime) -> None:
        with pytest.raises(RequestTimedOut, match="may still be done"):
            runtime.request("anything", timeout_s=0.05)
        runtime.report({"timed out": 1})
        runtime.stop_requested.wait()

    assert play(main).counters == {"timed out": 1}


def test_a_callback_that_would_wait_for_itself_is_refused(play: Play, supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        def obey(command: object) -> None:
            with pytest.raises(WrongThread):
                runtime.request("anything")
            runtime.report({"refused": 1})

        runtime.on_command = obey
        runtime.ready()
        runtime.report({"listening": 1})
        runtime.stop_requested.wait()

    play(main)
    supervisor.command("a", "go")
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters == {"refused": 1})


def test_a_detail_that_is_too_long_is_refused_where_it_is_made(play: Play) -> None:
    def main(runtime: Runtime) -> None:
        with pytest.raises(FrameTooLong):
            runtime.report({"rows": 1}, detail=bytes(MAX_DETAIL_BYTES + 1))
        runtime.report({"rows": 2}, detail=bytes(MAX_DETAIL_BYTES))
        runtime.stop_requested.wait()

    status = play(main)
    assert status.counters == {"rows": 2}
    assert len(status.detail) == MAX_DETAIL_BYTES


def test_a_fault_in_a_callback_ends_the_worker_and_is_told(play: Play, supervisor: Supervisor) -> None:
    def main(runtime: Runtime) -> None:
        def obey(command: object) -> None:
            raise KeyError("bug")

        runtime.on_command = obey
        runtime.ready()
        runtime.report({"listening": 1})
        runtime.stop_requested.wait()

    play(main)
    supervisor.command("a", "go")
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2)
    assert find_worker(supervisor, "a").last_error == "control thread: KeyError: 'bug'"


def test_all_that_want_to_hear_of_the_stop_do_even_late_and_behind_a_faulty_one(
    play: Play, supervisor: Supervisor
) -> None:
    def main(runtime: Runtime) -> None:
        heard: dict[str, int] = {}

        def fail() -> None:
            raise ValueError("bug")

        runtime.on_stop(fail)
        runtime.on_stop(lambda: heard.update(early=int(runtime.grace_s)))
        runtime.ready()
        runtime.report({"ready": 1})
        runtime.stop_requested.wait()
        runtime.on_stop(lambda: heard.update(late=1))
        while len(heard) < 2:
            pass
        runtime.fail(f"heard {sorted(heard.items())}", permanent=False)

    play(main)
    supervisor.set_up("a", False)
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "stopped")
    assert find_worker(supervisor, "a").last_error == "heard [('early', 10), ('late', 1)]"


def test_an_exit_code_of_main_is_kept(play: Play) -> None:
    def main(runtime: Runtime) -> None:
        raise SystemExit(42)

    status = play(main)
    assert status.deaths[0].code == 42
    assert status.last_error == "exited with code 42"
