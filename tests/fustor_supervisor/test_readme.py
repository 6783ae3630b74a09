import re
import subprocess
import sys
from pathlib import Path

from fustor_supervisor import ExitCode
from fustor_supervisor.states import draw_mermaid

README = Path(__file__).parents[2] / "supervisor" / "README.md"


def read_examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_first_example_has_twenty_lines_and_runs_until_it_is_stopped() -> None:
    example = read_examples()[0]
    assert len(example.splitlines()) <= 20
    words = [sys.executable, "-c", example]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        processes = {run.stdout.readline() for _ in range(4)}
        run.terminate()
        rest, _ = run.communicate(timeout=60)
    assert processes == {f"process {number} of {name}\n" for number in (1, 2) for name in ("hello", "world")}
    deaths = ["ValueError: the first one always fails", "stopped as asked"]
    assert rest == f"hello stopped {deaths}\nworld stopped {deaths}\n"
    assert run.returncode == 0


def test_the_example_of_a_link_runs() -> None:
    words = [sys.executable, "-c", read_examples()[1]]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0 1 2\nstopping, as show asked\n"
    assert done.stderr == ""


def test_the_readme_shows_the_state_table() -> None:
    assert draw_mermaid() in README.read_text()


def test_the_readme_explains_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", README.read_text(), re.MULTILINE)
    assert {(int(code), name) for code, name in rows} == {(code.value, code.name) for code in ExitCode}
