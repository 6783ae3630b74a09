import faulthandler
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from fustor_supervisor import (
    Command,
    ExitCode,
    LinkSpec,
    Request,
    RequestResult,
    RestartPolicy,
    Runtime,
    Supervisor,
    SupervisorStatus,
    UnknownWorker,
    WorkerSpec,
)
from fustor_supervisor.testing import are_running, find_worker, is_process_gone, turn_until

NOW = RestartPolicy(first_s=0.0, base_s=0.0)
LATER = RestartPolicy(first_s=0.0, base_s=600.0, cap_s=600.0)

Start = Callable[..., Supervisor]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Supervisor] = []

    def start_with(workers: Sequence[WorkerSpec], links: Sequence[LinkSpec] = (), **options: object) -> Supervisor:
        supervisor = Supervisor(next_epoch=itertools.count(1).__next__, **options)  # type: ignore[arg-type]  # as given
        supervisor.apply(workers, links)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start_with
    for supervisor in started:
        supervisor.stop(0.0)
        while supervisor.turn():
            pass
        supervisor.close()
    with pytest.raises(ChildProcessError):  # no zombie, no survivor
        os.waitpid(-1, os.WNOHANG)


def serve(runtime: Runtime) -> None:
    runtime.ready()
    runtime.stop_requested.wait()


def crash(runtime: Runtime) -> None:
    raise ValueError(f"cannot read {runtime.name}")


def never_ready(runtime: Runtime) -> None:
    runtime.stop_requested.wait()


def ignore_stop(runtime: Runtime) -> None:
    runtime.ready()
    while True:
        signal.pause()


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = find_worker(supervisor, name).pid
    assert pid is not None
    return pid


def kill(supervisor: Supervisor, name: str) -> None:
    os.kill(pid_of(supervisor, name), signal.SIGKILL)


def test_a_killed_worker_is_replaced_at_once_and_its_death_noted(start: Start) -> None:
    supervisor = start([WorkerSpec("a", serve), WorkerSpec("b", serve)])
    turn_until(supervisor, lambda: are_running(supervisor))
    other = find_worker(supervisor, "b")
    kill(supervisor, "a")
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2 and are_running(supervisor))
    status = find_worker(supervisor, "a")
    assert status.restarts == 1
    assert status.last_exit is not None
    assert (status.last_exit.signal, status.last_exit.code) == ("SIGKILL", None)
    assert status.last_exit.reason == "killed by SIGKILL"
    assert find_worker(supervisor, "b").pid == other.pid


def test_a_crash_looper_backs_off_and_others_do_not_notice(start: Start) -> None:
    supervisor = start([WorkerSpec("bad", crash, restart=LATER), WorkerSpec("good", serve)])
    turn_until(supervisor, lambda: find_worker(supervisor, "bad").state == "backoff")
    status = find_worker(supervisor, "bad")
    assert [death.code for death in status.deaths] == [ExitCode.CRASHED, ExitCode.CRASHED]  # the first retry is free
    assert status.last_error == "ValueError: cannot read bad"
    assert status.retry_in_s is not None
    assert 400 < status.retry_in_s < 800
    turn_until(supervisor, lambda: are_running(supervisor, ["good"]))
    assert find_worker(supervisor, "good").generation == 1


def test_only_the_last_ten_deaths_are_kept(start: Start) -> None:
    supervisor = start([WorkerSpec("bad", crash, restart=NOW)])
    turn_until(supervisor, lambda: find_worker(supervisor, "bad").generation > 12)
    deaths = find_worker(supervisor, "bad").deaths
    assert len(deaths) == 10
    assert [later.generation - earlier.generation for earlier, later in itertools.pairwise(deaths)] == [1] * 9


def test_a_death_shows_what_the_worker_wrote_last_and_survives_the_supervisor(
    start: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def main(runtime: Runtime) -> None:
        os.write(2, b"cannot open the frobnicator\n")
        runtime.ready()
        if not runtime.stop_requested.wait(0 if runtime.generation == 1 else None):
            faulthandler._sigsegv()  # type: ignore[attr-defined]  # made for tests

    def run() -> Supervisor:
        return start([WorkerSpec("a", main, restart=NOW)], history_path=tmp_path / "deaths.json")

    supervisor = run()
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2 and are_running(supervisor))
    death = find_worker(supervisor, "a").deaths[0]
    assert (death.signal, death.asked) == ("SIGSEGV", False)
    assert death.output.startswith("cannot open the frobnicator\nFatal Python error: Segmentation fault")
    assert " in main" in death.output
    assert "cannot open the frobnicator" in capfd.readouterr().err, "it is shown as well"
    supervisor.stop()
    while supervisor.turn():
        pass
    supervisor.close()
    status = find_worker(run(), "a")
    assert [(each.signal, each.asked) for each in status.deaths] == [("SIGSEGV", False), (None, True)]
    assert status.deaths[0] == death
    assert status.deaths[1].output == ""
    assert status.last_error == "killed by SIGSEGV"


def test_a_worker_that_failed_for_good_waits_for_a_reload(start: Start, tmp_path: Path) -> None:
    good = tmp_path / "good"

    def main(runtime: Runtime) -> None:
        if not good.exists():
            runtime.fail("key: bad value; correct it", permanent=True)
        serve(runtime)

    spec = WorkerSpec("a", main, restart=NOW)
    supervisor = start([spec, WorkerSpec("b", serve)])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "fatal")
    assert find_worker(supervisor, "a").last_error == "key: bad value; correct it"
    assert find_worker(supervisor, "a").deaths[-1].code == ExitCode.PERMANENT
    kill(supervisor, "b")
    turn_until(supervisor, lambda: find_worker(supervisor, "b").generation == 2)
    assert find_worker(supervisor, "a").generation == 1
    good.touch()
    supervisor.apply([spec, WorkerSpec("b", serve)], [])
    turn_until(supervisor, lambda: are_running(supervisor))


def test_a_worker_that_returns_unasked_is_started_again(start: Start) -> None:
    supervisor = start([WorkerSpec("a", Runtime.ready, restart=LATER)])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "backoff")
    assert find_worker(supervisor, "a").deaths[-1].code == 0
    assert "without being asked" in (find_worker(supervisor, "a").last_error or "")


def test_a_worker_ends_with_any_of_its_threads_that_crashes(start: Start) -> None:
    def main(runtime: Runtime) -> None:
        def leave_early() -> None:
            raise SystemExit

        def fall_over() -> None:
            raise ValueError("no reason")

        quiet = threading.Thread(target=leave_early)
        quiet.start()
        quiet.join()
        runtime.ready()
        if runtime.generation == 1:
            threading.Thread(target=fall_over, name="reader").start()
        runtime.stop_requested.wait()

    supervisor = start([WorkerSpec("a", main, restart=NOW)])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2 and are_running(supervisor))
    assert find_worker(supervisor, "a").deaths[0].reason == "thread reader: ValueError: no reason"


def test_a_worker_can_be_stopped_and_started_in_every_state(start: Start) -> None:
    specs = [
        WorkerSpec("running", serve),
        WorkerSpec("starting", never_ready),
        WorkerSpec("backoff", crash, restart=LATER),
        WorkerSpec("fatal", lambda runtime: runtime.fail("no", permanent=True)),
        WorkerSpec("down", serve, up=False),
    ]
    supervisor = start(specs)
    names = {spec.name for spec in specs}

    def states() -> dict[str, str]:
        return {worker.name: worker.state for worker in supervisor.status().workers}

    wanted = {name: name for name in names} | {"down": "stopped"}
    turn_until(supervisor, lambda: states() == wanted)
    for name in names:
        supervisor.set_up(name, False)
    turn_until(supervisor, lambda: set(states().values()) == {"stopped"})
    for name in names:
        supervisor.set_up(name, True)
    turn_until(supervisor, lambda: states() == wanted | {"down": "running"})


def test_a_stop_reaches_a_worker_that_is_starting_and_one_in_backoff(start: Start) -> None:
    supervisor = start([WorkerSpec("a", never_ready), WorkerSpec("b", crash, restart=LATER)])
    turn_until(supervisor, lambda: find_worker(supervisor, "b").state == "backoff")
    supervisor.stop()
    while supervisor.turn():
        pass
    assert find_worker(supervisor, "a").deaths[-1].code == 0
    assert {worker.state for worker in supervisor.status().workers} == {"stopped"}


def test_a_worker_that_ignores_the_stop_is_killed_after_its_grace(start: Start) -> None:
    supervisor = start([WorkerSpec("deaf", ignore_stop, stop_grace_s=0.1), WorkerSpec("good", serve)])
    turn_until(supervisor, lambda: are_running(supervisor))
    supervisor.set_up("deaf", False)
    turn_until(supervisor, lambda: find_worker(supervisor, "deaf").state == "stopped")
    death = find_worker(supervisor, "deaf").deaths[-1]
    assert death.signal == "SIGKILL"
    assert "after the grace" in death.reason
    assert are_running(supervisor, ["good"])


def test_a_stop_without_grace_kills_whoever_is_left(start: Start) -> None:
    supervisor = start([WorkerSpec("deaf", ignore_stop, stop_grace_s=600.0)])
    turn_until(supervisor, lambda: are_running(supervisor))
    supervisor.stop()
    assert supervisor.turn(0.0)
    supervisor.stop(0.0)
    while supervisor.turn():
        pass
    assert find_worker(supervisor, "deaf").deaths[-1].signal == "SIGKILL"


def test_higher_ranks_stop_only_when_lower_ranks_are_gone(start: Start) -> None:
    def say_last_words(runtime: Runtime) -> None:
        serve(runtime)
        runtime.request("bye", runtime.name)

    alive: dict[str, list[str]] = {}

    def on_request(request: Request) -> RequestResult:
        alive[request.target] = [worker.name for worker in supervisor.status().workers if worker.state == "running"]
        return RequestResult("")

    ranks = {"a": 1, "b": 0, "c": 1, "d": 2}
    specs = [WorkerSpec(name, say_last_words, stop_rank=rank) for name, rank in ranks.items()]
    supervisor = start(specs, on_request=on_request)
    turn_until(supervisor, lambda: are_running(supervisor))
    supervisor.stop()
    while supervisor.turn():
        pass
    assert alive == {"b": ["a", "c", "d"], "a": ["d"], "c": ["d"], "d": []}


def test_a_reload_touches_only_what_changed(start: Start) -> None:
    specs = [WorkerSpec(name, serve, fingerprint="1") for name in ("same", "changed", "gone")]
    supervisor = start(specs)
    turn_until(supervisor, lambda: are_running(supervisor))
    before = {name: pid_of(supervisor, name) for name in ("same", "changed", "gone")}
    supervisor.apply([specs[0], replace(specs[1], fingerprint="2"), WorkerSpec("new", serve)], [])
    turn_until(
        supervisor,
        lambda: {worker.name for worker in supervisor.status().workers} == {"same", "changed", "new"}
        and are_running(supervisor)
        and pid_of(supervisor, "changed") != before["changed"],
    )
    assert pid_of(supervisor, "same") == before["same"]
    assert find_worker(supervisor, "changed").deaths[-1].reason == "stopped as asked"
    assert is_process_gone(before["gone"])


def test_a_reload_keeps_what_an_operator_stopped(start: Start) -> None:
    specs = [WorkerSpec("a", serve), WorkerSpec("b", serve)]
    supervisor = start(specs)
    turn_until(supervisor, lambda: are_running(supervisor))
    supervisor.set_up("a", False)
    turn_until(supervisor, lambda: find_worker(supervisor, "a").state == "stopped")
    supervisor.apply([replace(specs[0], fingerprint="2"), specs[1]], [])
    kill(supervisor, "b")
    turn_until(supervisor, lambda: find_worker(supervisor, "b").generation == 2)
    assert find_worker(supervisor, "a").generation == 1
    supervisor.restart("a")
    turn_until(supervisor, lambda: are_running(supervisor))


def test_a_fork_that_fails_is_a_death_and_nothing_leaks(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = start([WorkerSpec("a", serve, restart=NOW)])
    turn_until(supervisor, lambda: are_running(supervisor))
    before = len(os.listdir("/proc/self/fd"))
    real_fork, failures = os.fork, iter([BlockingIOError(11, "no processes left"), OSError(12, "full")])

    def fork() -> int:
        error = next(failures, None)
        if error is not None:
            raise error
        return real_fork()

    monkeypatch.setattr(os, "fork", fork)  # the kernel cannot be asked to refuse exactly twice
    kill(supervisor, "a")
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 4 and are_running(supervisor))
    reasons = [death.reason for death in find_worker(supervisor, "a").deaths]
    assert reasons[0] == "killed by SIGKILL"
    assert "no processes left" in reasons[1]
    assert "full" in reasons[2]
    assert len(os.listdir("/proc/self/fd")) == before


def test_commands_and_requests_come_and_go_and_fail_loudly(start: Start) -> None:
    def main(runtime: Runtime) -> None:
        def obey(command: Command) -> None:
            if command.action == "die":
                os._exit(7)
            runtime.reply(command.id, f"did {command.action} {command.target}", ok=command.target != "bad")

        runtime.on_command = obey
        runtime.ready()
        answers = [runtime.request(action, "t") for action in ("now", "later", "raise")]
        runtime.report({"asked": 3}, detail=msgspec.json.encode([(answer.ok, answer.result) for answer in answers]))
        runtime.stop_requested.wait()

    waiting: list[Request] = []

    def on_request(request: Request) -> RequestResult | None:
        assert request.worker == "a"
        if request.action == "later":
            waiting.append(request)
            return None
        if request.action == "raise":
            raise LookupError("no such pipe")
        return RequestResult("at once")

    supervisor = start([WorkerSpec("a", main), WorkerSpec("down", serve, up=False)], on_request=on_request)
    turn_until(supervisor, lambda: waiting)
    supervisor.answer(waiting[0], RequestResult("after a while", ok=False))
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters == {"asked": 3})
    assert msgspec.json.decode(find_worker(supervisor, "a").detail) == [
        [True, "at once"],
        [False, "after a while"],
        [False, "LookupError: no such pipe"],
    ]
    replies: list[tuple[bool, str]] = []

    def ask(worker: str, action: str, target: str) -> None:
        supervisor.command(worker, action, target, lambda reply: replies.append((reply.ok, reply.result)))

    ask("a", "scan", "/x")
    ask("a", "scan", "bad")
    ask("down", "scan", "/x")
    turn_until(supervisor, lambda: len(replies) == 3)
    ask("a", "die", "")
    turn_until(supervisor, lambda: len(replies) == 4)
    assert sorted(replies) == [
        (False, "did scan bad"),
        (False, "worker a died before it replied"),
        (False, "worker down is stopped"),
        (True, "did scan /x"),
    ]
    with pytest.raises(UnknownWorker, match="known are: a, down"):
        ask("nobody", "scan", "")


def test_counters_are_summed_over_generations(start: Start) -> None:
    def main(runtime: Runtime) -> None:
        runtime.ready()
        runtime.report({"rows": 10 * runtime.generation, f"only {runtime.generation}": 1}, phase="busy")
        runtime.stop_requested.wait()

    supervisor = start([WorkerSpec("a", main)])
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters)
    kill(supervisor, "a")
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters.get("rows") == 20)
    status = find_worker(supervisor, "a")
    assert status.totals == {"rows": 30, "only 1": 1, "only 2": 1}
    assert status.phase == "busy"


def test_the_status_is_written_and_sent_to_workers_that_want_it(start: Start, tmp_path: Path) -> None:
    def watch(runtime: Runtime) -> None:
        def take(snapshot: bytes) -> None:
            status = msgspec.json.decode(snapshot, type=SupervisorStatus)
            states = {worker.name: worker.state for worker in status.workers}
            if states == {"watcher": "running", "other": "running"}:
                runtime.report({"seen": 1})

        runtime.on_status = take
        serve(runtime)

    path = tmp_path / "status.json"
    specs = [WorkerSpec("watcher", watch, wants_status=True), WorkerSpec("other", serve)]
    supervisor = start(specs, publish=msgspec.json.encode, status_path=path)
    turn_until(supervisor, lambda: find_worker(supervisor, "watcher").counters == {"seen": 1})
    written = msgspec.json.decode(path.read_bytes(), type=SupervisorStatus)
    assert (written.pid, written.state) == (os.getpid(), "running")
    assert path.stat().st_mode & 0o777 == 0o600
    supervisor.stop()
    while supervisor.turn():
        pass
    supervisor.close()
    written = msgspec.json.decode(path.read_bytes(), type=SupervisorStatus)
    assert written.state == "stopped"
    assert {worker.state for worker in written.workers} == {"stopped"}
    assert os.listdir(tmp_path) == ["status.json"]


def test_neither_a_full_disk_nor_a_faulty_callback_ends_the_supervisor(start: Start, tmp_path: Path) -> None:
    def raise_error(*_: object) -> None:
        raise RuntimeError("bug")

    supervisor = start(
        [WorkerSpec("a", serve)],
        publish=msgspec.json.encode,
        status_path=tmp_path / "missing" / "status.json",
        on_reload=raise_error,
        on_reopen_logs=raise_error,
    )
    turn_until(supervisor, lambda: are_running(supervisor))
    for number in (signal.SIGHUP, signal.SIGUSR1):
        os.kill(os.getpid(), number)
    kill(supervisor, "a")
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2 and are_running(supervisor))


def test_signals_reload_reopen_logs_and_stop(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    def main(runtime: Runtime) -> None:
        runtime.on_reopen_logs = lambda: runtime.report({"reopened": 1})
        serve(runtime)

    calls: list[str] = []
    supervisor = start(
        [WorkerSpec("a", main)],
        on_reload=lambda: calls.append("reload"),
        on_reopen_logs=lambda: calls.append("reopen"),
    )
    turn_until(supervisor, lambda: are_running(supervisor))
    os.kill(os.getpid(), signal.SIGHUP)
    os.kill(os.getpid(), signal.SIGUSR1)
    turn_until(supervisor, lambda: find_worker(supervisor, "a").counters == {"reopened": 1})
    assert sorted(calls) == ["reload", "reopen"]
    os.kill(os.getpid(), signal.SIGUSR2)
    output = ""

    def is_dumped() -> bool:
        nonlocal output
        output += capfd.readouterr().err
        return "in test_signals_reload" in output and "in serve" in output

    turn_until(supervisor, is_dumped)
    os.kill(os.getpid(), signal.SIGTERM)
    while supervisor.turn():
        pass
    assert find_worker(supervisor, "a").deaths[-1].reason == "stopped as asked"


def test_a_second_signal_hurries(start: Start) -> None:
    supervisor = start([WorkerSpec("deaf", ignore_stop, stop_grace_s=600.0)])
    turn_until(supervisor, lambda: are_running(supervisor))
    os.kill(os.getpid(), signal.SIGTERM)
    turn_until(supervisor, lambda: supervisor.status().state == "stopping")
    os.kill(os.getpid(), signal.SIGINT)
    while supervisor.turn():
        pass
    assert find_worker(supervisor, "deaf").deaths[-1].signal == "SIGKILL"


def test_a_sigterm_to_a_worker_ends_it_gracefully_and_it_is_replaced(start: Start) -> None:
    supervisor = start([WorkerSpec("a", serve)])
    turn_until(supervisor, lambda: are_running(supervisor))
    os.kill(pid_of(supervisor, "a"), signal.SIGTERM)
    turn_until(supervisor, lambda: find_worker(supervisor, "a").generation == 2 and are_running(supervisor))
    assert find_worker(supervisor, "a").deaths[-1].code == 0


def test_run_ends_when_a_callback_stops_it() -> None:
    def main(runtime: Runtime) -> None:
        runtime.ready()
        runtime.request("stop")
        runtime.stop_requested.wait()

    def on_request(request: Request) -> RequestResult:
        supervisor.stop()
        return RequestResult("stopping")

    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)]
    supervisor = Supervisor(next_epoch=itertools.count().__next__, on_request=on_request)
    supervisor.apply([WorkerSpec("a", main)], [])
    supervisor.run()
    assert find_worker(supervisor, "a").deaths[-1].code == 0
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)] == handlers


def test_a_descriptor_of_the_program_is_heard_until_it_is_forgotten(start: Start) -> None:
    heard: list[bytes] = []
    supervisor = start([])
    reading, writing = os.pipe()
    supervisor.watch(reading, lambda: heard.append(os.read(reading, 1)))
    os.write(writing, b"ab")
    turn_until(supervisor, lambda: heard == [b"a", b"b"])
    os.write(writing, b"c")
    supervisor.unwatch(reading)
    supervisor.turn(0.0)
    assert heard == [b"a", b"b"]
    supervisor.unwatch(reading)
    os.close(reading)
    os.close(writing)


def test_signals_that_were_held_back_until_the_start_arrive_then(start: Start) -> None:
    reloads: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        os.kill(os.getpid(), signal.SIGHUP)
        supervisor = start([], on_reload=lambda: reloads.append(1))
        turn_until(supervisor, lambda: bool(reloads))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_an_idle_supervisor_sleeps_until_its_next_deadline(start: Start) -> None:
    supervisor = start([WorkerSpec(name, serve) for name in "abc"])
    turn_until(supervisor, lambda: are_running(supervisor))
    supervisor.turn(0.0)
    began = time.monotonic()
    cpu = time.process_time()
    supervisor.turn(1.0)
    assert time.monotonic() - began >= 1.0  # one turn, no wake-up in between
    assert time.process_time() - cpu < 0.2
