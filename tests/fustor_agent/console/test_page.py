"""The page in a real browser."""

import shutil
import socket
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
import uvicorn
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

from fustor_agent.console.board import StatusBoard
from fustor_agent.console.routes import build_app
from fustor_agent.reports import AuditReport, SnapshotReport
from fustor_agent.statusmodel import (
    AgentInfo,
    AgentStatus,
    Counters,
    PipeInfo,
    Totals,
    WorkerInfo,
    encode,
)
from fustor_agent.usage import UsageMeter
from waiting import until

DEADLINE_S = 60
DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
pytestmark = pytest.mark.skipif(DRIVER is None or BROWSER is None, reason="needs chromium and chromedriver")

EVIL = "<img src=x onerror=document.title='owned'>"
PIPE = PipeInfo(
    id="watch",
    source_id="watch",
    sender_id="watch",
    state="running",
    phase="realtime",
    role="leader",
    session_id="3ec0e8a4",
    current=True,
    not_current_because=None,
    problem=None,
    counters=Counters(captured=7),
    lag_s=0.0,
    snapshot=SnapshotReport(state="done"),
    audit=AuditReport(),
    source_uri=f"/data/{EVIL}",
    totals=Totals(files=1234567, directories=12, bytes=1_500_000),
    skipped={f"/{EVIL}": EVIL},
)
LATE = msgspec.structs.replace(
    PIPE, id="late", current=False, not_current_because="the snapshot is running", snapshot=SnapshotReport("running")
)
BROKEN = msgspec.structs.replace(PIPE, id="broken", state="backoff", current=False, problem=EVIL)


class Answer(NamedTuple):
    ok: bool
    result: str


class Console:
    """A console with a real server, and an agent that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.board = StatusBoard(UsageMeter())
        app = build_app(self.board, act=self.act, token="secret", host="127.0.0.1")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        options = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        self.server = uvicorn.Server(options)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.listener]})
        self.thread.start()

    def act(self, action: str, target: str) -> Answer:
        self.asked.append((action, target))
        return Answer(True, "as you wish")

    def put(self, *pipes: PipeInfo, problems: Sequence[str] = ()) -> None:
        worker = WorkerInfo("watch.source", "source", "watch", None, "running", 0, 5.0)
        agent = AgentInfo("1.0.0", 42, "running", "2026-01-01T00:00:00Z", 5.0, problems=list(problems))
        self.board.put(encode(AgentStatus(agent, [worker], list(pipes))))

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(DEADLINE_S)


@pytest.fixture
def console() -> Iterator[Console]:
    console = Console()
    yield console
    console.close()


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    flags = ("headless", "no-sandbox", "disable-gpu", "disable-background-networking", "disable-component-update")
    for flag in (*flags, "disable-sync", "no-first-run", f"user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(f"--{flag}")
    browser = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield browser
    browser.quit()


def see(browser: webdriver.Chrome, text: str) -> None:
    try:
        until(lambda: text in shown(browser), within_s=DEADLINE_S, what=repr(text))
    except TimeoutError as err:
        pytest.fail(f"{err}\n{shown(browser)}\n{browser.get_log('browser')}")


def shown(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.TAG_NAME, "body").text


def test_the_page_shows_the_agent_follows_it_acts_and_says_when_it_is_gone(
    console: Console, browser: webdriver.Chrome
) -> None:
    console.put(PIPE)
    browser.get(console.url)
    for text in ("all current", "1,234,567", "1.5 MB", "watch.source", "1 place cannot be read"):
        see(browser, text)

    console.put(PIPE, problems=["the disk is full"])
    for text in ("needs attention", "the disk is full"):
        see(browser, text)

    # States that change are shown within a second, by a word, and what comes from outside stays text.
    console.put(PIPE, LATE, BROKEN)
    for text in ("needs attention", "taking snapshot", "backoff", f"/data/{EVIL}"):
        see(browser, text)
    assert browser.title.startswith("needs attention")
    assert browser.find_elements(By.CSS_SELECTOR, "main img") == []

    browser.find_element(By.ID, "token").send_keys("secret")
    stop = browser.find_element(By.CSS_SELECTOR, "[data-action=stop]")  # of the first pipe
    until(stop.is_displayed, within_s=DEADLINE_S, what="the buttons")
    stop.click()
    see(browser, "Stop, watch: as you wish")
    assert console.asked == [("stop", "watch")]

    browser.set_window_size(360, 800)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []

    console.close()
    see(browser, "The agent does not answer.")
    assert browser.title.startswith("gone")
