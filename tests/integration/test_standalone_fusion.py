"""A standalone Fusion as real processes: its start, its end, its accidents, its agents and their keys."""

import concurrent.futures
import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import oracle
from agent import AgentUnderTest
from configfile import write_config
from processes import is_alive
from standalone import PROGRAM, StandaloneFusion
from waiting import until

DEADLINE_S = 60.0


@pytest.fixture
def fusion(tmp_path: Path) -> Iterator[StandaloneFusion]:
    fusion = StandaloneFusion(tmp_path / "fusion")
    yield fusion
    fusion.end()


def row(name: str) -> dict[str, Any]:
    fields = {"path": f"/{name}", "file_name": name, "size": 1, "modified_time": 1.0, "is_directory": False}
    return {"events": [{"event_type": "update", "fields": list(fields), "rows": [fields], "event_schema": "fs",
                        "table": "files", "message_source": "realtime"}], "source_type": "message"}


def count_files(fusion: StandaloneFusion, secret: str, view: str) -> int:
    stats = fusion.request(secret, f"views/{view}/stats").json()
    assert isinstance(stats["files"], int)
    return stats["files"]


def test_it_starts_in_the_background_serves_says_how_it_is_and_stops(fusion: StandaloneFusion) -> None:
    said = fusion.start("--view", "main")
    pid = int((fusion.home / "fusion.pid").read_text())
    assert f"pid {pid}\naddress  http://127.0.0.1:" in said
    assert fusion.request(fusion.key("reader"), "views/main/stats").status_code == 200
    status = until(lambda: (found := fusion.status()) and found["views"][0]["not_current_because"] and found,
                   within_s=DEADLINE_S, what="the first report")
    assert (status["fusion"]["pid"], status["fusion"]["state"], status["fusion"]["url"]) == (pid, "running", fusion.url)
    assert [view["id"] for view in status["views"]] == ["main"]
    assert "main  not current" in fusion.run("status").stdout
    assert fusion.run("stop").stdout == f"stopped, pid {pid}\n"
    assert not fusion.processes()
    assert fusion.run("stop", code=3).stderr == fusion.run("status", code=3).stderr == "Fusion is not running\n"


def test_all_that_it_keeps_is_its_owners_only(fusion: StandaloneFusion) -> None:
    fusion.start("--view", "main")
    fusion.add_key("reader", "main")
    modes = {path: path.stat().st_mode & 0o777 for path in (fusion.home, *fusion.home.rglob("*"))}
    assert {path: mode for path, mode in modes.items() if mode != (0o700 if path.is_dir() else 0o600)} == {}


def test_in_the_foreground_it_serves_until_it_is_told_to_stop(fusion: StandaloneFusion) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen([PROGRAM, "start", "--view", "main", "--port", "0"], env=fusion.environment,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert process.stdout is not None
        with contextlib.closing(process.stdout) as output:
            lines = [output.readline() for _ in range(2)]
            fusion.url = lines[1].split()[1]
            assert fusion.request(fusion.key("agent"), "views/main/stats").status_code == 200
            process.send_signal(number)
            assert process.wait(DEADLINE_S) == 0
        fusion.wait_gone()


def test_a_hangup_neither_ends_it_nor_keeps_it_from_answering_and_stopping(fusion: StandaloneFusion) -> None:
    fusion.start("--view", "main")
    pid = int((fusion.home / "fusion.pid").read_text())
    before = fusion.worker()["pid"]
    for _ in range(3):
        os.kill(pid, signal.SIGHUP)
    assert fusion.request(fusion.key("reader"), "views/main/stats").status_code == 200
    assert (fusion.worker()["pid"], fusion.status()["fusion"]["pid"]) == (before, pid)
    fusion.run("stop")
    assert not fusion.processes()


def test_a_second_one_on_the_same_home_is_refused(fusion: StandaloneFusion) -> None:
    fusion.start("--view", "main")
    pid = (fusion.home / "fusion.pid").read_text().strip()
    for background in ((), ("-D",)):
        refused = fusion.run("start", *background, "--view", "other", code=4)
        assert refused.stderr == f"Fusion is already running, pid {pid}; stop it with `fustor-fusion stop`\n"
    assert fusion.request(fusion.key("reader"), "views/main/stats").status_code == 200


def test_what_a_killed_one_left_is_no_obstacle_and_nobody_is_signalled_for_it(fusion: StandaloneFusion) -> None:
    fusion.start("--view", "main")
    pid = int((fusion.home / "fusion.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    fusion.wait_gone()
    (fusion.home / "fusion.pid").write_text(f"{os.getpid()}\n")
    fusion.run("status", code=3)
    fusion.run("stop", code=3)
    fusion.start("--view", "main")
    assert fusion.request(fusion.key("reader"), "views/main/stats").status_code == 200


def test_a_port_that_somebody_else_has_is_named_to_the_shell(fusion: StandaloneFusion) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for background in ((), ("-D",)):
            refused = fusion.run("start", *background, "--view", "main", "--port", str(port), code=1)
            assert f"port: {port} on 127.0.0.1 is taken; stop the program that has it" in refused.stderr
            assert refused.stdout == ""
    assert not fusion.processes()
    fusion.run("status", code=3)


def test_a_server_that_cannot_come_up_is_told_to_the_shell_and_nothing_stays(fusion: StandaloneFusion) -> None:
    (fusion.home / "state" / "fusion-main.db").mkdir(parents=True)
    for background in ((), ("-D",)):
        refused = fusion.run("start", *background, "--view", "main", "--port", "0", code=1)
        assert 'Fusion cannot start: view "main": its database cannot be opened' in refused.stderr
        fusion.wait_gone()


def test_a_view_of_a_newer_version_is_left_as_it_is_and_told_to_the_shell(fusion: StandaloneFusion) -> None:
    fusion.start("--view", "main")
    fusion.run("stop")
    database = fusion.home / "state" / "fusion-main.db"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version=999")
    before = database.read_bytes()
    refused = fusion.run("start", "-D", "--view", "main", "--port", "0", code=1)
    assert f"Fusion cannot start: {database}: written by a newer release" in refused.stderr
    fusion.wait_gone()
    assert database.read_bytes() == before


def test_a_configuration_with_errors_starts_nothing_and_they_are_all_told(fusion: StandaloneFusion) -> None:
    fusion.write_config("host: 127.0.0.1\nviews:\n  - {id: a/b}\nport: high\nkey_file: /k\n")
    refused = fusion.run("start", "-D", code=5)
    file = fusion.home / "fusion.yaml"
    assert [line.split(": ")[0] for line in refused.stderr.splitlines()] == [f"{file}:{line}" for line in (3, 4, 5)]
    assert 'did you mean "keys_file"?' in refused.stderr
    fusion.run("status", code=3)


def test_a_key_file_that_is_damaged_starts_nothing(fusion: StandaloneFusion) -> None:
    fusion.write_config("views: [{id: a}]\n")
    fusion.add_key("agent", "a")
    (fusion.home / "state" / "keys.json").write_text("{")
    assert "is no key file" in fusion.run("start", "-D", code=5).stderr


def test_without_a_key_it_says_how_to_make_one(fusion: StandaloneFusion) -> None:
    fusion.write_config("views: [{id: a}]\n")
    assert "make one with `fustor-fusion keys add --role agent --view a`" in fusion.start()


def test_an_address_that_others_reach_is_served_with_a_warning(fusion: StandaloneFusion) -> None:
    fusion.write_config("host: 0.0.0.0\nviews: [{id: a}]\nallowed_hosts: [fusion.example.org]\n")
    assert "put a proxy that does TLS in front" in fusion.start()
    fusion.url = fusion.url.replace("0.0.0.0", "127.0.0.1")
    secret = fusion.add_key("reader", "a")
    for host, status in (("fusion.example.org", 200), ("192.0.2.7:8102", 200), ("other.example.org", 403)):
        assert fusion.request(secret, "views/a/stats", headers={"Host": host}).status_code == status, host


def test_a_killed_worker_is_replaced_on_the_same_address_and_its_sessions_live_on(fusion: StandaloneFusion) -> None:
    fusion.write_config("views: [{id: a}, {id: b}]\n")
    fusion.start()
    agents = {view: fusion.add_key("agent", view) for view in "ab"}
    sessions = {view: fusion.request(secret, "pipe/session/", {"task_id": "h:p"}).json()["session_id"]
                for view, secret in agents.items()}
    for view, secret in agents.items():
        assert fusion.request(secret, f"pipe/ingest/{sessions[view]}/events", row("one")).json()["count"] == 1
    before = fusion.worker()["pid"]
    os.kill(before, signal.SIGKILL)
    until(lambda: not is_alive(before), within_s=DEADLINE_S, what="the worker to be dead")
    # Whoever asks meanwhile waits for the successor: the address is never refused.
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        counts = list(pool.map(lambda _: count_files(fusion, agents["a"], "a"), range(8)))
    assert counts == [1] * 8
    for view, secret in agents.items():
        beat = fusion.request(secret, f"pipe/session/{sessions[view]}/heartbeat", {"can_realtime": True})
        assert (beat.status_code, beat.json()["role"]) == (200, "leader")
        assert fusion.request(secret, f"pipe/ingest/{sessions[view]}/events", row("two")).json()["count"] == 1
        assert count_files(fusion, secret, view) == 2
    worker = until(lambda: (found := fusion.worker())["restarts"] == 1 and found["state"] == "running" and found,
                   within_s=DEADLINE_S, what="the status to tell of the restart")
    assert (worker["state"], worker["last_exit"]["signal"]) == ("running", "SIGKILL")
    assert worker["pid"] != before


def test_two_agents_fill_two_views_each_with_its_key_until_one_is_revoked(
    fusion: StandaloneFusion, tmp_path: Path, start_agent: Callable[..., AgentUnderTest]
) -> None:
    fusion.write_config("views: [{id: north}, {id: south}]\nsession_timeout_s: 3\n")
    fusion.start()
    reader = fusion.add_key("reader", "north", "south")
    trees, agents = {}, {}
    for view in ("north", "south"):
        trees[view] = tmp_path / view
        (trees[view] / "folder").mkdir(parents=True)
        (trees[view] / "folder" / f"of-{view}").write_text(view)
        sender = {"endpoint": fusion.url, "credential": fusion.add_key("agent", view)}
        agents[view] = start_agent(config=write_config(
            tmp_path / f"{view}.yaml", sources={"s": ("fs", {"uri": str(trees[view])})},
            senders={"t": ("fusion", sender)}, pipes={"p": ("s", "t")},
        ))

    def differences(view: str) -> list[str]:
        answer = fusion.request(reader, f"views/{view}/export?sync=30")
        if answer.status_code != 200:
            return [answer.text]
        return oracle.differences(oracle.walk(str(trees[view])), oracle.parse_export(answer.content.splitlines(True)))

    for view in trees:
        until(lambda view=view: differences(view) == [], within_s=DEADLINE_S, what=f"{view} to be its tree")
    (trees["south"] / "later").write_text("later")
    assert differences("south") == []
    until(lambda: [view["sessions"] for view in fusion.status()["views"]] == [1, 1], within_s=DEADLINE_S,
          what="the status to tell of both sessions")

    listed = fusion.run("keys", "list").stdout.splitlines()
    (revoked,) = (line.split()[0] for line in listed if line.split()[1:3] == ["agent", "north"])
    fusion.run("keys", "revoke", revoked)
    assert fusion.request(reader, "views/north/sessions").json()["count"] == 0
    assert fusion.request(reader, "views/north/stats").json()["not_current_because"] == "no agent is connected"
    (trees["south"] / "still").write_text("still")
    assert differences("south") == []
    until(lambda: "401" in agents["north"].command("status").stdout, within_s=DEADLINE_S, what="the agent to say why")
    assert fusion.request(reader, "views/north/sessions").json()["count"] == 0
    assert count_files(fusion, reader, "north") == 1, "the view stays"
