"""The harness against a stand-in for the agent; the real one is what everything else runs with it."""

import signal
import sys
from pathlib import Path

import pytest

from agent import AgentFailed, AgentUnderTest, free_ports
from processes import belonging_to, is_alive
from waiting import until

# Answers as the agent does, with one worker that is only a process. MODE says how it misbehaves.
STAND_IN = '''#!{python}
import base64, http.server, json, os, pathlib, signal, subprocess, sys, threading
sys.path.insert(0, {lib!r})
mode = os.environ.get("MODE", "")
if sys.argv[1:2] != ["start"]:
    print(" ".join(sys.argv[1:]), os.environ["FUSTOR_HOME"])
    sys.exit(0)
if mode == "dies":
    sys.exit("no such directory")
import oracle
watch = sys.argv[sys.argv.index("--watch") + 1]
home = pathlib.Path(os.environ["FUSTOR_HOME"])
(home / "state").mkdir(exist_ok=True)
(home / "state" / "fusion-reader.key").write_text("reader\\n")
worker = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
asked = []

class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked.append(self.path)
        code, body = 200, ""
        if self.path == "/readyz":
            code, body = (503, "snapshot under way") if mode == "never ready" or len(asked) < 3 else (200, "ok")
        elif self.path == "/api/status":
            body = json.dumps({{"workers": [{{"name": "watch.source", "pid": worker.pid}},
                                            {{"name": "watch.pusher", "pid": None}}]}})
        elif self.path == "/api/v1/views/watch/export?sync=30":
            code = 200 if self.headers["X-API-Key"] == "reader" else 401
            for path, entry in oracle.walk(watch).items():
                row = vars(entry) | {{"path": path.decode()}}
                body += json.dumps(row) + "\\n"
        else:
            code, body = 404, "no " + self.path
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body.encode())
    def log_message(self, *parts):
        pass

def stop(number, frame):
    if mode == "will not stop":
        return
    if mode != "leaves a worker":
        worker.kill()
        worker.wait()
    os._exit(0)

signal.signal(signal.SIGTERM, stop)
servers = [http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ[name])), Answers)
           for name in ("FUSTOR_CONSOLE_PORT", "FUSTOR_FUSION_PORT")]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
while True:
    signal.pause()
'''


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "stand-in"
    path.write_text(STAND_IN.format(python=sys.executable, lib=str(Path(__file__).parent)))
    path.chmod(0o755)
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree" / "a").mkdir(parents=True)
    (tmp_path / "tree" / "a" / "one").write_text("1")
    return tmp_path / "tree"


def make(tmp_path: Path, program: Path, tree: Path, mode: str = "", stop_within_s: float = 30) -> AgentUnderTest:
    return AgentUnderTest(
        tmp_path / "home", watch=tree, program=program, env={"MODE": mode}, stop_within_s=stop_within_s
    )


def test_it_starts_waits_asks_and_stops(tmp_path: Path, program: Path, tree: Path) -> None:
    with make(tmp_path, program, tree) as agent:
        agent.wait_ready()
        assert list(agent.export()) == [b"/a", b"/a/one"]
        assert agent.differences(tree) == []
        assert list(agent.worker_pids()) == ["watch.source"]
        assert agent.stop() == 0
    assert belonging_to(tmp_path / "home") == set()


def test_a_tree_that_changed_differs(tmp_path: Path, program: Path, tree: Path) -> None:
    with make(tmp_path, program, tree) as agent:
        agent.wait_ready()
        other = tmp_path / "other"
        other.mkdir()
        assert len(agent.differences(other)) == 2


def test_a_worker_can_be_killed_by_name(tmp_path: Path, program: Path, tree: Path) -> None:
    with make(tmp_path, program, tree) as agent:
        agent.wait_ready()
        pid = agent.kill("watch.source")
        assert pid == agent.worker_pids()["watch.source"]
        until(lambda: not is_alive(pid), within_s=10, what="the kill")


def test_other_commands_run_on_the_same_home(tmp_path: Path, program: Path, tree: Path) -> None:
    done = make(tmp_path, program, tree).command("status", "--json")
    assert done.returncode == 0
    assert done.stdout.split() == ["status", "--json", str(tmp_path / "home")]


def test_an_agent_that_ends_early_is_a_failure_with_its_output(tmp_path: Path, program: Path, tree: Path) -> None:
    agent = make(tmp_path, program, tree, "dies").start()
    with pytest.raises(AgentFailed, match=r"(?s)ended, exit code 1.*no such directory"):
        agent.wait_ready()


def test_an_agent_that_is_never_ready_is_a_failure_with_its_last_answer(
    tmp_path: Path, program: Path, tree: Path
) -> None:
    agent = make(tmp_path, program, tree, "never ready").start()
    with pytest.raises(AgentFailed, match="503, 'snapshot under way'"):
        agent.wait_ready(within_s=1)
    agent.stop()


def test_a_refusal_is_a_failure_that_names_the_address(tmp_path: Path, program: Path, tree: Path) -> None:
    with make(tmp_path, program, tree) as agent:
        agent.wait_ready()
        with pytest.raises(AgentFailed, match="views/other/export: 404 no /api"):
            agent.export(sync=None, view="other")


def test_a_process_left_behind_is_killed_and_a_failure(tmp_path: Path, program: Path, tree: Path) -> None:
    agent = make(tmp_path, program, tree, "leaves a worker").start()
    agent.wait_ready()
    pid = agent.worker_pids()["watch.source"]
    with pytest.raises(AgentFailed, match=f"left behind: {pid} "):
        agent.stop()
    assert not is_alive(pid)


def test_an_agent_that_does_not_stop_is_killed_and_a_failure(tmp_path: Path, program: Path, tree: Path) -> None:
    agent = make(tmp_path, program, tree, "will not stop", stop_within_s=0.2).start()
    agent.wait_ready()
    with pytest.raises(AgentFailed, match=r"still running 0\.2 s after SIGTERM"):
        agent.stop()
    assert belonging_to(tmp_path / "home") == set()


def test_a_failing_test_gets_the_log_and_keeps_its_own_error(
    tmp_path: Path, program: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home" / "logs").mkdir(parents=True)
    (tmp_path / "home" / "logs" / "agent.log").write_text("what happened\n")

    def fail_while_it_runs() -> None:
        with make(tmp_path, program, tree, "leaves a worker") as agent:
            agent.wait_ready()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_it_runs()
    printed = capsys.readouterr().err
    assert "what happened" in printed
    assert "left behind" in printed
    assert belonging_to(tmp_path / "home") == set()


def test_variables_of_the_machine_do_not_reach_the_agent(
    tmp_path: Path, program: Path, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUSTOR_SURPRISE", "1")
    assert "FUSTOR_SURPRISE" not in make(tmp_path, program, tree).environment


def test_free_ports_differ() -> None:
    assert len(set(free_ports(8))) == 8


def test_stopping_twice_is_harmless(tmp_path: Path, program: Path, tree: Path) -> None:
    agent = make(tmp_path, program, tree).start()
    agent.wait_ready()
    assert agent.kill("watch.source", signal.SIGTERM)
    assert agent.stop() == 0
    assert agent.stop() == 0
