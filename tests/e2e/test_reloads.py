"""Reloads of the running agent: what they change, what they leave alone, and what comes between."""

import shutil
import signal
from pathlib import Path

import pytest

from desk import Desk
from oracle import differences, walk
from waiting import until

_BAD_CONFIG = 5


def test_a_reload_restarts_only_what_it_changes(desk: Desk) -> None:
    first, second, third = desk.tree("a"), desk.tree("b"), desk.tree("c")
    pipes = {"p": ("a", "fusion"), "q": ("b", "fusion")}
    path = desk.configure(first, second, **pipes)
    desk.run("start", "-D")
    desk.wait_ready()
    before = desk.pids()
    assert desk.run("reload").stdout == "nothing changes\n"
    assert desk.pids() == before
    path.write_text(path.read_text().replace(str(second), str(third)))
    said = desk.run("reload").stdout.splitlines()
    after = desk.pids()
    assert said == [
        f'sources[b].config.uri: "{second}" -> "{third}"',
        "restart q.source",
        f"q.source is running, pid {after['q.source']}",
    ]
    assert [name for name in before if after[name] != before[name]] == ["q.source"]
    until(lambda: _holds(desk, "q", third), within_s=30, what="the view of the new tree")
    assert _holds(desk, "p", first)


def _holds(desk: Desk, view: str, tree: Path) -> bool:
    return not differences(walk(bytes(tree)), desk.agent.export(view=view, sync=None))


@pytest.mark.parametrize("change", ["broken: yes", "console: {port: x}"])
def test_a_reload_of_a_bad_configuration_changes_nothing(desk: Desk, change: str) -> None:
    path = desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    desk.wait_ready()
    before = desk.pids()
    good = path.read_text()
    path.write_text(f"{change}\nsources: []\n")
    done = desk.run("reload", code=_BAD_CONFIG)
    assert "everything stays as it was" in done.stderr
    assert desk.pids() == before
    path.write_text(good)
    assert desk.run("reload").stdout == "nothing changes\n"
    desk.wait_ready()


def test_a_key_that_changes_in_its_file_restarts_the_pusher_and_nothing_else(desk: Desk, tmp_path: Path) -> None:
    desk.configure(desk.tree("a"))
    desk.run("start", "-D")
    desk.run("stop")
    right, key = desk.home / "state" / "fusion-agent.key", tmp_path / "key"
    shutil.copy(right, key)
    sender = {"endpoint": "embedded", "credential": {"file": str(key)}}
    desk.configure(tmp_path / "a", senders={"fusion": ("fusion", sender)})
    desk.run("start", "-D")
    desk.wait_ready()
    before = desk.pids()
    for content, is_ready in (("wrong", False), (right.read_text(), True)):
        key.write_text(content)
        said = desk.run("reload").stdout.splitlines()
        assert said[:2] == ["senders[fusion].config: a file that it names has changed", "restart p-a.pusher"]
        assert desk.run("reload").stdout == "nothing changes\n"
        after = desk.pids()
        assert [name for name in before if after[name] != before[name]] == ["p-a.pusher"]
        before = after
        until(lambda wanted=is_ready: (desk.agent.readyz()[0] == 200) is wanted, within_s=30, what="the key to count")


def test_of_many_reloads_at_once_the_last_state_of_the_file_counts(desk: Desk) -> None:
    first, second = desk.tree("a"), desk.tree("b")
    path = desk.configure(first)
    desk.run("start", "-D")
    desk.wait_ready()
    good = path.read_text()
    before = desk.pids()
    for text in ("broken: yes\n", good.replace(str(first), str(second)), "console: {port: x}\n", good) * 3:
        beside = path.with_suffix(".new")
        beside.write_text(text)
        beside.replace(path)  # half a file may be read at any moment
        desk.signal(signal.SIGHUP)
    assert desk.run("reload").stdout.splitlines()[-1] in ("nothing changes", *_say_running(desk))
    desk.wait_ready()
    after = desk.pids()
    assert {name for name in before if after[name] != before[name]} <= {"p-a.source"}
    until(lambda: _holds(desk, "p-a", first), within_s=30, what="the view of the first tree")


def _say_running(desk: Desk) -> list[str]:
    return [f"{name} is running, pid {pid}" for name, pid in desk.pids().items()]


def test_a_second_sigterm_ends_all_workers_suspended_during_a_reload(desk: Desk) -> None:
    first, second = desk.tree("a"), desk.tree("b")
    path = desk.configure(first)
    desk.run("start", "-D")
    for name in desk.pids():
        desk.agent.kill(name, signal.SIGSTOP) if name != "console" else None
    path.write_text(path.read_text().replace(str(first), str(second)))
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
        desk.signal(number)
    until(lambda: desk.status()["agent"]["state"] == "stopping", within_s=30, what="the stop to begin")
    desk.signal(signal.SIGTERM)
    until(lambda: not desk.processes(), within_s=30, what="every process to be gone")
