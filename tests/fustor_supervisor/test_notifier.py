import itertools
import os
import resource
import socket
from pathlib import Path

import pytest

from fustor_supervisor import Notifier, Runtime, Supervisor, WorkerSpec
from fustor_supervisor.testing import are_running, turn_until
from servicemanager import ServiceManager


def test_each_thing_that_is_told_arrives_as_a_message_of_its_own(tmp_path: Path) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        notifier = Notifier(manager.environment)
        notifier.ready()
        notifier.status("all is\nwell \udcff")
        notifier.status("all is\nwell \udcff")
        notifier.reloading()
        notifier.ready()
        notifier.alive()
        notifier.stopping()
        told = manager.listen()
    assert told.pop(2).keys() == {"RELOADING", "MONOTONIC_USEC"}
    assert told == [
        {"READY": "1"}, {"STATUS": "all is well \\udcff"}, {"READY": "1"}, {"WATCHDOG": "1"}, {"STOPPING": "1"},
    ]


def test_an_address_that_is_no_file_is_reached_too() -> None:
    with ServiceManager(f"@fustor-{os.getpid()}") as manager:
        Notifier(manager.environment).ready()
        assert manager.states() == ["READY"]


def test_after_the_stop_nothing_contradicts_it(tmp_path: Path) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        notifier = Notifier(manager.environment)
        notifier.stopping()
        notifier.reloading()
        notifier.ready()
        assert manager.states() == ["STOPPING"]


def test_what_was_said_while_nobody_listened_is_told_later_but_only_the_newest(tmp_path: Path) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.reloading()
    notifier.ready()
    notifier.status("old")
    with ServiceManager(tmp_path / "notify") as manager:
        notifier.status("new")
        assert manager.listen() == [{"READY": "1", "STATUS": "new"}]


def test_what_finds_no_descriptor_or_a_full_queue_is_told_later(tmp_path: Path) -> None:
    with ServiceManager(tmp_path / "notify") as manager:
        notifier = Notifier(manager.environment)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            notifier.ready()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert manager.listen() == []
        for number in range(10_000):  # more than the kernel queues
            notifier.status(str(number))
        assert manager.count("READY") == 1
        notifier.alive()
        assert manager.listen()[-1] == {"STATUS": "9999", "WATCHDOG": "1"}


def test_without_a_service_manager_nothing_is_told() -> None:
    notifier = Notifier({})
    notifier.ready()
    notifier.stopping()
    assert notifier.watchdog_every_s is None


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "18446744073709551615"}, None),
        ({"WATCHDOG_USEC": "9" * 5_000}, None),
        ({"WATCHDOG_USEC": "1"}, 0.05),
    ],
)
def test_the_watchdog_is_told_twice_as_often_as_it_asks_if_it_means_this_process(
    environ: dict[str, str], every_s: float | None
) -> None:
    environ = {"NOTIFY_SOCKET": "/none", "PATH": "/bin"} | environ
    assert Notifier(environ).watchdog_every_s == every_s
    assert environ == {"PATH": "/bin"}


def serve(runtime: Runtime) -> None:
    runtime.ready()
    runtime.stop_requested.wait()


def test_a_supervisor_tells_its_readiness_its_life_and_its_end(tmp_path: Path) -> None:
    def wait(runtime: Runtime) -> None:
        with socket.socket(socket.AF_UNIX) as gate:
            gate.connect(str(tmp_path / "gate"))
            gate.recv(1)
        serve(runtime)

    def fail(runtime: Runtime) -> None:
        runtime.fail("its configuration is wrong", permanent=True)

    with ServiceManager(tmp_path / "notify") as manager, socket.socket(socket.AF_UNIX) as gate:
        gate.bind(str(tmp_path / "gate"))
        gate.listen()
        environ = manager.environment | {"WATCHDOG_USEC": "100000"}
        supervisor = Supervisor(next_epoch=itertools.count(1).__next__, notifier=Notifier(environ))
        off = WorkerSpec("off", serve, up=False)
        supervisor.apply([WorkerSpec("wait", wait), WorkerSpec("serve", serve), WorkerSpec("fail", fail), off], [])
        supervisor.start()
        turn_until(supervisor, lambda: are_running(supervisor, ["serve"]) and manager.count("WATCHDOG") >= 3)
        assert manager.states() == []  # one of them is still starting
        gate.accept()[0].close()
        turn_until(supervisor, lambda: manager.states() == ["READY"])
        supervisor.restart("serve")
        turn_until(supervisor, lambda: are_running(supervisor, ["serve", "wait"]))
        supervisor.stop()
        while supervisor.turn():
            pass
        supervisor.close()
        assert manager.states() == ["READY", "STOPPING"]
