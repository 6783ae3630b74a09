"""A worker that looks into a mount that hangs: it cannot even be killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = """
import itertools, json, os, sys, time
from pathlib import Path
sys.path.append(sys.argv[2])
from hangingmount import HangingMount
from fustor_supervisor import RestartPolicy, StuckLimits, Supervisor, WorkerSpec
from fustor_supervisor.testing import are_running, find_worker, turn_until

target = Path(sys.argv[1])
mount = HangingMount(target)

def look(runtime):
    runtime.report({}, phase="snapshot", owed=True)
    runtime.ready()
    os.listdir(target)
    runtime.report({"looked": 1}, phase="realtime", owed=False)
    runtime.stop_requested.wait()

def serve(runtime):
    runtime.ready()
    runtime.stop_requested.wait()

def tell(**facts):
    print(json.dumps(facts | {"status": {w.name: [w.state, w.generation, w.fault, w.last_error]
                                         for w in supervisor.status().workers}}), flush=True)

limits = StuckLimits(owed_s=60.0, phases={"snapshot": 0.3}, ping_s=0.1)
supervisor = Supervisor(next_epoch=itertools.count(1).__next__)
again = RestartPolicy(base_s=0.0)
supervisor.apply([WorkerSpec("look", look, limits=limits, restart=again), WorkerSpec("serve", serve)], [])
supervisor.start()
turn_until(supervisor, lambda: find_worker(supervisor, "look").state == "abandoned", timeout_s=60)
pid = find_worker(supervisor, "look").pid
tell(state=Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
os.kill(find_worker(supervisor, "serve").pid, 9)
turn_until(supervisor, lambda: find_worker(supervisor, "serve").generation == 2 and are_running(supervisor, ["serve"]))
tell()
mount.free()
turn_until(supervisor, lambda: find_worker(supervisor, "look").counters and are_running(supervisor), timeout_s=60)
tell()
supervisor.stop()
while supervisor.turn():
    pass
supervisor.close()
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    probe = ["unshare", "-m", sys.executable, "-c", PROBE, str(tmp_path), str(HERE.parent / "lib")]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("mounting FUSE in a namespace of its own (unshare -m, /dev/fuse) is not permitted to this user")
    return tmp_path


PROBE = """
import sys
from pathlib import Path
sys.path.append(sys.argv[2])
from hangingmount import HangingMount
HangingMount(Path(sys.argv[1])).free()
"""


def test_a_worker_on_a_mount_that_hangs_is_abandoned_and_replaced_when_it_is_gone(target: Path) -> None:
    words = ["unshare", "-m", sys.executable, "-c", SCRIPT, str(target), str(HERE.parent / "lib")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    abandoned, other, freed = map(json.loads, done.stdout.splitlines())
    assert abandoned["state"] == "D"
    state, generation, stuck, error = abandoned["status"]["look"]
    assert (state, generation, stuck) == ("abandoned", 1, error)
    assert error.startswith("SIGKILL does not end it; it is in uninterruptible sleep")
    assert other["status"]["serve"][:2] == ["running", 2], "others do not notice"
    assert other["status"]["look"][:2] == ["abandoned", 1], "never two at once"
    assert freed["status"]["look"][:2] == ["running", 2]
