import re
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from asgi import AsgiClient
from fustor_agent.console import routes
from fustor_agent.console.board import StatusBoard
from fustor_agent.console.routes import ActionTimedOut, build_app
from fustor_agent.reports import AuditReport, SnapshotReport
from fustor_agent.statusmodel import AgentInfo, AgentStatus, Counters, PipeInfo, encode
from fustor_agent.usage import UsageMeter

TOKEN = "the-token"
AUTHORISED = {"Authorization": f"Bearer {TOKEN}"}
PIPE = PipeInfo(
    id="p.one",
    source_id="s",
    sender_id="t",
    state="running",
    phase="realtime",
    role="leader",
    session_id="3ec0e8a4",
    current=True,
    not_current_because=None,
    problem=None,
    counters=Counters(),
    lag_s=0.0,
    snapshot=SnapshotReport(),
    audit=AuditReport(),
)


class Answer(NamedTuple):
    ok: bool
    result: str


class Agent:
    """The agent behind the console: remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answer: Answer | None = Answer(True, "as you wish")

    def act(self, action: str, target: str) -> Answer:
        self.asked.append((action, target))
        if self.answer is None:
            raise ActionTimedOut("no answer in time")
        return self.answer


@pytest.fixture
def agent() -> Agent:
    return Agent()


@pytest.fixture
def board() -> StatusBoard:
    board = StatusBoard(UsageMeter())
    put(board, PIPE)
    return board


@pytest.fixture
def client(agent: Agent, board: StatusBoard) -> AsgiClient:
    app = build_app(board, act=agent.act, token=TOKEN, host="127.0.0.1")
    return AsgiClient(app, host="127.0.0.1:8100")


def put(board: StatusBoard, *pipes: PipeInfo) -> None:
    board.put(encode(AgentStatus(AgentInfo("1.0.0", 1, "running", "", 1.0), [], list(pipes))))


def change(**fields: object) -> PipeInfo:
    return msgspec.structs.replace(PIPE, **fields)


def test_the_status_is_what_was_published(client: AsgiClient) -> None:
    answer = client.get("/api/status")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert msgspec.json.decode(answer.content, type=AgentStatus).pipes == [PIPE]


def test_before_the_first_status_all_say_503(agent: Agent) -> None:
    app = build_app(StatusBoard(UsageMeter()), act=agent.act, token=TOKEN, host="127.0.0.1")
    client = AsgiClient(app, host="127.0.0.1:8100")
    for path in ("/api/status", "/healthz", "/readyz"):
        assert client.get(path).status == 503


def test_the_agent_is_healthy_while_it_publishes(client: AsgiClient) -> None:
    assert client.get("/healthz").json() == {"ok": True, "detail": "the agent runs"}


def test_ready_is_every_enabled_pipe_current(client: AsgiClient, board: StatusBoard) -> None:
    assert client.get("/readyz").json() == {"ready": True, "reasons": {}}
    off = change(id="off", enabled=False, current=False, not_current_because="off")
    late = change(id="late", current=False, not_current_because="the snapshot is running")
    put(board, PIPE, off)
    assert client.get("/readyz").status == 200
    put(board, PIPE, off, late)
    answer = client.get("/readyz")
    assert answer.status == 503
    assert answer.json() == {"ready": False, "reasons": {"late": "the snapshot is running"}}


@pytest.mark.parametrize("action", ["start", "stop", "restart", "snapshot", "audit", "record"])
def test_an_action_is_forwarded_with_its_pipe(client: AsgiClient, agent: Agent, action: str) -> None:
    answer = client.post(f"/api/pipes/p.one/{action}", headers=AUTHORISED)
    assert (answer.status, answer.json()) == (200, {"ok": True, "detail": "as you wish"})
    assert agent.asked == [(action, "p.one")]


@pytest.mark.parametrize(("kind", "asked"), [("full", "audit"), ("incremental", "incremental-audit")])
def test_an_audit_may_be_of_either_kind(client: AsgiClient, agent: Agent, kind: str, asked: str) -> None:
    assert client.post(f"/api/pipes/p.one/audit?kind={kind}", headers=AUTHORISED).status == 200
    assert agent.asked == [(asked, "p.one")]


def test_an_audit_of_no_known_kind_is_400_and_says_which_there_are(client: AsgiClient, agent: Agent) -> None:
    answer = client.post("/api/pipes/p.one/audit?kind=wild", headers=AUTHORISED)
    assert answer.status == 400
    assert answer.json()["detail"] == 'there is no audit of kind "wild"; use one of: full, incremental'
    assert agent.asked == []


@pytest.mark.parametrize(("query", "path"), [
    ("", "/"), ("?path=/", "/"), ("?path=/a%20b/c", "/a%20b/c"), ("?path=/caf%E9/", "/caf%E9/"),
])  # fmt: skip
def test_a_rescan_is_forwarded_with_its_path_and_answered_with_a_job(
    client: AsgiClient, agent: Agent, query: str, path: str
) -> None:
    answer = client.post(f"/api/pipes/p.one/rescan{query}", headers=AUTHORISED)
    assert answer.status == 200
    assert agent.asked == [("rescan", f"p.one/{answer.json()['job_id']}{path}")]


@pytest.mark.parametrize("path", ["a", "/..", "/a/../b", "/./a", "/a%00", "..%2Fa"])
def test_a_rescan_of_no_path_below_the_root_is_400_and_says_what_to_give(
    client: AsgiClient, agent: Agent, path: str
) -> None:
    answer = client.post(f"/api/pipes/p.one/rescan?path={path}", headers=AUTHORISED)
    assert answer.status == 400
    assert "begin with /, and leave out . and .." in answer.json()["detail"]
    assert agent.asked == []


def test_a_reload_is_forwarded(client: AsgiClient, agent: Agent) -> None:
    assert client.post("/api/reload", headers=AUTHORISED).status == 200
    assert agent.asked == [("reload", "")]


def test_an_action_that_the_agent_refuses_is_409_with_its_reason(client: AsgiClient, agent: Agent) -> None:
    agent.answer = Answer(False, "it is a follower")
    answer = client.post("/api/pipes/p.one/snapshot", headers=AUTHORISED)
    assert (answer.status, answer.json()) == (409, {"ok": False, "detail": "it is a follower"})


def test_an_agent_that_does_not_answer_is_504(client: AsgiClient, agent: Agent) -> None:
    agent.answer = None
    assert client.post("/api/reload", headers=AUTHORISED).status == 504


@pytest.mark.parametrize("path", ["/api/pipes/none/start", "/api/pipes/p.one/destroy"])
def test_what_does_not_exist_is_404_and_says_what_does(client: AsgiClient, agent: Agent, path: str) -> None:
    answer = client.post(path, headers=AUTHORISED)
    assert answer.status == 404
    assert "use one of: " in answer.json()["detail"]
    assert agent.asked == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": b"Bearer \xff\xfe"},
        {"X-API-Key": TOKEN},
    ],
)
@pytest.mark.parametrize("path", ["/api/pipes/p.one/stop", "/api/reload", "/api/pipes/none/stop"])
def test_nothing_changes_without_the_token(
    client: AsgiClient, agent: Agent, headers: dict[str, str | bytes], path: str
) -> None:
    assert client.post(path, headers=headers).status == 401
    assert client.post(f"{path}?token={TOKEN}", headers=headers).status == 401
    assert agent.asked == []


def test_even_the_token_does_not_help_a_page_of_another_site(client: AsgiClient, agent: Agent) -> None:
    for foreign in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert client.post("/api/reload", headers=AUTHORISED | foreign).status == 403
        assert client.get("/api/status", headers=foreign).status == 403
    assert agent.asked == []


def test_actions_are_not_done_by_get(client: AsgiClient, agent: Agent) -> None:
    assert client.get("/api/reload", headers=AUTHORISED).status == 405
    assert client.get("/api/pipes/p.one/stop", headers=AUTHORISED).status == 405
    assert agent.asked == []


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/assets/console.css", "text/css; charset=utf-8"),
        ("/assets/console.js", "text/javascript; charset=utf-8"),
        ("/assets/icon.svg", "image/svg+xml"),
    ],
)
def test_the_page_comes_in_files_with_a_strict_policy(client: AsgiClient, path: str, media_type: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.headers["content-type"]) == (200, media_type)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_needs_nothing_from_elsewhere_and_nothing_inline() -> None:
    assets = Path(routes.__file__).with_name("assets")
    page = (assets / "index.html").read_text()
    for asset in assets.iterdir():
        text = asset.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, asset.name
    assert "style=" not in page
    assert "onclick" not in page
    assert "<script>" not in page
    # What comes from the agent is text; these would make it markup.
    script = (assets / "console.js").read_text()
    markup = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
    assert not [word for word in markup if word in script]


def test_every_element_that_the_script_looks_for_is_in_the_page() -> None:
    assets = Path(routes.__file__).with_name("assets")
    page, script = (assets / "index.html").read_text(), (assets / "console.js").read_text()
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', script))
    assert wanted
    assert wanted <= set(re.findall(r'id="([\w-]+)"', page))
    fields = set(re.findall(r"fields\.(\w+)", script)) | set(re.findall(r'fields\["([\w-]+)"\]', script))
    assert fields <= set(re.findall(r'data-field="([\w-]+)"', page))


def test_an_unknown_path_is_404_in_json_with_the_policy_too(client: AsgiClient) -> None:
    answer = client.get("/../../etc/passwd")
    assert answer.status == 404
    assert answer.json() == {"ok": False, "detail": "Not Found"}
    assert "content-security-policy" in answer.headers
