"""
What the READMEs tell people to run is run here, word for word, where a fresh clone would be.

Only places are exchanged: `~/` for a folder of the test, `/some/dir` for a tree, the two
ports for free ones. The set-up counts as done, with the environment that runs the tests.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import free_ports
from checkout import ROOT, files
from fustor_agent.cli import build_parser
from fustor_fusion.cli import build_parser as build_fusion_parser
from waiting import until

READMES = ("README.md", "README.zh-CN.md")
FOREIGN = re.compile(r"FUSTOR_|MAKE|MFLAGS|WATCH$|ARGS$|PYTEST_|PYTHON|VIRTUAL_ENV|COV_|\w*proxy$", re.IGNORECASE)
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Clone:
    """
    A folder as `git clone` leaves it, apart from the set-up, which is done.

    Args:
        folder: Where; made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "clone"
        self.home = folder / "home"
        self.tree = folder / "tree"
        self.console, self.fusion = free_ports(2)
        for path in files(untracked=True):
            (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, self.folder / path, follow_symlinks=False)
        (self.folder / ".venv").symlink_to(sys.prefix)
        (self.folder / ".make").mkdir()
        for stamp in ("venv", "runtime", "dev"):
            (self.folder / ".make" / stamp).touch()
        self.home.mkdir()
        (self.tree / "reports").mkdir(parents=True)
        (self.tree / "reports" / "one.csv").write_text("1,2\n")

    def place(self, block: str) -> str:
        """Exchange the places that a block names."""
        block = block.replace("~/", f"{self.home}/").replace("/some/dir", str(self.tree))
        return block.replace(":8100", f":{self.console}").replace(":8102", f":{self.fusion}")

    @property
    def environment(self) -> dict[str, str]:
        """What a shell of that user has."""
        inherited = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        return inherited | {
            "FUSTOR_HOME": str(self.home / ".fustor"),
            "FUSTOR_CONSOLE_PORT": str(self.console),
            "FUSTOR_FUSION_PORT": str(self.fusion),
        }

    def run(self, block: str, **environment: str) -> str:
        """Run all lines of a block; each must succeed. Returns what they printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.place(block)], cwd=self.folder, env=self.environment | environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        assert done.returncode == 0, f"{block}\nexit code {done.returncode}\n{done.stdout}"
        return done.stdout

    @contextlib.contextmanager
    def keep_running(self, block: str) -> Iterator[None]:
        """Run a block that does not end by itself; at the end, press Ctrl-C."""
        output = self.home / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", self.place(block)], cwd=self.folder, env=self.environment,
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )
        try:
            until(self._is_ready, within_s=60, what="/readyz")
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)
            print(output.read_text())

    def _is_ready(self) -> bool:
        try:
            with _direct.open(f"http://127.0.0.1:{self.console}/readyz", timeout=10) as answer:
                return answer.status == 200
        except OSError:  # nobody listens yet, or it is a 503
            return False


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def block(first_line: str) -> str:
    """Return the one `sh` block of the README that begins with a line."""
    found = [each for each in sh_blocks("README.md") if each.splitlines()[0] == first_line]
    assert len(found) == 1, f"README.md has {len(found)} blocks that begin with {first_line!r}"
    return found[0]


def sh_blocks(readme: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", (ROOT / readme).read_text(), re.MULTILINE | re.DOTALL)


def all_blocks(readme: str) -> list[str]:
    return re.findall(r"^```.*?^```", (ROOT / readme).read_text(), re.MULTILINE | re.DOTALL)


def test_the_tree_that_make_run_watches_can_be_asked_for(clone: Clone) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    questions = block("KEY=$(cat ~/.fustor/state/fusion-reader.key)")
    with clone.keep_running(block("make run WATCH=/some/dir")):
        (clone.tree / "reports" / "two.csv").write_text("3,4\n")
        answers = clone.run(questions.replace("curl ", "curl --silent --show-error --fail --write-out '\\n' "))
    paths = [json.loads(line)["path"] for line in answers.splitlines() if '"mtime_ns"' in line]
    assert paths == ["/reports", "/reports/one.csv", "/reports/two.csv"]
    tree, found, below, stats = map(json.loads, filter(None, answers.splitlines()[3:]))
    assert [child["path"] for child in tree["children"]] == ["/reports"]
    assert {"/reports/one.csv", "/reports/two.csv"} == set(re.findall(r"/reports/\w+\.csv", json.dumps(found)))
    assert (below["path"], below["files"], below["directories"]) == ("/", 2, 1)
    assert (stats["files"], stats["directories"], stats["current"]) == (2, 1, True)


def test_make_test_runs_tests(clone: Clone) -> None:
    assert " passed" in clone.run(block("make test"), ARGS="tests/fustor_core/test_clock.py")


def test_a_configuration_is_written_checked_run_and_stopped(clone: Clone) -> None:
    clone.run(block(".venv/bin/fustor-agent init"))
    config = clone.home / ".fustor" / "agent-config.yaml"
    config.write_text(config.read_text().replace("/srv/data", str(clone.tree)))
    try:
        said = clone.run(block(".venv/bin/fustor-agent validate --probe"))
    finally:
        left = subprocess.run([".venv/bin/fustor-agent", "stop"], cwd=clone.folder, env=clone.environment, check=False)
    assert "all sources can be read" in said
    assert re.search(r"^my-files +\S", said, re.MULTILINE)
    assert left.returncode == 3, "the block must have stopped it"


def test_the_example_configuration_is_correct(clone: Clone) -> None:
    (yaml,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (clone.home / "config.yaml").write_text(yaml)
    said = clone.run(".venv/bin/fustor-agent validate --config ~/config.yaml")
    assert said == "the configuration is correct: 1 sources, 1 senders, 1 pipes\n"
    assert yaml in (ROOT / "docs/config.md").read_text()


@pytest.mark.timeout(600)  # downloads
def test_the_wheels_install_and_run(clone: Clone) -> None:
    assert clone.run(block("make wheels")).splitlines()[-1] == "fustor-agent 1.0.0"


def test_every_block_is_run_here() -> None:
    run = re.findall(r'\bblock\("(.*?)"\)', Path(__file__).read_text())
    assert sorted(run) == sorted(each.splitlines()[0] for each in sh_blocks("README.md"))


def test_both_readmes_hold_the_same_code_blocks() -> None:
    assert all_blocks("README.zh-CN.md") == all_blocks("README.md")


def test_both_readmes_have_the_same_shape() -> None:
    english, chinese = ((ROOT / readme).read_text() for readme in READMES)
    for pattern in (r"^#+ ", r"^\|", r"^- ", r"\]\((?!README)[^)]*\)"):
        of_english, of_chinese = (re.findall(pattern, text, re.MULTILINE) for text in (english, chinese))
        assert of_chinese == of_english, pattern


@pytest.mark.parametrize("readme", READMES)
def test_every_command_has_a_row_and_no_other(readme: str, table) -> None:
    heading = {"README.md": "## Commands", "README.zh-CN.md": "## 命令"}[readme]
    rows = [row[0].strip("`").replace("\\|", "|") for row in table(readme, heading)]
    (commands,) = (action for action in build_parser()._actions if hasattr(action, "_name_parser_map"))
    named = [row.split() for row in rows if row.startswith("fustor-agent ")]
    assert sorted(words[1] for words in named) == sorted(commands.choices)
    for words in named:
        options = set(re.findall(r"-D|--[a-z]+", " ".join(words)))
        assert options <= set(commands.choices[words[1]]._option_string_actions), words


@pytest.mark.parametrize("readme", READMES)
def test_every_action_on_a_pipe_is_in_its_row(readme: str) -> None:
    (commands,) = (action for action in build_parser()._actions if hasattr(action, "_name_parser_map"))
    (action,) = (action for action in commands.choices["pipe"]._actions if action.dest == "action")
    assert "pipe " + "\\|".join(action.choices) + " PIPE`" in (ROOT / readme).read_text()


@pytest.mark.parametrize("readme", READMES)
def test_every_command_of_fustor_fusion_has_a_row_and_no_other(readme: str, table) -> None:
    heading = {"README.md": "## Commands", "README.zh-CN.md": "## 命令"}[readme]
    rows = [row[0].strip("`").replace("\\|", "|") for row in table(readme, heading)]
    (commands,) = (action for action in build_fusion_parser()._actions if hasattr(action, "_name_parser_map"))
    named = {words[1]: words for words in map(str.split, rows) if words[0] == "fustor-fusion"}
    assert sorted(named) == sorted(commands.choices)
    for name, words in named.items():
        options = set(re.findall(r"-D|--[a-z]+", " ".join(words)))
        assert options == set(commands.choices[name]._option_string_actions) - {"-h", "--help", "--daemon"}, words
    (actions,) = (action for action in commands.choices["keys"]._actions if hasattr(action, "_name_parser_map"))
    assert named["keys"][2].split("|") == list(actions.choices)
