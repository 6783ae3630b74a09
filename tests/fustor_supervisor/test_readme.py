import re
import subprocess
import sys
from pathlib import Path

from fustor_supervisor import ExitCode
from fustor_supervisor.states import draw_mermaid

README = Path(__file__).parents[2] / "supervisor" / "README.md"


def test_the_example_of_the_readme_runs() -> None:
    match = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert match is not None
    done = subprocess.run([sys.executable, "-c", match[1]], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "0 1 2\nstopping, as show asked\n"
    assert done.stderr == ""


def test_the_readme_shows_the_state_table() -> None:
    assert draw_mermaid() in README.read_text()


def test_the_readme_explains_every_exit_code() -> None:
    rows = re.findall(r"^\| (\d+) \| (\w+) \|", README.read_text(), re.MULTILINE)
    assert {(int(code), name) for code, name in rows} == {(code.value, code.name) for code in ExitCode}
