"""The page for those who run a Fusion of its own: its commands run, its tables are those of the code."""

import fnmatch
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from agent import free_ports
from checkout import ROOT, distributions, files
from fustor_agent.config import load as load_agent
from fustor_core.program.exitcodes import ExitCode
from fustor_core.program.logs import KEPT
from fustor_fusion.configfile import load
from fustor_fusion.home import Home
from fustor_fusion.keyfile import Role
from standalone import StandaloneFusion

PAGE = "docs/fusion.md"
TEXT = (ROOT / PAGE).read_text()


@pytest.fixture
def fusion(tmp_path: Path) -> Iterator[StandaloneFusion]:
    fusion = StandaloneFusion(tmp_path / "home")
    yield fusion
    fusion.end()


def run_block(block: str, fusion: StandaloneFusion, folder: Path) -> str:
    (port,) = free_ports(1)
    block = block.replace("start -D --view main", f"start -D --view main --port {port}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=folder, env=fusion.environment | {"PATH": path},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}"
    return done.stdout


def test_the_first_block_starts_it_shows_it_and_stops_it(blocks, fusion: StandaloneFusion, tmp_path: Path) -> None:
    start, _ = blocks(PAGE, "sh")
    said = run_block(start, fusion, tmp_path)
    assert re.search(r"^views +main$", said, re.MULTILINE)
    assert re.search(r"^main +not current ", said, re.MULTILINE)
    assert re.search(r"^stopped, pid \d+$", said, re.MULTILINE)


def test_the_example_is_correct_and_the_keys_of_the_page_fit_it(
    blocks, fusion: StandaloneFusion, tmp_path: Path
) -> None:
    example, _ = blocks(PAGE, "yaml")
    fusion.write_config(example)
    assert [view.id for view in load(fusion.home / "fusion.yaml").views] == ["research", "archive"]
    _, keys = blocks(PAGE, "sh")
    listed = run_block(keys, fusion, tmp_path)
    assert re.search(r"^\w+ +agent +research +\S+ +storage host 3$", listed, re.MULTILINE)
    assert re.search(r"^\w+ +reader +research,archive ", listed, re.MULTILINE)
    fusion.start()
    secrets = {name: (tmp_path / f"{name}.key").read_text().strip() for name in ("agent", "reader")}
    for view, who, status in (("research", "agent", 200), ("archive", "agent", 403), ("archive", "reader", 200)):
        assert fusion.request(secrets[who], f"views/{view}/stats").status_code == status, (view, who)


def test_the_sender_of_the_page_is_one_that_the_agent_takes(blocks, tmp_path: Path) -> None:
    _, sender = blocks(PAGE, "yaml")
    (tmp_path / "agent.yaml").write_text(sender)
    (found,) = load_agent(tmp_path / "agent.yaml").senders
    assert found.config == yaml.safe_load(sender)["senders"][0]["config"]


def test_every_exit_code_has_a_row(table) -> None:
    assert {(int(row[0]), row[1]) for row in table(PAGE, "## Exit codes")} == {
        (code.value, code.name) for code in ExitCode}


def test_every_role_has_a_row(table) -> None:
    assert {row[0] for row in table(PAGE, "## Keys")} == {f"`{role.value}`" for role in Role}


def test_every_file_of_a_running_fusion_has_a_row(table, fusion: StandaloneFusion) -> None:
    fusion.start("--view", "main")
    fusion.add_key("reader", "main")
    found = [str(path.relative_to(fusion.home)) for path in fusion.home.rglob("*")
             if path.is_file() and not path.name.startswith(".")]  # being written
    named = [name for row in table(PAGE, "## What is where") for name in re.findall(r"`([\w./-]+)`", row[0])]
    patterns = [name.replace("VIEW", "*") + ("*" if name.endswith(".db") else "") for name in named]
    assert "state/fusion-main.db" in found
    assert [name for name in found if not any(fnmatch.fnmatch(name, each) for each in patterns)] == []
    home = Home(Path("/h"))
    own = {getattr(home, name) for name in vars(Home) if isinstance(vars(Home)[name], property)} - {home.state_dir}
    assert {str(path.relative_to("/h")) for path in own} <= set(named)
    assert f"to `logs/fusion.log.{KEPT}`" in TEXT


def test_the_answers_quote_messages_that_exist(table) -> None:
    code = "\n".join(
        (ROOT / path).read_text() for path in files(untracked=True)
        if path.suffix == ".py" and any(path.is_relative_to(each.package) for each in distributions())
    )
    rows = table(PAGE, "## What each answer means")
    quotes = [part.strip() for row in rows for quote in re.findall(r"`([^`]+)`", row[0]) if " " in quote
              for part in quote.split("…") if part.strip()]
    assert len(quotes) > 4
    assert [quote for quote in quotes if quote not in code] == []
    statuses = set(re.findall(r"(?:RequestRefused\(|status=)(4\d\d|5\d\d)", code))
    assert {row[0][:3] for row in rows} >= statuses
